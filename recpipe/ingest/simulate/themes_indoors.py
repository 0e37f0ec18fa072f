"""Phrase bank, second half: themes of kitchens, workshops, desks and stages."""

# ruff: noqa: E501
# A phrase list reads better on one line than wrapped.

from __future__ import annotations

from recpipe.ingest.simulate.phrases import Theme, topic

COOKING = Theme("Cooking", 17, 0.4, 2, (
    topic(
        tags="bread; baking",
        subjects="Sourdough; Rye and Spelt Loaves; Flatbreads; Wood-Fired Ovens",
        objects="sourdough starters; crusty loaves; stone-ground flours; proving baskets; bagels",
        activities="baking sourdough at home; kneading by hand; looking after a starter; shaping baguettes",
        confessions="my sourdough is older than my daughter; I get up early to knead dough; "
        "the smell of a crusty loaf gets me out of bed; I have opinions about rye flour",
    ),
    topic(
        tags="cakes; pastry",
        subjects="Layer Cakes; French Pastry; Chocolate; Biscuits and Tarts",
        objects="puff pastry; buttercreams; tempered chocolate; lemon tarts; piping bags",
        activities="laminating croissants; tempering chocolate; decorating a birthday cake; getting a sponge to rise",
        confessions="I am the one who brings dessert to every party; I can talk about buttercream for an hour; "
        "my macarons and sponges finally rise; I make eclairs with chocolate when I am stressed",
    ),
    topic(
        tags="preserving; fermentation",
        subjects="Home Fermentation; Pickles and Kimchi; Jams and Chutneys; Home Brewing",
        objects="sauerkraut crocks; kombucha; kimchi; jam jars; brewing kits",
        activities="fermenting cabbage; brewing beer in the cellar; making marmalade; pickling a glut of cucumbers",
        confessions="there are bubbling jars all over my kitchen; I brew my own ale in the garage; "
        "I make forty pots of marmalade each winter; kimchi goes with everything I eat",
    ),
    topic(
        tags="world cuisine; spices",
        subjects="Indian Home Cooking; Noodles and Dumplings; Mexican Kitchens; Mediterranean Suppers",
        objects="spice tins; curries; handmade dumplings; tortillas; slow stews",
        activities="building a curry from whole spices; folding dumplings; cooking a Mexican feast; making fresh pasta",
        confessions="I grind my own cumin and coriander; I learned to fold Chinese dumplings and pull noodles from my grandmother; "
        "the hotter the chilli the better I feel; I cook my way round the globe one dinner at a time",
    ),
))  # fmt: skip

WOODWORK = Theme("Woodwork", 15, 0.5, 3, (
    topic(
        tags="joinery; hand tools",
        subjects="Dovetails; Hand Planes; Japanese Joinery; Workbenches",
        objects="chisels; mortise and tenon joints; marking gauges; bench planes; sharpening stones",
        activities="cutting dovetails by hand; sharpening chisels; planing boards flat; building a workbench",
        confessions="I cut dovetails to unwind; my bench is covered in shavings from mortises and planing; "
        "I sharpen my chisels more often than my pencils; I would rather plane an oak board than buy a table",
    ),
    topic(
        tags="carving; whittling",
        subjects="Spoon Carving; Whittling; Relief Carving; Green Wood",
        objects="hook knives; birch spoons; gouges; small animals in lime; axes",
        activities="carving a spoon from a branch; whittling by the fire; cutting a relief; using an axe with care",
        confessions="I turn birch branches into spoons; I always have a small knife and a bit of lime in my pocket; "
        "I leave curls of wood wherever I sit; I make little animals out of twigs for the kids",
    ),
    topic(
        tags="woodturning; lathe",
        subjects="Bowl Turning; Lathe Work; Turned Boxes; Spindles and Pens",
        objects="bowl gouges; burrs and blanks; lathe chucks; pepper mills; finishes",
        activities="turning a salad bowl; hollowing a vase; making pens as presents; finishing with oil and wax",
        confessions="I make bowls from fallen cherry; everybody I know has had a turned pepper mill or bowl from me; "
        "I love how a spinning blank becomes a vase; I spin blanks of ash and hollow them into vases with a gouge",
    ),
    topic(
        tags="furniture; restoration",
        subjects="Antique Furniture; Chairs; French Polishing; Upholstery",
        objects="shellac; wobbly chairs; horsehair seats; veneers; flea-market finds",
        activities="restoring an old chest; polishing with shellac; re-covering a chair; repairing veneer",
        confessions="I rescue old chairs from the roadside; worn-out antique armchairs at flea markets are my weakness; "
        "I stripped a Victorian dresser and brought it back to life; I reupholster sofas for half the village",
    ),
))  # fmt: skip

