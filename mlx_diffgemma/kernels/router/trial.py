"""The routing of few rows in one launch, where a trial found it right and faster.

Axes: L rows, E experts, K experts a row.
"""

from collections.abc import Callable
from dataclasses import Field, replace
from functools import cache, partial
from typing import Any, ClassVar, Protocol, TypeVar

import mlx.core as mx
import numpy as np

from ...machine.choices import Preference
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance, mismatches
from ..trial import Trial, rounded_up
from . import launch
from .launch import MAX_EXPERTS, MAX_TOP_K

FAMILY = "router"


class Routing(Protocol):
    """A dataclass of the router: scores [L, E], scale [E] float32, and top_k, the experts a row."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def scores(self) -> mx.array: ...
    @property
    def scale(self) -> mx.array: ...
    @property
    def top_k(self) -> int: ...


R = TypeVar("R", bound=Routing)
Routed = tuple[mx.array, mx.array]
"""Experts [L, K] of each row, the highest score first, and their weights [L, K] float32."""


def route(routing: R, reference: Callable[[R], Routed], preference: Preference = "auto") -> Routed:
    """Experts and weights of each row, by the kernel or by `reference`."""
    key, tried = partial(instantiation, routing), partial(trial, routing, reference)
    if dispatch.covered_and_chosen(FAMILY, not_covered(routing), key, tried, preference):
        return in_kernel(routing)
    return reference(routing)


def in_kernel(routing: Routing) -> Routed:
    """Experts and weights in one launch."""
    return launch.route(routing.scores, routing.scale, routing.top_k)


def not_covered(routing: Routing) -> str | None:
    """The reason why the kernel cannot route; None where it can."""
    if routing.scores.shape[1] > MAX_EXPERTS or routing.top_k > MAX_TOP_K:
        return f"more than {MAX_EXPERTS} experts, or more than {MAX_TOP_K} a row"
    return None


def instantiation(routing: Routing) -> str:
    """Key of a verdict: shapes and dtype; rows up to the next power of two."""
    rows, num_experts = routing.scores.shape
    return described(rounded_up(rows), routing.top_k, num_experts, routing.scores.dtype)


@cache
def described(rows: int, top_k: int, num_experts: int, dtype: mx.Dtype) -> str:
    """Rows, experts and dtype in words, made once."""
    return f"{rows} rows, {top_k} of {num_experts} experts, scores {dtype_name(dtype)}"


# --- trials

TOLERANCES = (
    Tolerance("experts", 0.0, "whole numbers", mismatches),
    Tolerance("weights", 1e-5, "a softmax of few values in float32"),
)


def trial(routing: R, reference: Callable[[R], Routed]) -> Trial:
    """The trial on scores of which no two are equal, of the rows that a verdict holds for."""
    tried = distinct(routing, rounded_up(routing.scores.shape[0]), np.random.default_rng(0))
    return Trial(
        kernel=lambda: in_kernel(tried), reference=lambda: reference(tried), tolerances=TOLERANCES
    )


def distinct(routing: R, rows: int, random: np.random.Generator) -> R:
    """A routing of other rows, all of whose scores differ, so that no tie decides."""
    num_experts = routing.scores.shape[1]
    ranks = random.permuted(np.tile(np.arange(num_experts), (rows, 1)), axis=1)
    scores = mx.array(ranks.astype(np.float32) / 16).astype(routing.scores.dtype)
    return replace(routing, scores=scores, scale=mx.ones(num_experts))
