"""Weights as they lie in memory: what a kernel reads, whatever object of the network holds them.

Axes: O outputs, I inputs of one matrix; a leading axis E where every expert has one.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..checkpoint.quantization import QuantizationConfig
from ..errors import KernelError
from .launch import Template, expect

BITS, GROUPS = (4, 8), (32, 64, 128)  # the affine packings that kernels unpack
DTYPES = (mx.float32, mx.float16, mx.bfloat16)


@dataclass(frozen=True)
class StoredWeight:
    """A row-contiguous weight [..., O, I]; a packed one has scales, biases and a packing."""

    weight: mx.array
    scales: mx.array | None = None
    biases: mx.array | None = None
    packing: QuantizationConfig | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[..., O, I], counted unpacked."""
        *outer, width = self.weight.shape
        return (*outer, width * 32 // self.packing.bits if self.packing else width)

    @property
    def readable(self) -> bool:
        """True where kernels can read the packing: none, or affine in 4 or 8 bits."""
        how = self.packing
        return how is None or (how.mode == "affine" and how.bits in BITS)

    @property
    def packed_as(self) -> str:
        """The packing in short: "4-bit groups of 64" or "not packed"."""
        if self.packing is None:
            return "not packed"
        return f"{self.packing.bits}-bit groups of {self.packing.group_size}"

    @property
    def template(self) -> Template:
        """BITS and GROUP of a kernel's template; no bits for a dense weight."""
        if self.packing is None:
            return [("BITS", 0), ("GROUP", 32)]
        return [("BITS", self.packing.bits), ("GROUP", self.packing.group_size)]

    def inputs(
        self,
        kernel: str,
        shape: tuple[int, ...],
        *,
        dense: tuple[mx.Dtype, ...] = DTYPES,
        scales: tuple[mx.Dtype, ...] = DTYPES,
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Weight, scales and biases for a launch; a dense weight stands for all three.

        KernelError where the unpacked shape, a dtype (of a dense weight, of scales and biases) or
        the packing is another than the kernel takes.
        """
        if self.packing is None:
            expect(kernel, "weight", self.weight, shape, *dense)
            return self.weight, self.weight, self.weight
        how = self.packing
        known = self.readable and how.group_size in GROUPS
        if not known or self.scales is None or self.biases is None:
            raise KernelError(
                f"{kernel}: weight in {how.name}, expected affine in {BITS} bits with biases, in "
                f"groups of {GROUPS}."
            )
        *outer, width = shape
        expect(kernel, "weight", self.weight, (*outer, width * how.bits // 32), mx.uint32)
        for name, part in (("scales", self.scales), ("biases", self.biases)):
            expect(kernel, name, part, (*outer, width // how.group_size), *scales)
        if width % how.group_size:
            raise KernelError(
                f"{kernel}: {width} values a row do not fill groups of {how.group_size}."
            )
        return self.weight, self.scales, self.biases
