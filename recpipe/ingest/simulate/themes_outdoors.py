"""Phrase bank, first half: themes of gardens, hills, water and weather."""

# ruff: noqa: E501
# A phrase list reads better on one line than wrapped.

from __future__ import annotations

from recpipe.ingest.simulate.phrases import Theme, topic

GARDENING = Theme("Gardening", 9, 0.45, 4, (
    topic(
        tags="vegetables; kitchen garden",
        subjects="Raised Beds; Heritage Tomatoes; Winter Greens; Homegrown Vegetables",
        objects="seed trays; runner beans; compost heaps; slug-proof lettuces; crop rotations",
        activities="growing vegetables on a small plot; sowing peas and carrots; feeding the soil; harvesting all summer",
        confessions="I dream of eating salad I sowed in my own plot; there are courgettes on every windowsill of mine; "
        "I spend my evenings on the allotment among carrots and onions; nothing tastes like peas I sowed and picked myself",
    ),
    topic(
        tags="flowers; borders",
        subjects="Cottage Borders; Old Roses; Spring Bulbs; Cut Flowers",
        objects="dahlias; climbing roses; tulip bulbs; herbaceous borders; hedges in bloom",
        activities="planting for colour from March to October; pruning roses; dividing perennials; arranging a vase from your own beds",
        confessions="I talk to my roses and they answer in June; I order far too many tulips every autumn; "
        "a bed of peonies in bloom makes my year; I want something blooming outside in every month",
    ),
    topic(
        tags="houseplants; indoor gardening",
        subjects="Indoor Jungles; Ferns and Mosses; Succulents; Orchids on the Windowsill",
        objects="trailing ivies; cacti; potting mixes; leaf cuttings; glass terrariums",
        activities="keeping plants alive in a flat; watering without drowning; propagating cuttings; finding the right light for a fern",
        confessions="my living room looks like a rainforest; I cannot walk past a potted fern without taking it home; "
        "I name every cactus I own; I mist my leaves before I have breakfast",
    ),
    topic(
        tags="trees; orchards",
        subjects="Backyard Orchards; Apple Varieties; Bonsai; Small Woodlands",
        objects="grafting knives; espaliers; young oaks; windfall apples; pruning saws",
        activities="planting fruit that will outlive you; grafting an old apple; training a pear against a wall; shaping a bonsai",
        confessions="I planted a pear for each of my children; I would rather prune an old apple than watch television; "
        "I have been shaping the same tiny maple for ten years; I press cider from my own apples each October",
    ),
))  # fmt: skip

WALKING = Theme("Walking", 18, 0.5, 3, (
    topic(
        tags="mountains; climbing",
        subjects="Alpine Summits; Ridge Scrambles; High Huts; Winter Peaks",
        objects="ice axes; mountain huts; rope teams; avalanche reports; summit ridges",
        activities="climbing your first four-thousander; reading snow and weather; moving safely on rock; planning a hut-to-hut week",
        confessions="I am happiest on a rope somewhere high in the Alps; my boots have seen more summits than streets; "
        "thin air and a steep summit ridge clear my mind; I save my holidays for glaciers",
    ),
    topic(
        tags="trails; long-distance walking",
        subjects="Pilgrim Paths; Coast-to-Coast Walks; National Trails; Slow Journeys on Foot",
        objects="waymarks; pilgrim hostels; rucksacks; blister kits; stage maps",
        activities="walking for weeks with a light pack; planning stages and beds; keeping feet healthy; following an old pilgrim road",
        confessions="I once went on foot from my door to Santiago; twenty miles a day with a rucksack suits me; "
        "I like to cross a whole country on my own two feet; I keep a diary of every waymarked route",
    ),
    topic(
        tags="camping; outdoors skills",
        subjects="Wild Camping; Campfire Cooking; Bushcraft; Nights under Canvas",
        objects="tarps and tents; camp stoves; fire steels; sleeping bags; knots",
        activities="sleeping out in any season; lighting a fire in the rain; cooking over embers; pitching a shelter without a tent",
        confessions="I sleep best in a tent with rain on the roof; I can light a fire with wet twigs; "
        "my kids and I spend nights in the woods; a hammock between two pines is my idea of luxury",
    ),
    topic(
        tags="maps; navigation",
        subjects="Map and Compass; Orienteering; Hand-Drawn Maps; Finding North",
        objects="contour lines; compasses; grid references; natural signs; old atlases",
        activities="finding your way in fog; reading contours at a glance; drawing a chart of your own valley; steering by sun and stars",
        confessions="I can read contours and a compass in any fog; I refuse satellite help and find my way by sun and compass; "
        "I collect atlases and love old charts of anywhere; my sport is running through a forest with a compass, looking for control posts",
    ),
))  # fmt: skip

