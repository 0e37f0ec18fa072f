"""Ten times the rows in the memory of once: each stage streams."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from conftest import World
from runs import finish, start

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")]

FEW, MANY = 20_000, 200_000
ALLOWED_MIB = 48  # a column of 500 bytes a row, held whole, would be 86 MiB more


def _peak_mib(*words: object, cwd: Path) -> float:
    """Run the command line; return the peak of its own memory.

    Pages of files mapped to memory (RssFile) are not counted: the kernel drops them when
    somebody else needs the room.
    """
    process = start(*words, cwd=cwd)
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    while process.poll() is None:
        found = re.search(r"^RssAnon:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        peak = max(peak, int(found[1]) if found else 0)  # a process that has just ended has none
        time.sleep(0.005)
    code, _, log = finish(process)
    assert code == 0, log
    return peak / 1024


def _write_table(path: Path, key: str, n_rows: int) -> None:
    words = ("space", "love", "war", "robot", "comedy", "night", "city", "story")
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{key},text,blurb\n")
        for number in range(n_rows):
            text = f"{words[number % 8]} {words[number // 8 % 8]} {number % 500}"
            file.write(f"{key[0]}{number},{text},{number:09d}{'x' * 491}\n")


@pytest.fixture(scope="module")
def peaks(world: World, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Peak memory in MiB of every stage on FEW and on MANY rows."""
    found: dict[str, list[float]] = {}
    for n_rows in (FEW, MANY):
        folder = tmp_path_factory.mktemp(f"rows{n_rows}")
        _write_table(folder / "items.csv", "item_id", n_rows)
        _write_table(folder / "users.csv", "user_id", n_rows)
        with (folder / "interactions.csv").open("w", encoding="utf-8") as file:
            file.write("user_id,item_id,timestamp,blurb\n")
            for number in range(n_rows):
                file.write(f"u{number},i{number % 60},{1_600_000_000 + number},{'y' * 500}{number}\n")
        small = folder / "few.csv"
        _write_table(small, "item_id", 60)
        settings = {
            "data": {name: str(folder / f"{name}.csv") for name in ("users", "interactions")} | {"items": str(small)},
            "device": "cpu",
            "encoder": {"model_name": str(tiny_encoder)},
            "cluster": {"n_clusters": 3, "pca_dim": 4, "n_init": 1, "sample_rows": 2000},
            "train": {"model": "content"},
            "score": {"top_n": 5},
        }
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        many = ("--items", folder / "items.csv", "--workdir", "many")
        found.setdefault("embed-items", []).append(_peak_mib("embed-items", "-c", config, *many, cwd=folder))
        _peak_mib("embed-items", "-c", config, cwd=folder)
        # reading the source tables is not measured: its buffers are fuller with MANY rows than with FEW
        _peak_mib("train", "-c", config, "--set", "train.model=popularity", cwd=folder)
        for command in ("embed-users", "cluster", "train", "score"):
            found.setdefault(command, []).append(_peak_mib(command, "-c", config, cwd=folder))
    return found


@pytest.mark.parametrize("stage", ["embed-items", "embed-users", "cluster", "train", "score"])
def test_ten_times_the_rows_in_the_same_memory(stage: str, peaks: dict[str, list[float]]):
    few, many = peaks[stage]
    assert few > 50, "nothing was measured"
    assert many - few < ALLOWED_MIB, f"{stage}: {few:.0f} MiB for {FEW:,} rows, {many:.0f} MiB for {MANY:,}"
