"""What pictures and sounds bring in simulated worlds, where one taste shows only in pictures and one only in sounds.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=. python tests/benchmarks/bench_modalities.py WORK
        [--seeds 1 2 3 4 5] [--models deep] [--users 600 --items 400 --interactions 15000]

Each seed is a world of its own, run through `recpipe simulate`, `split`, `embed-items`, `embed-users` and `cluster`:
texts by the default encoder, pictures and sounds by a CLIP and a wav2vec2 of a few kilobytes with random weights,
which tell hues and pitches apart and understand nothing. A tenth of each user's interactions chooses the number of
epochs of every fit, a fifth is to be found among all items, those taken before left out.

    as before   the model without blocks: the text alone
    text        the text as the only block: histories as input, but nothing to hide in training, which regularises
    shuffled    pictures and sounds of other items, so that nothing but noise is added
    masked      fitted with pictures; while scoring, a share of them is missing, from histories as well

Fitting with all pictures masked is `as before` by construction: a block nobody has is no block (checked).
Users of all worlds are resampled together, the same draws for both of a pair.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recpipe.metrics.intervals import Bootstrap
from recpipe.models.base import (
    FactoredModel,
    FitContext,
    Histories,
    Items,
    Model,
    PairwiseModel,
    Profiles,
    TrainingData,
)
from recpipe.models.registry import find_model
from recpipe.models.tables import Block
from recpipe.schemas import TEST_INTERACTIONS, VALIDATION_INTERACTIONS, Artifact
from recpipe.stages.pipeline.population import Population, PopulationPaths
from recpipe.store.artifacts import ArtifactReader
from recpipe.training.fitting import fit

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_media_models import build

LIST_LENGTH = 10
MASKED = (0.3, 0.6, 1.0)
SETTINGS: Mapping[str, Mapping[str, object]] = {
    # smaller steps than by default, and so more of them: ten thousand interactions make ten of 1,024
    "deep": {"target": "implicit", "batch_size": 128},
}
PAIRS = (
    ("text", "as before"),
    ("text + image", "text"),
    ("text + image", "as before"),
    ("text + image + audio", "text + image"),
    ("shuffled", "text"),
    ("shuffled", "as before"),
    *((f"masked {share:.0%}", against) for share in MASKED for against in ("text", "as before")),
)
CONFIG = """
data: {users: world/users.csv, items: world/items.jsonl, interactions: world/interactions.csv, media_root: world}
split: {by: random, test_share: 0.2, validation_share: 0.1}
image_encoder: {model_name: clip}
audio_encoder: {model_name: wav2vec2}
device: cpu
"""


@dataclass(frozen=True)
class World:
    """The evaluation view of one world.

    Attributes:
        population: Users with what they took in training.
        work: The work directory.
    """

    population: Population
    work: Path

    def data(self, items: Items, blocks: Callable[[], Iterator[tuple[Profiles, Histories]]]) -> TrainingData:
        """The interactions as if the catalogue were this one."""

        def opened() -> Iterator[tuple[Profiles, Histories]]:
            return ((profiles, replace(histories, items=items)) for profiles, histories in blocks())

        return TrainingData(
            items=items,
            open_blocks=opened,
            n_users=self.population.users.rows,
            as_of_us=self.population.as_of_us,
        )

    def fitted(self, name: str, items: Items, seed: int) -> Model:
        """A model fitted with this catalogue; validation interactions choose what is left open."""
        spec = find_model(name)
        model = spec.create(spec.settings(**SETTINGS.get(name, {})))
        held_out = self.data(items, self._held_out(VALIDATION_INTERACTIONS))
        fit(model, self.data(items, self.population.blocks), FitContext(seed=seed, held_out=held_out))
        return model

    def ndcg(self, model: Model, items: Items) -> np.ndarray:
        """NDCG@10 of every user who has something to find."""
        values: list[float] = []
        pairs = zip(self.population.blocks(), self._held_out(TEST_INTERACTIONS)(), strict=True)
        for (profiles, histories), (_, wanted) in pairs:
            scores = scores_of(model, profiles, replace(histories, items=items), items)
            scores[histories.user_rows(), histories.item_rows] = -np.inf
            for user in range(len(profiles)):
                rows = wanted.item_rows[wanted.offsets[user] : wanted.offsets[user + 1]]
                if len(rows):
                    hits = np.isin(np.argsort(-scores[user], kind="stable")[:LIST_LENGTH], rows)
                    gains = 1 / np.log2(np.arange(2, LIST_LENGTH + 2))
                    values.append(float(gains[hits].sum() / gains[: len(rows)].sum()))
        return np.array(values)

    def _held_out(self, artifact: Artifact) -> Callable[[], Iterator[tuple[Profiles, Histories]]]:
        return self.population.held_out(ArtifactReader(self.work / "evaluation" / f"{artifact.name}.parquet", artifact))


def scores_of(model: Model, profiles: Profiles, histories: Histories, items: Items) -> np.ndarray:
    """All scores, float32 (n_users, n_items), a copy."""
    if isinstance(model, FactoredModel):
        return model.user_vectors(profiles, histories).vectors @ model.item_vectors(items).T
    assert isinstance(model, PairwiseModel)
    return model.score_block(profiles, histories, items).scores.copy()


def made(folder: Path, seed: int, sizes: Mapping[str, int]) -> World:
    """Simulate and run what comes before train; what is there already is up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    for kind in ("clip", "wav2vec2"):
        if not (folder / kind).exists():
            build(kind, folder / kind, seed=seed)
    if not (folder / "world").exists():
        values = [f"{name}={value}" for name, value in {**sizes, "media": "true", "seed": seed}.items()]
        run(folder, "simulate", "--to", "world", *(part for value in values for part in ("--set", value)))
    for stage in (
        ["split"],
        ["embed-items"],
        ["embed-users", "--view", "evaluation"],
        ["cluster", "--view", "evaluation"],
    ):
        run(folder, *stage, "-c", "config.yaml")
    work = folder / "work"
    paths = PopulationPaths(
        users=work / "tables" / "users.parquet",
        items=work / "tables" / "items.parquet",
        interactions=work / "evaluation" / "train_interactions.parquet",
        item_embeddings=work / "item_embeddings.parquet",
        user_embeddings=work / "evaluation" / "user_embeddings.parquet",
        user_profiles=work / "evaluation" / "user_profiles.parquet",
        as_of=None,
        attributes=True,
    )
    return World(Population(paths), work)