TEXTILES = Theme("Textiles", 21, 0.3, 4, (
    topic(
        tags="knitting; crochet",
        subjects="Knitted Socks; Fair Isle; Lace Shawls; Crochet",
        objects="circular needles; hand-dyed yarns; sock heels; cable patterns; granny squares",
        activities="knitting a first jumper; turning a heel; reading charts; crocheting blankets",
        confessions="I have wool in every cupboard; I never sit without needles and yarn in my lap; "
        "everyone in my family gets socks for Christmas; I am halfway through a shawl and a jumper",
    ),
    topic(
        tags="sewing; dressmaking",
        subjects="Dressmaking; Tailored Jackets; Simple Skirts; Pattern Cutting",
        objects="paper patterns; zips and buttonholes; linen dresses; overlockers; seams",
        activities="sewing your own clothes; fitting a bodice; altering second-hand finds; drafting a pattern",
        confessions="I make my own clothes because shops never fit me; I alter everything from the charity shop; "
        "I cut the cloth at night and by morning there is a new dress; I made my own wedding gown",
    ),
    topic(
        tags="quilting; embroidery",
        subjects="Patchwork Quilts; Embroidery; Sashiko; Visible Mending",
        objects="patchwork blocks; embroidery hoops; darning; cotton scraps; appliqué",
        activities="piecing a quilt from scraps; embroidering flowers; darning with pride; stitching sashiko patterns",
        confessions="I save every scrap of cotton for a bedspread; I stitch tiny flowers on denim jackets; "
        "I darn holes in bright thread so that everyone can see them; my hoop and thread travel with me",
    ),
    topic(
        tags="weaving; dyeing",
        subjects="Hand Weaving; Natural Dyes; Tapestry; Spinning Wool",
        objects="looms; indigo vats; spindles; madder roots; warp threads",
        activities="weaving a scarf; dyeing with onion skins; spinning a fleece; warping a loom",
        confessions="there is a big loom with a half-made scarf where my sofa used to be; my hands are blue from indigo; "
        "I spin fleece from my neighbour's sheep; I boil onion skins to see what colour comes out",
    ),
))  # fmt: skip

PHOTOGRAPHY = Theme("Photography", 20, 0.35, 1, (
    topic(
        tags="portraits; studio photography",
        subjects="Portraits; Studio Light; Family Pictures; Natural-Light Portraiture",
        objects="softboxes; expressions; backdrops; window light; posing ideas",
        activities="photographing faces; lighting with one flash; putting people at ease; retouching with restraint",
        confessions="I love catching a face in the light of a window; friends ask me to shoot their weddings; "
        "I own too many flashes and reflectors; shy guests relax when I point my lens at them",
    ),
    topic(
        tags="landscape photography; nature photography",
        subjects="Landscape Photography; Golden Hour; Seascapes; Nature Close-Ups",
        objects="tripods; graduated filters; misty valleys; long exposures; macro lenses",
        activities="photographing mountains at dawn; smoothing waves with long exposures; composing with a foreground; getting close to dew and petals",
        confessions="I wait on a hill with my tripod for the first light; I carry filters and a flask to the coast at dawn; "
        "misty mornings send me out with my camera; I will lie in wet grass for one picture of dew",
    ),
    topic(
        tags="street photography; documentary",
        subjects="Street Photography; City Life in Pictures; Photo Essays; Candid Moments",
        objects="small cameras; crowds; shadows and reflections; contact sheets; picture essays",
        activities="photographing strangers with respect; seeing moments before they happen; telling a story in ten pictures; working with shadows",
        confessions="I wander through cities with a small camera round my neck; strangers on buses are my favourite subject; "
        "I look for funny coincidences on pavements; I am making a picture story about our market",
    ),
    topic(
        tags="film photography; darkroom",
        subjects="Film Cameras; Darkroom Work; Black-and-White Printing; Pinhole Pictures",
        objects="developer trays; rolls of film; enlargers; light meters; old rangefinders",
        activities="developing negatives at home; printing in black and white; loading an old camera; building a pinhole box",
        confessions="my bathroom turns into a lab with red light; I still shoot on rolls and wait for the negatives; "
        "I buy old rangefinders and feed them rolls of black-and-white; I love the smell of developer and fixer when a print appears",
    ),
))  # fmt: skip

