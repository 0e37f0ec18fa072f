"""What a night costs when little has changed, and what memory a million texts take.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_nightly.py                  # 10,000 texts, about two minutes
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_nightly.py --rows 50000     # about eight minutes
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_nightly.py --memory         # 1,000,000 texts, a stub encoder

Every night is `recpipe embed-items` in a process of its own. Start-up is that of `recpipe embed-items`
on 20 items with a cache that has nothing: interpreter, libraries, model.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STEMS = 4000
MEMORY_ROWS = 1_000_000
MEMORY_LIMIT_MB = 1000


@dataclass(frozen=True)
class Night:
    """One run of the stage.

    Attributes:
        rss_mb: (n,) resident memory, sampled every second.
        log: Its stderr.
    """

    seconds: float
    cpu_seconds: float
    rss_mb: np.ndarray
    peak_mb: float
    log: str


def titles(n_rows: int, seed: int) -> list[str]:
    """Distinct texts as long as product titles: 4 to 25 words, 11 in the mean, with sizes and numbers."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("aaabcdeeefghiiiklmnooprrssttuvw"))
    stems = np.array(["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(STEMS)])
    lengths = np.clip(rng.gamma(4.0, 2.8, n_rows).astype(int), 4, 25)
    ranks = np.minimum(rng.zipf(1.3, int(lengths.sum())) - 1, STEMS - 1)
    words, found, start = stems[ranks], [], 0
    for row, length in enumerate(lengths.tolist()):
        found.append(f"{' '.join(words[start : start + length])} {seed}{row:07d}")
        start += length
    return found


def write_items(path: Path, ids: np.ndarray, texts: list[str]) -> None:
    """Write the table of items."""
    pq.write_table(pa.table({"item_id": [f"i{number}" for number in ids.tolist()], "title": texts}), path)


def embed(folder: Path, items: Path, *settings: str) -> Night:
    """Run the stage in a process of its own, watching its memory."""
    words = [sys.executable, "-m", "recpipe", "embed-items", "--items", str(items)]
    for setting in ("executor.workers=1", "device=cpu", *settings):
        words += ["--set", setting]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log_path = folder / "log.txt"
    before, begun = os.times(), time.perf_counter()
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
        samples: list[tuple[float, float]] = []
        watcher = threading.Thread(target=lambda: samples.extend(_resident(process)))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - begun
        watcher.join()
    after = os.times()
    text = log_path.read_text(encoding="utf-8")
    if code:
        raise SystemExit(f"embed-items ended with {code}\n{text}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    resident, peak = np.array(samples).reshape(-1, 2).T
    return Night(seconds, cpu, resident, float(peak.max(initial=0.0)), text)


def _resident(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, float]]:
    """Yield resident memory and its peak so far, in MB, every second while the process lives."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status.read_text(encoding="ascii"), re.MULTILINE))
        if len(found) == 2:  # a process that ends has no memory any more
            yield int(found["VmRSS"]) * 1024 / 1e6, int(found["VmHWM"]) * 1024 / 1e6
        time.sleep(1)


def nights(folder: Path, n_rows: int) -> None:
    """First run, 2 % changed, none changed, the same table in another file and order."""
    texts, ids = titles(n_rows, 1), np.arange(n_rows)
    items, few = folder / "items.parquet", folder / "few.parquet"
    write_items(items, ids, texts)
    write_items(few, np.arange(20), titles(20, 3))
    print(f"{n_rows:,} texts, {np.mean([len(text) for text in texts]):.0f} characters in the mean, default encoder")
    startup = min((embed(folder, few, f"workdir=start{turn}") for turn in range(2)), key=lambda night: night.seconds)
    _show("start-up: 20 texts", startup)
    first = embed(folder, items)
    _show("first run", first)

    rng = np.random.default_rng(2)
    changed = rng.choice(n_rows, n_rows // 50, replace=False)
    for row, text in zip(changed.tolist(), titles(len(changed), 2), strict=True):
        texts[row] = text
    write_items(items, ids, texts)
    second = embed(folder, items)
    _show("2 % changed", second)
    share = (second.seconds - startup.seconds) / (first.seconds - startup.seconds)
    cpu = (second.cpu_seconds - startup.cpu_seconds) / (first.cpu_seconds - startup.cpu_seconds)
    print(f"  of the first run, start-up apart: {share:.1%} of the time, {cpu:.1%} of the CPU time; wanted: <= 5 %")

    unchanged = embed(folder, items)
    _show("none changed", unchanged)
    print(f"  wanted: < 2 s; said: {unchanged.log.splitlines()[-1]}")
    copied = folder / "copied.parquet"
    write_items(copied, ids, texts)
    _show("the same table in another file", embed(folder, copied))
    order = rng.permutation(n_rows)
    write_items(copied, order, [texts[row] for row in order.tolist()])
    _show("in another order", embed(folder, copied))
    merge = subprocess.run(
        [sys.executable, "-m", "recpipe", "cache", "merge"], cwd=folder, capture_output=True, text=True
    )
    print(merge.stdout.strip())
    order = rng.permutation(n_rows)
    write_items(copied, order, [texts[row] for row in order.tolist()])
    _show("in another order, cache merged", embed(folder, copied))


def _show(name: str, night: Night) -> None:
    said = [line for line in night.log.splitlines() if "from the cache" in line]
    counts = said[-1].partition("items: ")[2] if said else "nothing encoded"
    print(
        f"{name:<32} {night.seconds:8.2f} s, {night.cpu_seconds:8.2f} CPU s, peak {night.peak_mb:5.0f} MB  ({counts})",
        flush=True,
    )


def memory(folder: Path, n_rows: int) -> None:
    """A million short texts through a stub: resident memory must stay flat."""
    encoder = stub_encoder(folder / "stub")
    rng = np.random.default_rng(0)
    numbers = rng.permutation(10 * n_rows)[:n_rows]
    items = folder / "items.parquet"
    write_items(items, np.arange(n_rows), [f"story {number}" for number in numbers.tolist()])
    print(f"{n_rows:,} short texts through one layer of 16")
    night = embed(folder, items, f"encoder.model_name={encoder}", "encoder.pooling=mean")
    _show("first run", night)
    _curve(night)
    order = rng.permutation(n_rows)
    write_items(items, order, [f"story {number}" for number in numbers[order].tolist()])
    night = embed(folder, items, f"encoder.model_name={encoder}", "encoder.pooling=mean")
    _show("in another order", night)
    _curve(night)


def _curve(night: Night) -> None:
    """Print the memory over time, and its slope: of most of the run, and of its second half up to the joining."""
    resident = night.rss_mb
    print("  MB at every twentieth of the run: " + " ".join(f"{resident[place]:.0f}" for place in _places(resident)))
    for name, begin in (("tenth", 0.1), ("half", 0.5)):
        part = resident[int(len(resident) * begin) : int(len(resident) * 0.9)]
        if len(part) > 10:
            slope = np.polyfit(np.arange(len(part)), part, 1)[0]
            growth = f"{slope * 60:+.2f} MB a minute, {slope * len(part):+.1f} MB in all"
            print(f"  slope from the first {name} to nine tenths, {len(part)} s: {growth}")
    print(
        f"  index of the cache: 24 MB a million; peak {night.peak_mb:.0f} MB, wanted: < {MEMORY_LIMIT_MB} MB and flat"
    )


def _places(resident: np.ndarray) -> list[int]:
    return np.linspace(0, len(resident) - 1, 21).astype(int).tolist() if len(resident) else []


def stub_encoder(folder: Path) -> Path:
    """Write a BERT of one layer of 16 with random weights and a small WordPiece tokeniser."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "story", *(f"{d}" for d in range(10))]
    pieces += [f"##{number:02d}" for number in range(100)] + [f"##{d}" for d in range(10)]
    tokenizer = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=32,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def main() -> None:
    """Run the nights, or the million texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="texts; 10,000 by default, 1,000,000 with --memory")
    parser.add_argument("--memory", action="store_true", help="watch the memory of a million short texts")
    wanted = parser.parse_args()
    print(f"load of the machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        if wanted.memory:
            memory(Path(name), wanted.rows or MEMORY_ROWS)
        else:
            nights(Path(name), wanted.rows or 10_000)


if __name__ == "__main__":
    main()