def run(folder: Path, *arguments: str) -> None:
    """Run a command of recpipe in a folder."""
    command = [sys.executable, "-m", "recpipe", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ)


def catalogues(items: Items, seed: int) -> dict[str, Items]:
    """The catalogue with each set of blocks."""
    rng = np.random.default_rng(seed)
    image, audio = items.blocks["image"], items.blocks["audio"]
    nothing = np.zeros(len(items), dtype=np.bool_)
    others = [block.rows(rng.permutation(len(items))) for block in (image, audio)]
    return {
        "as before": replace(items, blocks={}),
        "text": replace(
            items,
            embeddings=np.empty((len(items), 0), dtype=np.float32),
            embedded=nothing,
            blocks={"prose": Block(items.embeddings, items.embedded)},
        ),
        "text + image": replace(items, blocks={"image": image}),
        "text + image + audio": items,
        "shuffled": replace(items, blocks={"image": others[0], "audio": others[1]}),
    }


def masked(block: Block, share: float, seed: int) -> Block:
    """The block, missing from a share of the items."""
    kept = block.present & (np.random.default_rng(seed).random(len(block)) >= share)
    return Block(np.where(kept[:, None], block.vectors, np.float32(0)), kept)


def measured(world: World, name: str, seed: int) -> dict[str, np.ndarray]:
    """NDCG@10 of every user, by set."""
    found: dict[str, np.ndarray] = {}
    sets = catalogues(world.population.items, seed)
    image = sets["text + image"].blocks["image"]
    for key, items in sets.items():
        if key == "text" and name != "deep":
            continue  # made for deep: parts of hybrid want the embedding itself
        model = world.fitted(name, items, seed)
        found[key] = world.ndcg(model, items)
        if key == "text + image":
            for share in MASKED:
                seen = replace(items, blocks={"image": masked(image, share, seed)})
                found[f"masked {share:.0%}"] = world.ndcg(model, seen)
    if name == "deep":
        blind = replace(sets["text + image"], blocks={"image": masked(image, 1.0, seed)})
        assert np.array_equal(world.ndcg(world.fitted(name, blind, seed), blind), found["as before"])
    return found


def report(name: str, found: list[dict[str, np.ndarray]], seeds: list[int]) -> None:
    """Print means by seed, then differences of pairs with 95 % intervals, over the users of all worlds."""
    print(f"\n{name}: NDCG@{LIST_LENGTH}\n{'':22s}" + "".join(f"  seed {seed:<3d}" for seed in seeds) + "      all")
    everyone = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
    for key, values in everyone.items():
        print(f"{key:22s}" + "".join(f"{one[key].mean():10.4f}" for one in found) + f"{values.mean():10.4f}")
    print(f"{'difference':40s}{'by seed':>{9 * len(seeds)}s}   all [95 %]")
    for one, other in PAIRS:
        if one not in everyone or other not in everyone:
            continue
        each = "".join(f"{(world[one] - world[other]).mean():+9.4f}" for world in found)
        estimate = Bootstrap().means((everyone[one] - everyone[other])[:, None])
        low, high = estimate.low[0], estimate.high[0]
        print(f"{f'{one} - {other}':40s}{each}   {estimate.value[0]:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--models", nargs="+", default=["deep"])
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--interactions", type=int, default=15_000)
    arguments = parser.parse_args()
    sizes = {
        "n_users": arguments.users,
        "n_items": arguments.items,
        "n_interactions": arguments.interactions,
    }
    worlds = {seed: made(arguments.work / f"seed-{seed}", seed, sizes) for seed in arguments.seeds}
    for name in arguments.models:
        started = time.process_time()
        found = []
        for seed, world in worlds.items():
            found.append(measured(world, name, seed))
            print(f"{name}, seed {seed}: {time.process_time() - started:.0f} CPU-s so far", flush=True)
        report(name, found, arguments.seeds)


if __name__ == "__main__":
    main()
