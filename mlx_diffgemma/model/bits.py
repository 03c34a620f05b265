"""Bits a weight: of a checkpoint's modules as they are packed, scales and biases shared out."""

import re
from collections.abc import Callable
from pathlib import Path

from ..checkpoint.config import ModelConfig
from ..checkpoint.quantization import QuantizationConfig
from ..checkpoint.tensors import StoredTensors

STAYS_PACKED = re.compile(r"\.experts\.|\.router\.")  # where dense weights are unpacked at load

PackingOf = Callable[[str], QuantizationConfig | None]
"""A module's name -> how its weight is packed, None where it is not."""
BitsOf = Callable[[str], float]
"""A module's name, such as `model.decoder.layers.0.mlp.up_proj` -> bits a weight, scales shared."""


def stored_bits(
    folder: Path,
    config: ModelConfig,
    item_bytes: int,
    *,
    unpacked: bool = False,
    shape_only: bool = False,
) -> BitsOf:
    """The bits per weight of a checkpoint folder's modules, for activations of `item_bytes` bytes.

    unpacked: see `packed_bits`; shape_only: the folder's files may end behind their headers.
    """
    stored = StoredTensors(folder, config, shape_only=shape_only)
    return packed_bits(stored.packing, item_bytes, unpacked=unpacked)


def packed_bits(packing_of: PackingOf, item_bytes: int, *, unpacked: bool = False) -> BitsOf:
    """The bits per weight of any module: packed ones, else those of `item_bytes` bytes.

    unpacked: attention, MLPs and embedding are unpacked at load, as `Choices.unpacks` has it. A
    group's scale and bias count with its weights: 16 bits each in affine mode, which is what the
    published folders have; mxfp4, mxfp8 and nvfp4 have a scale of 8 bits and no bias.
    """

    def bits(module: str) -> float:
        packing = packing_of(module)
        dense = unpacked and not STAYS_PACKED.search(module)
        if packing is None or dense:
            return 8.0 * item_bytes
        shared = 32 if packing.mode == "affine" else 8
        return packing.bits + shared / packing.group_size

    return bits
