"""The weights that kernels read: which packings, and their arrays checked for a launch."""

from collections.abc import Mapping, Sequence

import mlx.core as mx

from ..checkpoint.quantization import QuantizationConfig
from ..checkpoint.tensors import StoredWeight
from ..errors import KernelError
from ..machine.dtypes import FLOAT_NAMES
from .launch import Template, expect

BITS, GROUPS = (4, 8), (32, 64, 128)  # the affine packings that kernels unpack
PARTS = ("experts", "embedding")  # of an inventory: those that kernels read
DTYPES = (mx.float32, mx.float16, mx.bfloat16)


READ_NAMES = frozenset(
    [*FLOAT_NAMES, *(QuantizationConfig("affine", b, g).name for b in BITS for g in GROUPS)]
)
"""The packings that kernels read, by the names that an inventory gives them."""


def coverage(packings: Mapping[str, Sequence[str]]) -> str:
    """The parts whose weights a kernel reads or leaves to MLX; packings: part -> its packings."""
    left = {
        part: [name for name in packings.get(part, ()) if name not in READ_NAMES] for part in PARTS
    }
    reads = [part for part, names in left.items() if not names]
    others = [f"{part} in {' and '.join(names)}" for part, names in left.items() if names]
    known = f"made for the packing of {' and '.join(reads)}" if reads else ""
    ops = f"not for {' and '.join(others)}, which MLX's own operations read" if others else ""
    return "; ".join(filter(None, (known, ops)))


def readable(stored: StoredWeight) -> bool:
    """True where kernels can read the packing: none, or affine in 4 or 8 bits."""
    return stored.packing is None or stored.packing.name in READ_NAMES


def packed_as(stored: StoredWeight) -> str:
    """The packing in short: "4-bit groups of 64" or "not packed"."""
    if stored.packing is None:
        return "not packed"
    return f"{stored.packing.bits}-bit groups of {stored.packing.group_size}"


def packing_template(stored: StoredWeight) -> Template:
    """BITS and GROUP of a kernel's template; no bits for a weight that is not packed."""
    if stored.packing is None:
        return [("BITS", 0), ("GROUP", 32)]
    return [("BITS", stored.packing.bits), ("GROUP", stored.packing.group_size)]


def weight_inputs(
    kernel: str,
    stored: StoredWeight,
    shape: tuple[int, ...],
    *,
    dense: tuple[mx.Dtype, ...] = DTYPES,
    scales: tuple[mx.Dtype, ...] = DTYPES,
) -> tuple[mx.array, mx.array, mx.array]:
    """Weight, scales and biases for a launch; a weight that is not packed stands for all three.

    KernelError where the unpacked shape, a dtype (of a dense weight, of scales and biases) or the
    packing is another than the kernel takes.
    """
    if stored.packing is None:
        expect(kernel, "weight", stored.weight, shape, *dense)
        return stored.weight, stored.weight, stored.weight
    how = stored.packing
    if not readable(stored) or stored.scales is None or stored.biases is None:
        raise KernelError(
            f"{kernel}: weight in {how.name}, expected affine in {BITS} bits with biases, in "
            f"groups of {GROUPS}."
        )
    *outer, width = shape
    expect(kernel, "weight", stored.weight, (*outer, width * how.bits // 32), mx.uint32)
    for name, part in (("scales", stored.scales), ("biases", stored.biases)):
        expect(kernel, name, part, (*outer, width // how.group_size), *scales)
    if width % how.group_size:
        raise KernelError(f"{kernel}: {width} values a row do not fill groups of {how.group_size}.")
    return stored.weight, stored.scales, stored.biases