ASTRONOMY = Theme("Astronomy", 23, 0.35, 2, (
    topic(
        tags="stargazing; telescopes",
        subjects="Backyard Telescopes; Deep-Sky Objects; Binocular Astronomy; Dark Skies",
        objects="Dobsonian mirrors; star clusters; faint galaxies; eyepieces; seasonal constellations",
        activities="observing nebulae from a garden; choosing a first telescope; hopping from star to star; sketching at the eyepiece",
        confessions="I drive for hours to see the Milky Way without street lamps; I know Orion better than my own street; "
        "I stay up to catch faint galaxies; on cloudless nights I stand outside looking at nebulae",
    ),
    topic(
        tags="planets; moon",
        subjects="Lunar Craters; Saturn's Rings; Eclipses; Jupiter's Moons",
        objects="lunar seas; dust storms on Mars; eclipse glasses; transit tables; icy moons",
        activities="touring the craters with a small scope; watching an eclipse safely; following Jupiter through a year; timing transits",
        confessions="I have travelled to three total eclipses; I can name every lunar crater you can see from here; "
        "Saturn and Jupiter are my old friends in the evening sky; Mars has fascinated me since I was six",
    ),
    topic(
        tags="spaceflight; rockets",
        subjects="Apollo Voyages; Rocket Engines; Space Stations; Robotic Probes",
        objects="launch pads; heat shields; moon landings; orbital mechanics; mission logs",
        activities="understanding how rockets reach orbit; reliving the Apollo missions; living aboard a station; steering a probe past Pluto",
        confessions="I get up at night to watch NASA send rovers and astronauts up; as a child I wanted to be an astronaut and I still do; "
        "I have built the Apollo lander as a model twice; I know the crew of the orbiting lab by name",
    ),
    topic(
        tags="cosmology; physics",
        subjects="Black Holes; Cosmic Beginnings; Dark Matter; Stellar Lives",
        objects="supernovae; neutron stars; gravitational waves; expanding space; cosmic background radiation",
        activities="thinking about the Big Bang; weighing what cannot be seen; following a star from birth to collapse; measuring the age of everything",
        confessions="I lie awake wondering what was before the big bang; black holes keep me busy on the bus; "
        "I read about neutron stars for fun; I want to know how it all began and how it will end",
    ),
))  # fmt: skip

CYCLING = Theme("Cycling", 20, 0.4, 1, (
    topic(
        tags="bicycle touring; bikepacking",
        subjects="Bicycle Touring; Bikepacking Routes; River Cycle Paths; Two-Wheeled Holidays",
        objects="panniers; river paths; gravel roads; touring frames; roadside campsites",
        activities="crossing a continent by bicycle; packing for a month on two wheels; planning gravel routes; riding with children",
        confessions="I pedalled along the Danube last summer; my panniers and my bike are always packed for a long ride; "
        "I would rather arrive on two wheels than by plane; I spend my holidays on a loaded bike, from village to village",
    ),
    topic(
        tags="road cycling; racing",
        subjects="Grand Tours; Road Racing; Climbing Cols; Time Trials",
        objects="power meters; pelotons; hairpin climbs; interval sessions; carbon wheels",
        activities="training for a century ride; climbing cols without suffering; riding in a bunch; understanding race tactics",
        confessions="I shave my legs and train on my carbon bicycle by watts; July means the peloton, the Tour de France and yellow jerseys; "
        "I suffer up steep passes in lycra for pleasure; I ride in a fast bunch every Sunday at six",
    ),
    topic(
        tags="bike repair; maintenance",
        subjects="Bicycle Maintenance; Wheel Building; Vintage Bicycles; Home Bike Workshops",
        objects="spoke keys; worn chains; bottom brackets; brake cables; steel frames",
        activities="truing a wheel; replacing a chain; restoring a steel frame; servicing hubs and brakes",
        confessions="I have chain grease under my nails and a spare derailleur in the drawer; I rescue rusty frames from skips; "
        "neighbours bring me bicycles with squeaking brakes and bent wheels; truing a rim calms me down",
    ),
    topic(
        tags="mountain biking; off-road",
        subjects="Singletrack; Downhill Riding; Trail Centres; Mountain Bikes",
        objects="suspension forks; berms and jumps; rock gardens; knobbly tyres; knee pads",
        activities="riding technical descents; cornering on loose ground; setting up suspension; jumping with confidence",
        confessions="I come home muddy from riding singletrack through the forest; I live for jumps and rocky descents on fat tyres; "
        "full suspension was the best money I ever spent; my weekends end with bruised shins from the bike park",
    ),
))  # fmt: skip

