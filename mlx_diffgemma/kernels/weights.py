"""The weights that kernels read: which packings, and their arrays checked for a launch."""

import mlx.core as mx

from ..checkpoint.tensors import StoredWeight
from ..errors import KernelError
from .launch import Template, expect

BITS, GROUPS = (4, 8), (32, 64, 128)  # the affine packings that kernels unpack
DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def readable(stored: StoredWeight) -> bool:
    """True where kernels can read the packing: none, or affine in 4 or 8 bits."""
    how = stored.packing
    return how is None or (how.mode == "affine" and how.bits in BITS)


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
    known = readable(stored) and how.group_size in GROUPS
    if not known or stored.scales is None or stored.biases is None:
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
