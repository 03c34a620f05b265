"""Bits a weight takes in memory, module by module, from a folder's config and headers."""

from collections.abc import Callable

from ..checkpoint.config import ModelConfig
from .work import BitsOf


def packed_bits(config: ModelConfig, is_packed: Callable[[str], bool], item_bytes: int) -> BitsOf:
    """The bits of every module: as packed where it is, else of a number of `item_bytes` bytes.

    A group's scale and bias count with its weights: 16 bits each in affine mode, which is what the
    published folders have; mxfp4, mxfp8 and nvfp4 have a scale of 8 bits and no bias.
    """

    def bits(module: str) -> float:
        if config.quantization is None or not is_packed(module):
            return 8.0 * item_bytes
        packing = config.quantization.of(module)
        shared = 32 if packing.mode == "affine" else 8
        return packing.bits + shared / packing.group_size

    return bits
