"""Names and sizes of dtypes: safetensors' letters, MLX's names, and the bytes of one number.

MLX is imported when one of its dtypes is asked for: `--help` needs no more than the names.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import mlx.core as mx

FloatName = Literal["float32", "bfloat16", "float16"]
"""MLX's names of the dtypes that a network computes in."""

FLOAT_NAMES: tuple[str, ...] = get_args(FloatName)

FLOATS: Mapping[str, FloatName] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""Safetensors' letters of these dtypes -> MLX's names."""

MLX_NAMES: Mapping[str, str] = {**FLOATS, "U32": "uint32", "U8": "uint8"}
"""Safetensors' letters of every dtype that a network's tensors are stored in -> MLX's names."""

ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
}
"""Safetensors' letters of every dtype that is read -> bytes of one number."""

FLOAT_BYTES: Mapping[str, int] = {name: ITEM_BYTES[letters] for letters, name in FLOATS.items()}
"""MLX's name of a dtype that a network computes in -> bytes of one number."""


def mlx_dtype(name: str) -> "mx.Dtype":
    """MLX's dtype of this name, such as "bfloat16"."""
    import mlx.core as mx

    dtype: mx.Dtype = getattr(mx, name)
    return dtype


def dtype_name(dtype: "mx.Dtype") -> str:
    """The name of an MLX dtype, such as "bfloat16"."""
    return str(dtype).rpartition(".")[2]


def numpy_name(letters: str) -> str:
    """Numpy's name of a dtype by safetensors' letters; numpy reads bfloat16 as integers."""
    kind = "u" if letters == "BF16" else letters[0].lower()
    return f"{kind}{ITEM_BYTES[letters]}"
