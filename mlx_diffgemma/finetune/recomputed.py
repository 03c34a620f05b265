"""Functions whose gradient computes them again, so that nothing inside them has to be kept.

On a GPU MLX evaluates when the whole gradient is traced: what is computed again must wait for the
gradient that asks for it, and one chunk for the one before, or all of them would exist at a time.
On the CPU functions of numpy are evaluated while it traces, and then MLX keeps all that leads to an
array: results are taken out of their graph (`mx.checkpoint`, which does not, keeps twice as much as
no checkpoint does; docs/log.md).
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..machine.device import on_gpu

Arrays = Sequence[mx.array]


def recomputed(
    function: Callable[..., tuple[mx.array, ...]], variables: Arrays, fixed: Arrays = ()
) -> tuple[mx.array, ...]:
    """function(*variables, *fixed), whose gradient by `variables` computes it again.

    All that the gradient shall reach is among `variables`: what a closure holds is a constant.
    """

    def run(*arrays: mx.array) -> tuple[mx.array, ...]:
        return tuple(map(detached, function(*arrays, *fixed)))

    op = mx.custom_function(run)

    @op.vjp
    def gradients(primals: Any, cotangents: Any, _: Any) -> Any:
        given = _listed(cotangents)
        arrays = _behind(_listed(primals), given)
        _, found = mx.vjp(lambda *again: function(*again, *fixed), arrays, given)
        return _unlisted(list(map(detached, found)))

    return tuple(_listed(op(*variables)))


def by_chunks(
    function: Callable[..., mx.array],
    variables: Arrays,
    rows: mx.array,
    fixed: Arrays = (),
    size: int = 1,
) -> mx.array:
    """function(*variables, rows [n, ...], *fixed [n, ...]) -> [n, ...], over all of N rows.

    At most `size` of them at a time, in the gradient too, which `variables` and `rows` get and
    which computes the function again. N is at least 1.
    """
    chunks = [slice(first, first + size) for first in range(0, rows.shape[0], size)]

    def part(chunk: slice) -> Callable[..., mx.array]:
        at = [array[chunk] for array in fixed]
        return lambda *arrays: function(*arrays, *at)

    def run(*arrays: mx.array) -> mx.array:
        *own, all_rows = arrays
        done: list[mx.array] = []
        for chunk in chunks:
            here = _behind([all_rows[chunk]], done[-1:])
            done.append(detached(part(chunk)(*own, *here)))
        return mx.concatenate(done)

    op = mx.custom_function(run)

    @op.vjp
    def gradients(primals: Any, cotangent: mx.array, _: mx.array) -> Any:
        *own, all_rows = _listed(primals)
        sums, found = [mx.zeros_like(array) for array in own], list[mx.array]()
        for chunk in chunks:
            here = _behind([all_rows[chunk]], [cotangent, *found[-1:], *sums])
            of_here, sums = _added(part(chunk), [*own, *here], cotangent[chunk], sums)
            found.append(of_here)
        return _unlisted([*sums, mx.concatenate(found)])

    result: mx.array = op(*variables, rows)  # type: ignore[assignment]
    return result


def _added(
    function: Callable[..., mx.array], arrays: Arrays, cotangent: mx.array, sums: Arrays
) -> tuple[mx.array, list[mx.array]]:
    """The gradient by the last of `arrays`, and `sums` with those by the others.

    A function of its own, so that no name holds what a chunk computed while the next one does.
    """
    *of_own, of_rows = mx.vjp(function, list(arrays), [cotangent])[1]
    return detached(of_rows), [detached(a + b) for a, b in zip(sums, of_own, strict=True)]


def detached(x: mx.array) -> mx.array:
    """`x`; on the CPU evaluated, and without what it was computed from."""
    if on_gpu():
        return x
    return mx.array(np.asarray(x.astype(mx.float32))).astype(x.dtype)


def _behind(arrays: list[mx.array], before: Arrays) -> list[mx.array]:
    """`arrays`, evaluated only when `before` are."""
    return list(mx.depends(arrays, list(before))) if before else arrays


def _listed(arrays: Any) -> list[mx.array]:
    """One array, or several, as MLX hands them to a function's gradient."""
    return list(arrays) if isinstance(arrays, list | tuple) else [arrays]


def _unlisted(arrays: list[mx.array]) -> Any:
    return tuple(arrays) if len(arrays) > 1 else arrays[0]