MUSIC = Theme("Making Music", 21, 0.3, 1, (
    topic(
        tags="guitar; songwriting",
        subjects="Acoustic Guitar; Blues Guitar; Songwriting; Fingerpicking",
        objects="chord charts; fingerpicking patterns; barre chords; lyrics; slide solos",
        activities="playing your first songs; fingerpicking; writing lyrics; improvising over a blues",
        confessions="I strum six strings on the porch; I write songs nobody has heard yet; "
        "my fingertips are hard from practising chords; I play the blues with two friends in a garage",
    ),
    topic(
        tags="piano; keyboard",
        subjects="Piano for Adults; Jazz Piano; Bach at the Keyboard; Sight-Reading",
        objects="scales; preludes; left-hand patterns; jazz voicings; metronomes",
        activities="learning the piano late; reading music at sight; voicing jazz chords; practising Bach slowly",
        confessions="I inherited an upright and am learning at fifty; Chopin is my reward after a long day; "
        "I play scales with headphones so the neighbours can sleep; I try to swing like Bill Evans",
    ),
    topic(
        tags="singing; choir",
        subjects="Singing in Choirs; Vocal Technique; Folk Songs; Harmony Singing",
        objects="warm-ups; breathing exercises; part-songs; rounds; vocal ranges",
        activities="finding your voice; singing in harmony; leading a choir; warming up without strain",
        confessions="I am the loudest alto on Tuesdays; I hum in the shower and in the office; "
        "four-part harmony gives me goosebumps; our group performs Handel every December",
    ),
    topic(
        tags="synthesizers; music production",
        subjects="Modular Synthesizers; Home Recording; Electronic Beats; Sound Design",
        objects="oscillators; drum machines; microphones; mixing desks; samplers",
        activities="patching a modular synth; recording at home; mixing a track; programming drums",
        confessions="I make techno in my bedroom; my desk is full of synths, samplers and patch cables; "
        "I twist knobs until something growls; I record my friends' bands in a converted attic",
    ),
))  # fmt: skip

GAMES = Theme("Games", 22, 0.4, 0, (
    topic(
        tags="chess; strategy",
        subjects="Chess Openings; Endgames; Chess Tactics; Go and Its Problems",
        objects="rook endings; opening traps; grandmaster games; pawn structures; pins and forks",
        activities="calculating combinations; choosing an opening; winning endgames; learning from grandmasters",
        confessions="I replay Kasparov's best moves at lunch; I lose to my nephew since he learned the Sicilian defence with the black pieces; "
        "I solve a mate in three before bed; I would give a rook for a good endgame any evening",
    ),
    topic(
        tags="board games; game design",
        subjects="Modern Board Games; Game Design; Card Games; Cooperative Games",
        objects="dice and meeples; worker placement; prototypes; decks of cards; rule books",
        activities="designing your own game; explaining rules; testing prototypes; choosing games for a mixed group",
        confessions="my shelf bends under Catan, Carcassonne and other boxes full of dice and meeples; Thursday night means we roll dice, deal and play at my table; "
        "I read rule sheets for fun; I am inventing a card deck with rules of my own and need people to test it",
    ),
    topic(
        tags="puzzles; recreational maths",
        subjects="Cryptic Crosswords; Logic Puzzles; Mathematical Recreations; Ciphers and Codes",
        objects="anagrams; logic grids; paradoxes; secret codes; number tricks",
        activities="solving cryptic clues; breaking ciphers; enjoying mathematics without a school; setting your own puzzles",
        confessions="I do the crossword in ink; numbers and paradoxes make me laugh; "
        "I break old ciphers on the train; a good riddle, an anagram or a paradox ruins my sleep",
    ),
    topic(
        tags="role-playing; storytelling",
        subjects="Role-Playing Campaigns; World Building; Dungeon Mastering; Miniature Painting",
        objects="dungeon maps; character sheets; twenty-sided dice; painted miniatures; invented worlds",
        activities="running a campaign; building a world; giving monsters a reason; painting miniatures",
        confessions="I play a half-elf in Dungeons & Dragons every Friday; I draw dungeons and invent monsters in meetings; "
        "I paint tiny orcs and dragons for our campaign; inventing villains for my players is what I do best",
    ),
))  # fmt: skip

