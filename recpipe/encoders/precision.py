"""Whether a device has the arithmetic that is asked for."""

from __future__ import annotations

from pathlib import Path

from recpipe.encoders.settings import TextPrecision
from recpipe.errors import UnavailableError

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def require_precision(precision: TextPrecision, device: str) -> None:
    """Refuse arithmetic the device would only emulate.

    Args:
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        UnavailableError: float16 without CUDA, or bfloat16 on a CPU without units for it.
    """
    if precision in ("float32", "int8") or device.startswith("cuda"):
        return
    if precision == "bfloat16" and _cpu_flags() & _BFLOAT16_FLAGS:
        return
    # Emulated bfloat16 was measured at a fifth of float32's speed.
    reason = "needs a CUDA device" if precision == "float16" else "needs CUDA or a CPU with bfloat16 units"
    raise UnavailableError(
        f"encoder.precision {precision} {reason}", where=f"device {device}", next_step="--set encoder.precision=float32"
    )


def _cpu_flags() -> set[str]:
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: nothing is known, so nothing is promised
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return {flag for key, _, value in lines if key.strip() in {"flags", "Features"} for flag in value.split()}
