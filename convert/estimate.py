"""Time that a conversion will take on this machine, from a moment of packing and hashing."""

import hashlib
import timeit
from collections import Counter
from collections.abc import Callable

import mlx.core as mx

from ..checkpoint.quantization import QuantizationConfig
from ..machine.dtypes import FLOATS, mlx_dtype
from .pack import pack
from .plan import Plan

SAMPLE_ROWS, SAMPLE_WIDTH = 256, 2816  # a multiple of every group size
SAMPLE_BYTES = 8 << 20
OVERHEAD = 1.3  # reading, checking and writing now and then wait for each other


def estimate_seconds(plan: Plan) -> float:
    """Seconds for the whole plan if the disks keep up, from measurements made now."""
    sizes: Counter[tuple[QuantizationConfig, str]] = Counter()
    for entry in plan.entries:
        if entry.packing is not None and entry.packing != entry.unpacking:
            sizes[entry.packing, entry.dtype] += entry.num_bytes
    packing_seconds = sum(count * _seconds_a_byte(*kind) for kind, count in sizes.items())
    content = bytes(SAMPLE_BYTES)
    read_bytes = sum(info.num_bytes for info in plan.source.headers.values())
    hash_seconds = read_bytes / SAMPLE_BYTES * _seconds(lambda: hashlib.sha256(content))
    return OVERHEAD * max(packing_seconds, hash_seconds)


def _seconds_a_byte(packing: QuantizationConfig, dtype: str) -> float:
    """Seconds to pack a byte of plain numbers."""
    sample = mx.random.normal((SAMPLE_ROWS, SAMPLE_WIDTH)).astype(mlx_dtype(FLOATS[dtype]))
    mx.eval(sample)
    return _seconds(lambda: pack(sample, packing)) / sample.nbytes


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two runs."""
    return min(timeit.repeat(work, number=1, repeat=2))
