"""Finds every source tensor that the target needs, and checks its name, shape and dtype.

A source tensor is used, known to be superfluous and listed, or an error that names it.
"""

from collections.abc import Iterable, Iterator, Sequence

from ..checkpoint.quantization import QuantizationConfig
from ..checkpoint.shards import CONVERT_AGAIN
from ..checkpoint.tensors import REPACKED, VISION, is_stray, refusal
from ..errors import CheckpointError
from ..machine.dtypes import FLOATS
from ..model.weights import own_dtype
from .layout import launch_sizes, text_shapes, vision_shapes
from .quantize import Recipe
from .read import SourceCheckpoint
from .table import Entry, packed_outputs


def bind(source: SourceCheckpoint, recipe: Recipe) -> tuple[list[Entry], tuple[str, ...]]:
    """The entries of all that config.json says must be there, and the names that are dropped."""
    shapes = _expected(source)
    found = {name: _sources(source, name) for name in shapes}
    used = {part for names in found.values() for name in names for part in _parts(source, name)}
    dropped = _leftovers(source, used)
    entries = [_entry(source, recipe, name, found[name], shapes[name]) for name in shapes]
    _refuse_mixed_dtypes(source, entries)
    return entries, dropped


# --- names: what must be there, and where it is ---------------------------------------------------


def _expected(source: SourceCheckpoint) -> dict[str, tuple[int, ...]]:
    """Every tensor to be written and its unpacked shape; the vision tower where the source has it.

    A folder may hold text alone, whatever its config says of vision; part of a tower is an error.
    """
    if source.config.use_clipped_linears:
        raise CheckpointError(
            "config.json: vision_config.use_clipped_linears = True is not supported."
        )
    own_dtype(source.config)  # this and the next raise here, not when all is written
    launch_sizes(source.config.text)
    shapes = text_shapes(source.config.text)
    vision = source.raw_config.get("vision_config")
    if vision and any(VISION.match(name) for name in source.names):
        shapes |= vision_shapes(vision, source.config.text.hidden_size)
    return shapes


def _sources(source: SourceCheckpoint, name: str) -> tuple[str, ...]:
    """Where the rows of a target tensor are: one tensor, or an expert's after the other's."""
    if name in source.names:
        return (name,)
    at, _, part = name.removesuffix(".weight").rpartition(".")
    if at.endswith(".experts"):
        halves = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
        count = source.config.text.num_experts
        single = tuple(f"{at}.{e}.{half}.weight" for e in range(count) for half in halves)
        if single[0] in source.names:
            for one in single:
                _require(source, one)
            return single
    _require(source, name)
    return (name,)


def _require(source: SourceCheckpoint, name: str) -> None:
    if name in source.names:
        return
    stem = name.removesuffix(".weight")
    for other, stored in source.names.items():
        if other.startswith(stem) and REPACKED.search(other):
            raise refusal(stored, source.folder)
    raise CheckpointError(f"{name}: missing in {source.folder}; {CONVERT_AGAIN}.")


def _parts(source: SourceCheckpoint, name: str) -> Iterator[str]:
    """A source tensor, with its scales and biases where it is packed."""
    yield name
    module = name.removesuffix(".weight")
    for kind in ("scales", "biases"):
        if f"{module}.{kind}" in source.names:
            yield f"{module}.{kind}"


def _leftovers(source: SourceCheckpoint, used: set[str]) -> tuple[str, ...]:
    """The names in the files that are known strays; any other tensor is an error."""
    dropped = []
    for name in sorted(set(source.names) - used):
        if not is_stray(name, source.config):
            raise refusal(source.names[name], source.folder)
        dropped.append(source.names[name])
    return tuple(dropped)


# --- shapes and dtypes ----------------------------------------------------------------------------


def _entry(
    source: SourceCheckpoint,
    recipe: Recipe,
    name: str,
    sources: tuple[str, ...],
    shape: tuple[int, ...],
) -> Entry:
    unpacking = _unpacking(source, name)
    if unpacking is not None:
        dtype = _check_packed(source, name, shape, unpacking)
    else:
        dtype = source.info(sources[0]).dtype
        for one in sources:
            _check(source, one, _single_shape(shape, one, len(sources)), FLOATS)
    packing = recipe.packing(name, shape)
    wanted = recipe.wanted(name.removesuffix(".weight")) if _is_matrix(name, shape) else None
    outputs = tuple(packed_outputs(name, dtype, shape, packing))
    return Entry(
        _described(source, name, sources),
        sources,
        dtype,
        shape,
        unpacking,
        packing,
        wanted,
        outputs,
    )


def _described(source: SourceCheckpoint, name: str, sources: Sequence[str]) -> str:
    """A source's name in its file, or a pattern for experts that are stacked one by one."""
    if len(sources) == 1:
        return source.names[sources[0]]
    at, _, part = name.removesuffix(".weight").rpartition(".")
    halves = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
    return " + ".join(f"{at}.*.{half}.weight" for half in halves)


def _single_shape(shape: tuple[int, ...], name: str, count: int) -> tuple[int, ...]:
    """The shape of one source of `count`: an expert has its own rows, gate and up have half."""
    if count == 1:
        return shape
    halves = 1 if name.endswith(".down_proj.weight") else 2
    return shape[1] // halves, shape[2]


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and name.endswith(".weight")


def _unpacking(source: SourceCheckpoint, name: str) -> QuantizationConfig | None:
    """How the source has packed a tensor; None for plain numbers."""
    module, quantization = name.removesuffix(".weight"), source.config.quantization
    if f"{module}.scales" not in source.names:
        return None
    if quantization is None:
        raise CheckpointError(
            f"{module}.scales is in {source.folder}, but config.json has no quantization."
        )
    return quantization.of(module)


def _check_packed(
    source: SourceCheckpoint, name: str, shape: tuple[int, ...], packing: QuantizationConfig
) -> str:
    """Checks a packed module's tensors; returns the dtype of its numbers once unpacked."""
    module, affine = name.removesuffix(".weight"), packing.mode == "affine"
    floats = source.info(f"{module}.scales").dtype if affine else _float_dtype(source)
    for output in packed_outputs(name, floats, shape, packing):
        _check(source, output.name, output.shape, (output.dtype,))
    return floats


def _float_dtype(source: SourceCheckpoint) -> str:
    """The dtype of the source's plain numbers: that of the final norm."""
    return source.info("model.decoder.norm.weight").dtype


def _check(
    source: SourceCheckpoint, name: str, shape: tuple[int, ...], dtypes: Iterable[str]
) -> None:
    _require(source, name)
    info = source.info(name)
    at = f"{source.names[name]} in {info.file.name}"
    if info.shape != shape:
        raise CheckpointError(
            f"{at}: shape {list(info.shape)}, expected {list(shape)}; {CONVERT_AGAIN}."
        )
    if info.dtype not in dtypes:
        raise CheckpointError(
            f"{at}: dtype {info.dtype}, expected {' or '.join(dtypes)}; {CONVERT_AGAIN}."
        )


def _refuse_mixed_dtypes(source: SourceCheckpoint, entries: Sequence[Entry]) -> None:
    """One dtype for all numbers, as the published folders have: scales take it, and so do sums."""
    first = entries[0]
    for entry in entries:
        plain = [] if entry.unpacking else [(n, source.info(n).dtype) for n in entry.sources]
        for name, dtype in [(entry.name, entry.dtype), *plain]:
            if dtype != first.dtype:
                raise CheckpointError(
                    f"{name} in {source.folder} is {dtype}, but {first.name} is {first.dtype}; "
                    "a checkpoint has one dtype, save it again in one."
                )
