"""Attention in blocks, so that few scores exist at once however many keys there are.

Axes: L queries, K keys, D head dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from .scores import block_sizes

Mask = mx.array | str | None
Indices = NDArray[np.int32]

FAR = 2**30  # more positions than any context has
ENDS = 8  # a GPU's allocator takes a freed buffer again for one of its own size, so sizes are few


@dataclass(frozen=True)
class Visibility:
    """The keys that queries see; the queries stand at the last positions of the keys.

    Causal: each key up to the query's own position; with a window, the last `window` of them.
    runs: those of images, by the indices of the queries, ascending; a query in a run sees all of it
    besides. Otherwise all keys. A query's keys are neighbours in any case. Masks of a window are
    kept, so that layers may share one object in a pass; those of all keys would take too much.
    """

    causal: bool
    window: int | None = None
    runs: tuple[range, ...] = ()
    masks: dict[tuple[range, range, int], mx.array] = field(default_factory=dict, compare=False)

    @property
    def reach(self) -> int | None:
        """The window that runs make of it: n queries side by side see at most n + reach - 1 keys.

        Their first may see back to the start of its run, their last up to the end of its own.
        """
        longest = max(map(len, self.runs), default=1)
        return None if self.window is None else max(self.window, longest) + longest - 1

    def keys(self, queries: range, behind: int, count: int) -> range:
        """The keys, out of `count`, that one of `queries` sees, or a few more; see `mask`."""
        if not self.causal:
            return range(count)
        first, stop = self._seen(queries)
        end = behind + int(stop[-1])
        if self.window is not None:
            return range(max(0, behind + int(first[0])), end)
        step = -(-count // ENDS)
        return range(min(count, -(-end // step) * step))

    def mask(self, queries: range, keys: range, behind: int) -> Mask:
        """The mask of `queries` over `keys`; the first of all queries has `behind` keys before it.

        "causal" is MLX's name for the mask of queries that end with the keys.
        """
        if not self.causal:
            return None
        if self._is_plain(queries, range(keys.start - behind, keys.stop - behind)):
            return "causal"
        if self.window is None:
            return self.dense(queries, keys, behind)
        key = (queries, keys, behind)
        if key not in self.masks:
            self.masks[key] = self.dense(queries, keys, behind)
        return self.masks[key]

    def _is_plain(self, queries: range, keys: range) -> bool:
        """True where no run and no window changes what the queries see of the keys, their last."""
        in_window = self.window is None or queries.stop - self.window <= keys.start
        return keys.stop == queries.stop and in_window and not self._met(queries)

    def dense(self, queries: range, keys: range, behind: int) -> mx.array:
        """Mask [queries, keys], True for what is seen."""
        first, stop = (mx.array(bound)[:, None] for bound in self._seen(queries))
        index = mx.arange(keys.start - behind, keys.stop - behind)
        seen = index < stop
        return seen if self.window is None else seen & (index >= first)

    def _seen(self, queries: range) -> tuple[Indices, Indices]:
        """The first key that each query sees, and the one behind its last, as indices of queries.

        Both ascend. Without a window the first is one before all keys.
        """
        stop = np.arange(queries.start + 1, queries.stop + 1, dtype=np.int32)
        first = stop - np.int32(self.window or FAR)
        for run in self._met(queries):
            inside = slice(max(0, run.start - queries.start), run.stop - queries.start)
            first[inside] = np.minimum(first[inside], run.start)
            stop[inside] = run.stop
        return first, stop

    def _met(self, queries: range) -> list[range]:
        """The runs that hold one of the queries."""
        return [run for run in self.runs if run.start < queries.stop and queries.start < run.stop]


@dataclass(frozen=True)
class Apart:
    """The keys that canvases of `width` positions see, which stand side by side behind a prefix.

    Each sees the prefix and itself, and nothing of its neighbours. Masks are kept, as those of a
    window are.
    """

    width: int
    masks: dict[tuple[range, range, int], mx.array] = field(default_factory=dict, compare=False)
    reach: None = None

    def keys(self, queries: range, behind: int, count: int) -> range:
        """All `count` keys."""
        return range(count)

    def mask(self, queries: range, keys: range, behind: int) -> mx.array:
        """Mask [queries, keys], True for what is seen; `behind` keys are the prefix's."""
        key = (queries, keys, behind)
        if key not in self.masks:
            own = mx.arange(queries.start, queries.stop)[:, None] // self.width
            index = mx.arange(keys.start - behind, keys.stop - behind)
            self.masks[key] = (index < 0) | (index // self.width == own)
        return self.masks[key]


ALL = Visibility(causal=False)
CAUSAL = Visibility(causal=True)
Core = Callable[[mx.array, mx.array, mx.array, Mask], mx.array]  # queries, keys, values, mask


def masked(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    """queries [B, heads, L, D], keys and values [B, kv heads, K, D] -> [B, heads, L, D]; scale 1.

    mask: [.., L or 1, K], True for what is seen, MLX's name for one, or None for all.
    """
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=1.0, mask=mask)


def behind(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    before_keys: mx.array,
    before_values: mx.array,
    seen: mx.array,
) -> mx.array:
    """Attention of M canvases, each of which sees itself and what its example has before it.

    queries [M, heads, C, D], keys and values [M, kv heads, C, D]; before_keys and before_values
    [B, kv heads, L, D], of examples that have as many canvases each, one after another; seen
    [M, L], True for the positions that a canvas sees -> [M, heads, C, D].
    """
    each, length = queries.shape[0] // before_keys.shape[0], keys.shape[2]
    keys = mx.concatenate([mx.repeat(before_keys, each, axis=0), keys], axis=2)
    values = mx.concatenate([mx.repeat(before_values, each, axis=0), values], axis=2)
    mask = mx.pad(seen, [(0, 0), (0, length)], constant_values=True)
    return masked(queries, keys, values, mask[:, None, None])


Behind = Callable[[mx.array, mx.array, mx.array, mx.array, mx.array, mx.array], mx.array]


def attend(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    visible: Visibility | Apart,
    core: Core = masked,
    *,
    first: int = 0,
    behind: int | None = None,
) -> mx.array:
    """queries [1, heads, L, D], keys and values [1, kv heads, K, D] -> [1, heads, L, D]; scale 1.

    first: the index of the first query, where other Macs have those before it; behind: the keys
    before the query of index 0, None where the queries are all there are.

    One call while the scores are few (scores.MOST_SCORES). Otherwise blocks, each evaluated before
    the next, so that the scores of one exist at a time: this may not be traced by `mx.compile`. A
    causal block leaves out keys that it does not see; they would have weight 0. Which of both, and
    how many queries a block has, follows from the queries of all Macs.
    """
    heads, length, count = queries.shape[1], queries.shape[2], keys.shape[2]
    own = Own(range(first, first + length), count - length if behind is None else behind)
    everywhere = count - own.behind
    at_once, rows = block_sizes(heads, everywhere, count, visible.reach)
    if (at_once, rows) == (heads, everywhere):
        return core(queries, keys, values, visible.mask(own.indices, range(count), own.behind))
    if at_once == heads:
        return _in_rows(queries, keys, values, visible, own, rows, core)
    shared = heads // keys.shape[1]
    parts = []
    for head in range(heads):
        kv = slice(head // shared, head // shared + 1)
        one = queries[:, head : head + 1]
        parts.append(_in_rows(one, keys[:, kv], values[:, kv], visible, own, rows, core))
    return mx.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Own:
    """The indices of queries, and the keys before the query of index 0."""

    indices: range
    behind: int


def _in_rows(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    visible: Visibility | Apart,
    own: Own,
    rows: int,
    core: Core,
) -> mx.array:
    """`rows` queries at a time, evaluated."""
    count, parts = keys.shape[2], []
    for at in range(0, len(own.indices), rows):
        block = own.indices[at : at + rows]
        seen = visible.keys(block, own.behind, count)
        output = core(
            queries[:, :, at : at + rows],
            keys[:, :, seen.start : seen.stop],
            values[:, :, seen.start : seen.stop],
            visible.mask(block, seen, own.behind),
        )
        mx.eval(output)
        parts.append(output)
    return mx.concatenate(parts, axis=2)
