"""Token ids, arrays and images as callers give them: refused or converted once, where they enter.

Axes: L positions, C canvas positions.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..errors import DiffGemmaError, PromptError, SettingsError
from ..images.pixels import Pixels
from ..machine.dtypes import dtype_name

Ids: TypeAlias = mx.array | NDArray[np.integer[Any]] | Sequence[int]
"""Token ids [L] or [1, L]: whole numbers of any width."""

Floats: TypeAlias = mx.array | NDArray[np.floating[Any]]

PREPARED = "Pixels, which prepare_image makes of a file, bytes, a PIL image or an array"


def token_ids(
    given: Ids, vocab_size: int, place: str = "prompt", error: type[DiffGemmaError] = PromptError
) -> list[int]:
    """Token ids [L] or [1, L] as a list; `error` for what are none, or not of the vocabulary.

    A float is no id, whole or not, nor is a bool: whoever has one has lost his ids before.
    """
    try:
        ids = _row(given)
    except _NoIdsError as found:
        raise error(
            f"the {place} has {found}, expected token ids: whole numbers in a list or an array [L] "
            "or [1, L]; take those of this checkpoint's tokenizer."
        ) from None
    wrong = next((i for i in ids if not 0 <= i < vocab_size), None)
    if wrong is not None:
        raise error(
            f"the {place} has token id {wrong}, expected 0 to {vocab_size - 1}, a vocabulary of "
            f"{vocab_size}; take the ids of this checkpoint's tokenizer."
        )
    return ids


@dataclass(frozen=True)
class Unread:
    """Token ids [C] of the vocabulary that a device may still compute: nobody looks at them."""

    ids: mx.array


def canvas_ids(given: Ids | Unread, vocab_size: int) -> mx.array:
    """A canvas [C] or [1, C] -> [1, C]; SettingsError for one that holds no token ids.

    Unread ids are taken as they are. While MLX traces a function its ids are not known, and only
    its form is checked.
    """
    if isinstance(given, Unread):
        return given.ids.reshape(1, -1)
    known = given
    if isinstance(given, mx.array) and _is_traced(given):
        known = mx.zeros(given.shape, given.dtype)
    ids = token_ids(known, vocab_size, "canvas", SettingsError)
    if not ids:
        raise SettingsError("the canvas is empty, expected at least one token id.")
    return given.reshape(1, -1) if isinstance(given, mx.array) else mx.array(ids)[None]


def canvas_rows(given: Sequence[Ids] | mx.array, vocab_size: int) -> mx.array:
    """Canvases [B, C] of one width -> the same as an array; SettingsError for what are none."""
    rows = [canvas_ids(row, vocab_size) for row in given]
    if len({row.shape for row in rows}) != 1:
        widths = ", ".join(str(row.shape[1]) for row in rows) or "there are none"
        raise SettingsError(f"canvases have the widths {widths}, expected one width for all.")
    return mx.concatenate(rows)


def one_id(given: int | mx.array, vocab_size: int) -> mx.array:
    """A token as an array [1]; PromptError for what is none. An array [1] is not looked into."""
    if isinstance(given, mx.array) and given.size == 1 and mx.issubdtype(given.dtype, mx.integer):
        return given.reshape(1)
    ids = token_ids([given], vocab_size, "step")  # type: ignore[list-item]
    if len(ids) != 1:
        raise PromptError(f"the step has {len(ids)} tokens, expected one; give them one by one.")
    return mx.array(ids, mx.int32)


def floats(given: Floats, shape: tuple[int, ...], what: str) -> mx.array:
    """An array of `shape`, or with 1 in front -> [1, *shape]; SettingsError for any other."""
    array = mx.array(given) if isinstance(given, np.ndarray) else given
    if (
        not isinstance(array, mx.array)
        or not mx.issubdtype(array.dtype, mx.floating)
        or tuple(array.shape) not in (shape, (1, *shape))
    ):
        raise SettingsError(
            f"{what} are {described(given)}, expected floating-point numbers {list(shape)}."
        )
    return array.reshape(1, *shape)


def image_list(given: Sequence[Pixels]) -> list[Pixels]:
    """Images as a list; PromptError for what is none, or holds something else."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | bytearray):
        raise PromptError(f"images are given as {described(given)}, expected a list of {PREPARED}.")
    for number, image in enumerate(given, 1):
        if not isinstance(image, Pixels):
            raise PromptError(f"image {number} is {described(image)}, expected {PREPARED}.")
    return list(given)


def described(given: object) -> str:
    """The dtype and shape of an array; the type of anything else."""
    if isinstance(given, mx.array):
        return f"{dtype_name(given.dtype)} {list(given.shape)}"
    if isinstance(given, np.ndarray):
        return f"{given.dtype} {list(given.shape)}"
    return f"a {type(given).__name__}"


def _is_traced(array: mx.array) -> bool:
    """True for an argument of a function that is being compiled or exported."""
    try:
        mx.eval(array)
    except ValueError:
        return True
    return False


class _NoIdsError(Exception):
    """No row of token ids; the message says what there is."""


def _row(given: object, depth: int = 1) -> list[int]:
    """One row of whole numbers, `depth` levels above an item."""
    if isinstance(given, mx.array | np.ndarray):
        return _array_row(given, depth)
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | bytearray):
        raise _NoIdsError(described(given))
    if depth and given and _is_row(given[0]):
        if len(given) > 1:
            raise _NoIdsError(f"{len(given)} rows")
        return _row(given[0], 0)
    return [item if type(item) is int else _whole(item, at) for at, item in enumerate(given)]


def _array_row(given: mx.array | NDArray[Any], depth: int) -> list[int]:
    if isinstance(given, mx.array):
        whole = mx.issubdtype(given.dtype, mx.integer)
    else:
        whole = given.dtype.kind in "iu"
    one_row = given.ndim == 1 or (depth and given.ndim == 2 and given.shape[0] == 1)
    if not one_row or (given.size and not whole):
        raise _NoIdsError(described(given))
    ids: Any = given.reshape(-1).tolist()
    return list(ids)


def _is_row(item: object) -> bool:
    """True for what stands where an id should, and has items of its own."""
    if isinstance(item, mx.array | np.ndarray):
        return item.ndim > 0
    return isinstance(item, list | tuple)


def _whole(item: object, at: int) -> int:
    """The number in a scalar of numpy or MLX."""
    if isinstance(item, mx.array) and item.ndim == 0 and mx.issubdtype(item.dtype, mx.integer):
        return operator.index(item.item())  # type: ignore[arg-type]
    if isinstance(item, np.integer | int) and not isinstance(item, bool):
        return int(item)
    value = "" if _is_row(item) else f" {str(item)[:20]!r}"
    raise _NoIdsError(f"{described(item)}{value} at position {at}")
