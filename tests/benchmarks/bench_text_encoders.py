"""Texts to vectors: sentence-transformers beside recpipe's backends, in one run, variant after variant.

CPU-seconds of one thread are what is compared; the machine's float32 peak is a product of matrices that stay in
the cache, measured in the same run. Useful work counts a text's own tokens, not padding. The last lines are wall
clock on all cores against one.

Run: python tests/benchmarks/bench_text_encoders.py --data TABLE.parquet [--texts 3000] [--cores-texts 500] [--rounds 5]
Needs the extras minilm, dev (sentence-transformers) and openvino; without openvino its lines are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from recpipe.encoders import quantising
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder

Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]
# MiniLM: layers, width of a token vector, width of the inner layer.
N_LAYERS, DIM, INNER = 6, 384, 1536


@dataclass
class Measured:
    """Seconds of one variant, one entry a round."""

    encode: Encode
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    vectors: Vectors | None = None

    def measure(self, texts: list[str]) -> None:
        wall, cpu = time.perf_counter(), _cpu_seconds()
        self.vectors = self.encode(texts)
        self.cpu.append(_cpu_seconds() - cpu)
        self.wall.append(time.perf_counter() - wall)


def main() -> None:
    """Print a line for each variant."""
    arguments = _arguments()
    texts = pq.read_table(arguments.data, columns=[arguments.column]).column(0).to_pylist()
    texts = sorted({text for text in texts if text and text.strip()})
    chosen = np.random.default_rng(0).permutation(len(texts))
    sample = [texts[row] for row in chosen[: arguments.texts]]
    others = [texts[row] for row in chosen[arguments.texts :]]  # int8 is calibrated on texts that are not measured
    torch.set_num_threads(1)
    folder = resolve(EncoderSettings().model_name)
    with tempfile.TemporaryDirectory() as scratch:
        variants = {**_peers(folder), **_ours(folder, others, Path(scratch))}
        if sample:
            _compare(folder, sample, variants, arguments.rounds)
        del variants
        if arguments.cores_texts:
            few = [texts[row] for row in chosen[: arguments.cores_texts]]
            _cores(folder, few, arguments.rounds, Path(scratch))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Parquet table with a column of texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--texts", type=int, default=3000, help="texts of the comparison; 0: leave it out")
    parser.add_argument("--cores-texts", type=int, default=500, help="texts for all cores against one; 0: leave it out")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _peers(folder: EncoderFolder) -> dict[str, Encode]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        peer = SentenceTransformer(str(folder.path), device="cpu", local_files_only=True)
    return {
        f"sentence-transformers, batch {size}": lambda texts, size=size: peer.encode(
            texts, batch_size=size, show_progress_bar=False
        )
        for size in (32, 16, 8)
    }


def _load(folder: EncoderFolder, calibrated: Path | None = None, **settings: object) -> TextEncoder:
    chosen = EncoderSettings.model_validate(settings)
    return TextEncoder.load(folder, chosen, role="document", device="cpu", calibrated=calibrated)


def _ours(folder: EncoderFolder, others: list[str], scratch: Path) -> dict[str, Encode]:
    encoders = {"torch float32": _load(folder)}
    if importlib.util.find_spec("openvino") and importlib.util.find_spec("nncf"):
        encoders["openvino float32"] = _load(folder, backend="openvino")
        settings = EncoderSettings(backend="openvino", precision="int8")
        found = quantising.calibrate(folder, settings, role="document", texts=others, destination=scratch)
        print(f"int8 calibrated on {found.calibration_texts} texts; on {found.held_out_texts} others: {found.manifest}")
        encoders["openvino int8"] = _load(folder, scratch, backend="openvino", precision="int8")
    return {name: lambda texts, encoder=encoder: encoder.encode(texts).vectors for name, encoder in encoders.items()}


def _compare(folder: EncoderFolder, texts: list[str], variants: dict[str, Encode], rounds: int) -> None:
    lengths = _load(folder).tokens(texts).lengths
    work = useful_operations(lengths)
    print(
        f"{len(texts)} texts, {lengths.mean():.0f} tokens in the mean, {work / 1e9:.0f} GF; "
        f"load of the machine {os.getloadavg()[0]:.1f}"
    )
    measured = {name: Measured(encode) for name, encode in variants.items()}
    peaks: list[float] = []
    for variant in measured.values():
        variant.encode(texts[:64])  # kernels are made on the first call
    for _ in range(rounds):  # in turn, so that a busy machine hits all
        for variant in measured.values():
            variant.measure(texts)
            peaks.append(peak())
    default, best = (statistics.median(measured[f"sentence-transformers, batch {size}"].cpu) for size in (32, 8))
    exact = measured["sentence-transformers, batch 32"].vectors
    assert exact is not None
    top = statistics.median(peaks)
    print(f"float32 peak {top:.0f} GF/s a core (median; {min(peaks):.0f} to {max(peaks):.0f})")
    for name, found in measured.items():
        assert found.vectors is not None
        cpu = statistics.median(found.cpu)
        print(
            f"{name:32} CPU {cpu:6.2f} s ({min(found.cpu):.2f} to {max(found.cpu):.2f}), "
            f"wall {statistics.median(found.wall):6.2f} s "
            f"| x{default / cpu:.2f} of batch 32, x{best / cpu:.2f} of batch 8 "
            f"| {work / cpu / 1e9:4.0f} GF/s, {work / cpu / 1e9 / top:4.0%} of the peak "
            f"| largest difference {np.abs(found.vectors - exact).max():.1e}, "
            f"top-10 overlap {quantising.compare(exact, found.vectors).overlap:.3f}"
        )


def _cores(folder: EncoderFolder, texts: list[str], rounds: int, calibrated: Path) -> None:
    """Print the wall clock of all cores against one, in both layouts."""
    cores = len(os.sched_getaffinity(0))
    kinds: dict[str, dict[str, object]] = {"torch float32": {}}
    if (calibrated / quantising.MODEL_FILE).exists():
        kinds["openvino float32"] = {"backend": "openvino"}
        kinds["openvino int8"] = {"backend": "openvino", "precision": "int8"}
    for name, settings in kinds.items():
        encoders: dict[str, TextEncoder] = {}
        for label, threads in (("one core", 1), ("a batch a core", cores)):
            torch.set_num_threads(threads)
            encoders[label] = _load(folder, calibrated if settings.get("precision") == "int8" else None, **settings)
        measured = {label: Measured(lambda t, e=encoder: e.encode(t).vectors) for label, encoder in encoders.items()}
        if name == "torch float32":
            # the same encoder as for one core, whose operations take all cores
            measured["a batch on all cores"] = Measured(lambda t, e=encoders["one core"]: e.encode(t).vectors)
        for _ in range(rounds):
            for label, variant in measured.items():
                torch.set_num_threads(cores if label == "a batch on all cores" else 1)
                variant.measure(texts)
        torch.set_num_threads(1)
        one = statistics.median(measured["one core"].wall)
        for label, found in measured.items():
            wall = statistics.median(found.wall)
            spread = f"{min(found.wall):.2f} to {max(found.wall):.2f}"
            print(
                f"{name:18} {label:22} wall {wall:6.2f} s ({spread}), x{one / wall:.2f}; "
                f"CPU {statistics.median(found.cpu):.2f} s"
            )


def useful_operations(lengths: NDArray[np.int64]) -> float:
    """Return the floating-point operations of texts of so many tokens (n,), without padding."""
    linear = 2 * (4 * DIM * DIM + 2 * DIM * INNER) * float(lengths.sum())
    attention = 4 * DIM * float((lengths.astype(np.float64) ** 2).sum())
    return N_LAYERS * (linear + attention)


def peak() -> float:
    """Return GF/s of a product of matrices in the cache, the best of some: what the core can do."""
    left, right, out = torch.randn(1024, DIM), torch.randn(DIM, INNER), torch.empty(1024, INNER)
    best = 0.0
    for _ in range(5):
        start = _cpu_seconds()
        for _ in range(10):
            torch.mm(left, right, out=out)
        best = max(best, 10 * 2 * 1024 * DIM * INNER / (_cpu_seconds() - start) / 1e9)
    return best


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
