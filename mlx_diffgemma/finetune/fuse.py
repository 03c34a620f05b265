"""An adapter added to the weights that it was trained on: a whole folder, made as by a conversion.

Modules without an adapter are copied bit for bit where they stay packed as they are; the others are
unpacked, added to and packed again, a block of rows at a time.
Axes: I inputs, O outputs, R rank, E experts.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..checkpoint.adapter import CONFIG, TENSORS, AdapterFiles
from ..convert.compare import largest_error
from ..convert.hashing import hash_file
from ..convert.passes import Logits, pass_logits
from ..convert.plan import Plan, make_plan
from ..convert.quantize import Recipe, RecipeOptions, make_recipe, stored_recipe
from ..convert.read import RowReader, SourceCheckpoint
from ..convert.table import Entry
from ..convert.transfer import read_entry, read_numbers, small_cache
from ..convert.verify import as_stored
from ..errors import ConvertError, Setting, SettingsError
from ..model.adapters import adapters_of
from ..model.text import Progress

KEEP, UNPACKED = "keep", "none"


@dataclass(frozen=True)
class Change:
    """Numbers that an adapter adds to a weight: a [E, I, R], b [E, R, O]; E = 1 without experts."""

    a: mx.array
    b: mx.array
    scale: float
    key: str

    def rows(self, first: int, count: int) -> mx.array:
        """Rows [count, I] from `first` on of scale * (a b)^T as [E * O, I], float32."""
        outputs, stop = self.b.shape[-1], first + count
        parts = []
        for expert in range(first // outputs, -(-stop // outputs)):
            begin, end = max(0, first - expert * outputs), min(outputs, stop - expert * outputs)
            parts.append(self.b[expert, :, begin:end].T @ self.a[expert].T)
        return self.scale * mx.concatenate(parts)


@dataclass(frozen=True)
class WeightErrors:
    """The stored numbers of fused modules against the exact sums.

    module: the one of `modules` that is furthest off; relative_rms: by how much, and the `limit` up
    to which its packing explains that. lost: what rounding takes from all that the adapter adds,
    RMS by RMS.
    """

    modules: int
    module: str
    relative_rms: float
    limit: float
    lost: float


@dataclass(frozen=True)
class LogitErrors:
    """The largest difference of logits, which reach to `largest`, in each pass.

    same_choice: canvas positions, of all, with the same most likely token.
    """

    encoder: float
    decoder: float
    conditioned: float
    largest: float
    same_choice: int
    positions: int


@dataclass(frozen=True)
class FuseCheck:
    """The distance between a fused folder and its base with the adapter applied."""

    weights: WeightErrors
    logits: LogitErrors


def fuse_plan(source: SourceCheckpoint, adapter: AdapterFiles, quantize: str = KEEP) -> Plan:
    """The plan of a folder that has the adapter in its weights; `convert.run.convert` makes it.

    quantize: keep, none or a recipe's name. SettingsError for a recipe where the source is packed:
    what no adapter touches would be rounded twice. CheckpointError as `make_plan`'s.
    """
    recipe: Recipe
    if quantize == KEEP:
        recipe = stored_recipe(source)
    elif source.config.quantization and quantize != UNPACKED:
        raise SettingsError(
            Setting("quantize"),
            f" is {quantize}, but {source.name} is packed already, and packing twice adds up the "
            f"errors; take {KEEP} or {UNPACKED}, or give the checkpoint that it was made from.",
        )
    else:
        recipe = make_recipe(RecipeOptions(quantize))
    return make_plan(source, recipe, requantize=True, added=_changes(adapter))


def check_fused(
    plan: Plan, adapter: AdapterFiles, out: Path, progress: Progress = lambda done, total: None
) -> FuseCheck:
    """The distance of a fused folder `out` from its plan's source with the adapter applied.

    progress is told of layers run. ConvertError where a module's numbers are further off than its
    packing explains, and where logits are not finite.
    """
    weights, layers = _weight_errors(plan, as_stored(out)), len(plan.source.config.text.layers)
    values = {name: array.astype(mx.float32) for name, array in adapter.load().items()}
    adapters = adapters_of(values, adapter.modules, adapter.parameters.scale)
    applied = pass_logits(plan.source.folder, adapters, lambda n, _: progress(n, 2 * layers))
    fused = pass_logits(out, {}, lambda n, _: progress(layers + n, 2 * layers))
    return FuseCheck(weights, _logit_errors(applied, fused, out))


def _logit_errors(applied: Logits, fused: Logits, out: Path) -> LogitErrors:
    both = [(getattr(applied, name), getattr(fused, name)) for name in vars(applied)]
    if not all(np.isfinite(rows).all() for pair in both for rows in pair):
        raise ConvertError(f"{out}: a pass gives numbers that are not finite; fuse again.")
    encoder, decoder, conditioned = (float(np.abs(a - b).max()) for a, b in both)
    largest = max(float(np.abs(rows).max()) for rows, _ in both)
    same = applied.decoder.argmax(axis=-1) == fused.decoder.argmax(axis=-1)
    return LogitErrors(encoder, decoder, conditioned, largest, int(same.sum()), len(same))


def _weight_errors(plan: Plan, fused: Plan) -> WeightErrors:
    """Each module that has an adapter compared; ConvertError for one that is too far off."""
    stored, sums = {entry.name: entry for entry in fused.entries}, _Sums()
    found: dict[str, tuple[float, float]] = {}
    with ExitStack() as stack:
        stack.enter_context(small_cache())
        readers = [stack.enter_context(closing(RowReader(p.source))) for p in (plan, fused)]
        for entry in plan.entries:
            if entry.added:
                one = _Sums()
                for rows in _rows(entry, stored[entry.name], readers):
                    one.add(*rows)
                sums.include(one)
                found[entry.module] = one.relative, largest_error(stored[entry.name].unpacking)
                _require_explained(entry.module, *found[entry.module])
    worst = max(found, key=lambda module: found[module][0] / found[module][1])
    return WeightErrors(len(found), worst, *found[worst], sums.lost)


def _require_explained(module: str, relative: float, limit: float) -> None:
    if not relative <= limit:
        raise ConvertError(
            f"{module}: relative RMS error {relative:.3g} after fusing, expected at most "
            f"{limit:.3g}; fuse again."
        )


@dataclass
class _Sums:
    """Squares of errors, of what is added, and of the exact sums."""

    error: float = 0.0
    change: float = 0.0
    whole: float = 0.0

    def add(self, exact: mx.array, added: mx.array, got: mx.array) -> None:
        pairs = zip((got - exact, added, exact), (self.error, self.change, self.whole), strict=True)
        self.error, self.change, self.whole = (s + float(mx.square(a).sum()) for a, s in pairs)

    def include(self, other: "_Sums") -> None:
        self.error += other.error
        self.change += other.change
        self.whole += other.whole

    @property
    def relative(self) -> float:
        """The error relative to the exact sums."""
        return math.sqrt(self.error / self.whole) if self.whole else math.sqrt(self.error)

    @property
    def lost(self) -> float:
        """The error relative to what is added; 0 where nothing is."""
        return math.sqrt(self.error / self.change) if self.change else 0.0


def _changes(adapter: AdapterFiles) -> dict[str, Change]:
    """The change of each module, by its path."""
    values, scale = adapter.load(), adapter.parameters.scale
    hashes = [hash_file(adapter.folder / name).sha256 for name in (TENSORS, CONFIG)]
    key = sha256("".join(hashes).encode()).hexdigest()

    def stacked(name: str) -> mx.array:
        array = values[name].astype(mx.float32)
        return array if array.ndim == 3 else array[None]

    return {
        module: Change(stacked(f"{module}.lora_a"), stacked(f"{module}.lora_b"), scale, key)
        for module in adapter.modules
    }


def _rows(
    entry: Entry, fused: Entry, readers: list[RowReader]
) -> Iterator[tuple[mx.array, mx.array, mx.array]]:
    """Rows in float32, block by block: the exact sum, what is added, and what is stored."""
    assert entry.added is not None
    of_source, of_fused = (
        read_entry(one, reader) for one, reader in zip((entry, fused), readers, strict=True)
    )
    for (_, first, blocks), (_, _, stored) in zip(of_source, of_fused, strict=True):
        added = entry.added.rows(first, len(blocks[0]))
        exact = read_numbers(entry, blocks).astype(mx.float32) + added
        yield exact, added, read_numbers(fused, stored).astype(mx.float32)