WILDLIFE = Theme("Wildlife", 7, 0.45, 4, (
    topic(
        tags="birds; birdwatching",
        subjects="Garden Birds; Birdsong; Birds of Prey; Migrating Birds",
        objects="nest boxes; warblers; binoculars; migration counts; owls",
        activities="telling warblers apart by ear; watching hawks; feeding tits in winter; keeping a list through the year",
        confessions="I get up before dawn to hear robins, wrens and nightingales; my binoculars are ready for every hawk that passes; "
        "I can tell a warbler from a wren by its song; I count the geese when they come in from the north",
    ),
    topic(
        tags="insects; pollinators",
        subjects="Wild Bees; Butterflies; Dragonflies; Beekeeping",
        objects="hives; moth traps; bumblebees; caterpillars; pond nymphs",
        activities="keeping two hives; identifying butterflies; building a home for wild bees; raising moths from eggs",
        confessions="I keep two hives at the end of the lawn; I crouch in meadows looking at beetles; "
        "I leave a light on outside to see which moths come; my honey wins no prizes but I love it",
    ),
    topic(
        tags="foraging; mushrooms",
        subjects="Wild Mushrooms; Hedgerow Harvests; Edible Weeds; Woodland Fungi",
        objects="chanterelles; spore prints; elderflowers; wild garlic; poisonous lookalikes",
        activities="telling edible fungi from deadly ones; gathering nettles and berries; making a spore print; cooking what the hedge gives",
        confessions="I know a secret spot for chanterelles; I come back with nettles, wild garlic and pockets full of berries; "
        "I cook what the hedges give, nettles above all; I pick ceps and chanterelles in the woods each autumn",
    ),
    topic(
        tags="seashore; marine life",
        subjects="Rock Pools; Seaweeds; Whales and Dolphins; Life between the Tides",
        objects="hermit crabs; anemones; tide tables; whale songs; shells",
        activities="exploring pools at low tide; pressing seaweeds; spotting whales from a headland; naming shells",
        confessions="I turn over stones at low tide; I fill jars with shells from every coast I visit; "
        "I once saw humpback whales from a cliff and have looked out for them since; crabs and starfish interest me more than sunbathing",
    ),
))  # fmt: skip

WATER = Theme("On the Water", 19, 0.5, 2, (
    topic(
        tags="sailing; boats",
        subjects="Dinghy Sailing; Coastal Cruising; Ocean Passages; Wooden Boats",
        objects="spinnakers; tide charts; anchors; winches; knots and splices",
        activities="sailing a dinghy single-handed; trimming sails; planning a coastal passage; crossing an ocean with two aboard",
        confessions="I am restless unless there is wind in my mainsail and salt on my deck; I want to cross the Atlantic under canvas in my own yacht; "
        "my savings go into an old wooden sloop; tacking a dinghy up the estuary is my therapy",
    ),
    topic(
        tags="fishing; angling",
        subjects="Fly Fishing; River Trout; Sea Angling; Carp Lakes",
        objects="dry flies; rods and reels; pike lures; chalk streams; tackle boxes",
        activities="casting a dry fly; tying your own flies; reading a river; catching bass from the shore",
        confessions="I stand in rivers waiting for trout; I tie my own flies in winter and wait for the trout; "
        "sitting by a lake with a rod and a flask is enough for me; the pike I lost in March still haunts me",
    ),
    topic(
        tags="kayaking; canoeing",
        subjects="Sea Kayaking; Whitewater; Canoe Camping; Paddling Quiet Rivers",
        objects="spray decks; eddies and rapids; dry bags; tidal races; paddle strokes",
        activities="rolling upright again; running rapids; paddling round an island; loading a canoe for a week",
        confessions="I glide along canals before work with a paddle in my hands; rapids scare me and I keep going back; "
        "I learned to roll upside down in a swimming pool; I follow seals in a small boat without an engine",
    ),
    topic(
        tags="swimming; open water",
        subjects="Wild Swimming; Cold Water; Front Crawl; Lakes and Lidos",
        objects="wetsuits; icy lakes; breathing drills; tow floats; goggles",
        activities="swimming outdoors all year; learning front crawl as an adult; training for a channel; warming up after an icy dip",
        confessions="I jump into the lake even in January; front crawl, length after length, keeps me sane; "
        "I am training to cross the Channel without a boat; cold rivers cure everything for me",
    ),
))  # fmt: skip

OUTDOORS: tuple[Theme, ...] = (GARDENING, WALKING, ASTRONOMY, CYCLING, WILDLIFE, WATER)