ELECTRONICS = Theme("Electronics", 23, 0.35, 0, (
    topic(
        tags="microcontrollers; soldering",
        subjects="Arduino Projects; Soldering; Sensors and LEDs; Circuits",
        objects="breadboards; resistors; weather stations; LED strips; soldering irons",
        activities="building a weather station; soldering cleanly; reading circuit diagrams; blinking your first LED",
        confessions="I own more resistors and Arduino boards than cutlery; my blinds open by a circuit I built; "
        "I built a thermometer from sensors on a breadboard; LEDs blink in every corner of my room",
    ),
    topic(
        tags="amateur radio; antennas",
        subjects="Amateur Radio; Antennas; Shortwave Listening; Morse Code",
        objects="dipole antennas; call signs; receivers; Morse keys; satellites on the air",
        activities="passing the licence exam; putting up an antenna; talking to another continent; listening to shortwave",
        confessions="I talk to strangers in Chile with a wire in my attic; I send Morse to strangers by shortwave; "
        "I listen to faraway stations at night through the static; my call sign is on my letterbox",
    ),
    topic(
        tags="robots; 3d printing",
        subjects="Home Robots; 3D Printing; Drones; Motors and Gears",
        objects="servo motors; printed parts; quadcopters; robot arms; line followers",
        activities="building a robot that follows a line; printing spare parts; flying a drone you made; programming servos",
        confessions="a machine I built fetches my slippers, sometimes; my printer has been humming since Monday making gears; "
        "I build quadcopters and crash them; my son and I build little bots with servo motors for contests",
    ),
    topic(
        tags="programming; home servers",
        subjects="Python Programming; Linux at Home; Raspberry Pi Servers; Small Games in Code",
        objects="scripts; command lines; backups; small databases; network cables",
        activities="learning Python; running a server in a cupboard; automating dull work; writing a small game",
        confessions="I script away every boring task; there is a rack of old computers under my stairs; "
        "I run Linux on the toaster, almost; I wrote a small app in Python for our club",
    ),
))  # fmt: skip

HISTORY = Theme("History", 14, 0.3, 4, (
    topic(
        tags="ancient world; archaeology",
        subjects="Ancient Rome; Greek Temples; Egyptian Tombs; Field Archaeology",
        objects="legions; inscriptions; pyramids; potsherds; mosaics",
        activities="walking through Pompeii; reading inscriptions; digging with care; living as a Roman for a day",
        confessions="I volunteer at Roman digs each summer, washing potsherds; I read Caesar in Latin, slowly; "
        "temples of the Greeks and tombs of the pharaohs make my heart beat faster; I have been to Pompeii four times",
    ),
    topic(
        tags="middle ages; castles",
        subjects="Castles; Medieval Towns; Knights and Monks; Illuminated Manuscripts",
        objects="cathedrals; sieges; guilds; parchment; chivalry",
        activities="understanding how a castle worked; following a cathedral's builders; reading old hands; cooking a medieval feast",
        confessions="I drag my family to every fortress with a drawbridge; I dress as a medieval knight at summer fairs; "
        "cathedrals and the monks who built them never bore me; I copy parchments the way monks did, and dream of knights",
    ),
    topic(
        tags="genealogy; family history",
        subjects="Family Trees; Parish Registers; House Histories; Old Letters",
        objects="parish registers; census lists; ship passenger lists; family letters; gravestones",
        activities="tracing your ancestors; reading parish registers; interviewing grandparents; finding who lived in your house",
        confessions="I have found ancestors back to 1640; I spend rainy days looking for forebears in parish archives; "
        "my great-aunt's letters fill three boxes I am sorting; I photograph gravestones with my surname",
    ),
    topic(
        tags="railways; industrial heritage",
        subjects="Steam Railways; Old Canals; Model Trains; Mill Towns",
        objects="locomotives; signal boxes; mill wheels; branch lines; model layouts",
        activities="firing a steam engine; exploring old branch lines; building a model layout; reading a mill town",
        confessions="I help to stoke a locomotive on Sundays; my attic has tracks, tunnels and a tiny station; "
        "I know the timetable of lines closed in 1963; old branch lines, canals and mills draw me like a magnet",
    ),
))  # fmt: skip

INDOORS: tuple[Theme, ...] = (COOKING, WOODWORK, TEXTILES, PHOTOGRAPHY, MUSIC, GAMES, ELECTRONICS, HISTORY)
