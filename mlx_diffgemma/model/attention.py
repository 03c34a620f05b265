"""Attention in blocks, so that few scores exist at once however many keys there are.

Axes: L queries, K keys, D head dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from .scores import block_sizes

Mask = mx.array | str | None

ENDS = 8  # a GPU's allocator takes a freed buffer again for one of its own size, so sizes are few


@dataclass(frozen=True)
class Visibility:
    """The keys that queries see; the queries stand at the last positions of the keys.

    Causal: each key up to the query's own position; with a window, the last `window` of them.
    Otherwise all keys. runs: queries of one run, by their indices, see all of it besides. Masks of
    a window are kept, so that layers may share one object in a pass.
    """

    causal: bool
    window: int | None = None
    runs: tuple[range, ...] = ()
    masks: dict[tuple[range, range, int], mx.array] = field(default_factory=dict, compare=False)

    def keys(self, queries: range, behind: int, count: int) -> range:
        """The keys, out of `count`, that one of `queries` sees, or a few more; see `mask`."""
        if not self.causal:
            return range(count)
        met = self._met(queries)
        end = behind + max([queries.stop, *(run.stop for run in met)])
        if self.window is not None:
            first = min([queries.start + 1 - self.window, *(run.start for run in met)])
            return range(max(0, behind + first), end)
        step = -(-count // ENDS)
        return range(min(count, -(-end // step) * step))

    def mask(self, queries: range, keys: range, behind: int) -> Mask:
        """The mask of `queries` over `keys`; the first of all queries has `behind` keys before it.

        "causal" is MLX's name for the mask of queries that end with the keys.
        """
        if not self.causal:
            return None
        if met := self._met(queries):
            return self._with_runs(queries, keys, behind, met)
        if self.window is None:
            return "causal" if keys.stop == behind + queries.stop else _up_to(queries, keys, behind)
        if len(keys) <= self.window:
            return "causal"
        key = (queries, keys, behind)
        if key not in self.masks:
            self.masks[key] = self._base(queries, keys, behind)
        return self.masks[key]

    def _met(self, queries: range) -> list[range]:
        """The runs that hold one of the queries."""
        return [r for r in self.runs if r.start < queries.stop and queries.start < r.stop]

    def _base(self, queries: range, keys: range, behind: int) -> mx.array:
        """The mask without runs."""
        seen = _up_to(queries, keys, behind)
        if self.window is None:
            return seen
        return seen & ~_up_to(queries, keys, behind - self.window)

    def _with_runs(
        self, queries: range, keys: range, behind: int, runs: Sequence[range]
    ) -> mx.array:
        seen = self._base(queries, keys, behind)
        query, key = _positions(queries)[:, None], _positions(keys, -behind)[None]
        for run in runs:
            seen = seen | (_within(query, run) & _within(key, run))
        return seen


ALL = Visibility(causal=False)
CAUSAL = Visibility(causal=True)


def attend(queries: mx.array, keys: mx.array, values: mx.array, visible: Visibility) -> mx.array:
    """queries [1, heads, L, D], keys and values [1, kv heads, K, D] -> [1, heads, L, D]; scale 1.

    One call while the scores are few (scores.MOST_SCORES). Otherwise blocks, each evaluated before
    the next, so that the scores of one exist at a time: this may not be traced by `mx.compile`. A
    causal block leaves out keys that it does not see; they would have weight 0.
    """
    heads, length, count = queries.shape[1], queries.shape[2], keys.shape[2]
    at_once, rows = block_sizes(heads, length, count, visible.window)
    if (at_once, rows) == (heads, length):
        mask = visible.mask(range(length), range(count), count - length)
        return _attend(queries, keys, values, mask)
    if at_once == heads:
        return _in_rows(queries, keys, values, visible, rows)
    shared = heads // keys.shape[1]
    parts = []
    for head in range(heads):
        own = slice(head // shared, head // shared + 1)
        one = queries[:, head : head + 1]
        parts.append(_in_rows(one, keys[:, own], values[:, own], visible, rows))
    return mx.concatenate(parts, axis=1)


def _in_rows(
    queries: mx.array, keys: mx.array, values: mx.array, visible: Visibility, rows: int
) -> mx.array:
    """`rows` queries at a time, evaluated."""
    length, count = queries.shape[2], keys.shape[2]
    parts = []
    for first in range(0, length, rows):
        block = range(first, min(first + rows, length))
        seen = visible.keys(block, count - length, count)
        output = _attend(
            queries[:, :, block.start : block.stop],
            keys[:, :, seen.start : seen.stop],
            values[:, :, seen.start : seen.stop],
            visible.mask(block, seen, count - length),
        )
        mx.eval(output)
        parts.append(output)
    return mx.concatenate(parts, axis=2)


def _attend(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=1.0, mask=mask)


def _positions(of: range, behind: int = 0) -> mx.array:
    return mx.arange(behind + of.start, behind + of.stop)


def _within(positions: mx.array, run: range) -> mx.array:
    return (positions >= run.start) & (positions < run.stop)


def _up_to(queries: range, keys: range, behind: int) -> mx.array:
    """Mask [queries, keys]: True for the keys up to a query's own position."""
    return _positions(keys)[None] <= _positions(queries, behind)[:, None]
