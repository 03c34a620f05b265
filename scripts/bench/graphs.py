"""Count the nodes of a lazily built graph, alike for both engines; nothing is evaluated.

Fused operations: on the CPU MLX spells out `mx.fast.*` as a dozen small ones; where a GPU's graph
is counted, one stand-in primitive takes the place of each, and our elementwise pieces take the
compiled form they have on a GPU (mlx-vlm's are compiled everywhere). A launch of a Metal kernel of
ours is one primitive too.
Views: operations that move no data, or only at times. A Reshape behind a Transpose does copy; it
is left out for both engines all the same.
"""

import gc
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx

from mlx_diffgemma.kernels import dispatch, launch
from mlx_diffgemma.machine import device

VIEWS = frozenset(
    [
        "AsStrided",
        "Broadcast",
        "BroadcastAxes",
        "ExpandDims",
        "Flatten",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "StopGradient",
        "Transpose",
        "Unflatten",
        "View",
    ]
)


def _rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    stand_in: mx.array = mx.depends(x, x)
    return stand_in


def _rope(x: mx.array, dims: int, **_: Any) -> mx.array:
    stand_in: mx.array = mx.depends(x, x)
    return stand_in


def _attention(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
    stand_in: mx.array = mx.depends(q, [k, v])
    return stand_in


@cache
def _evaluated(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    blank = mx.zeros(shape, dtype)
    mx.eval(blank)
    return blank


def _launch(
    kernel: launch.Kernel, inputs: Sequence[mx.array], outputs: Sequence[launch.Output], **_: Any
) -> list[mx.array]:
    stand_in: list[mx.array] = mx.depends([_evaluated(*output) for output in outputs], list(inputs))
    return stand_in


# Each is one primitive, "Depends", with the inputs and the shape of the operation that it replaces,
# and about as cheap to build.
STAND_INS: dict[str, Callable[..., mx.array]] = {
    "rms_norm": _rms_norm,
    "rope": _rope,
    "scaled_dot_product_attention": _attention,
}
NODE = re.compile(r'label ?="([^"]+)", shape=rectangle')


def count_nodes(output: mx.array) -> Counter[str]:
    """The number of primitives behind `output` that are not evaluated yet, by name."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.dot"
        mx.export_to_dot(str(file), output)
        return Counter(NODE.findall(file.read_text()))


def working_nodes(nodes: Counter[str]) -> int:
    """The number of nodes that are no views."""
    return sum(count for name, count in nodes.items() if name not in VIEWS)


def _yes() -> bool:
    return True


@contextmanager
def gpu_everywhere() -> Iterator[None]:
    """Let every module of the package take the default device for a GPU.

    A plain function says so: a Mock would take most of the time in which a graph is built.
    """
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("mlx_diffgemma.") and hasattr(module, "on_gpu"):
                stack.enter_context(mock.patch.object(module, "on_gpu", _yes))
        yield


@contextmanager
def as_on_a_gpu(kernels: bool = False) -> Iterator[None]:
    """Build graphs as on a GPU; those built inside must not be evaluated.

    kernels: with this project's Metal kernels, a launch being one primitive.
    """
    replaced: list[tuple[Any, str, Any]] = [(mx.fast, *item) for item in STAND_INS.items()]
    replaced += [
        (device, "has_metal", lambda: kernels),
        (launch.Kernel, "launch", _launch),
    ]
    with ExitStack() as stack:
        stack.enter_context(gpu_everywhere())
        variable = {dispatch.VARIABLE: "on" if kernels else "off"}
        stack.enter_context(mock.patch.dict(os.environ, variable))
        for owner, name, stand_in in replaced:
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield


def build_seconds(
    prepare: Callable[[], Callable[[], mx.array]], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Host time to build one graph, `prepare` and the graph's release not included."""
    build = prepare()
    gc.disable()
    try:
        began = clock()
        graph = build()
        seconds = clock() - began
    finally:
        gc.enable()
    del graph
    return seconds
