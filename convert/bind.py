"""Binding of a source's tensors to the target's that they make, by name alone.

A source tensor is used, known to be superfluous and dropped, or refused; a target tensor without a
source is missing, which is an error. Shapes and dtypes are checked where an entry is built.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..checkpoint.tensors import is_stray, refusal
from .layout import expected_shapes
from .read import SourceCheckpoint


@dataclass(frozen=True)
class Bound:
    """A tensor of the target, and the source tensors (MLX names) whose rows make it, in order."""

    name: str
    shape: tuple[int, ...]  # unpacked
    sources: tuple[str, ...]
    label: str  # the sources in one line, as the files name them


def bind(source: SourceCheckpoint) -> tuple[list[Bound], tuple[str, ...]]:
    """Every tensor to be written, and the names in the files that are dropped.

    CheckpointError for a tensor that is missing, and for one that nothing here can use.
    """
    bound = [_bound(source, name, shape) for name, shape in expected_shapes(source).items()]
    return bound, tuple(_dropped(source, bound))


def _bound(source: SourceCheckpoint, name: str, shape: tuple[int, ...]) -> Bound:
    """`name` where the source has it, else its experts where they are stored one by one."""
    names: tuple[str, ...] = (name,)
    label = None
    at, _, projection = name.removesuffix(".weight").rpartition(".")
    if name not in source.headers and at.endswith(".experts"):
        halves = ("gate_proj", "up_proj") if projection == "gate_up_proj" else (projection,)
        experts = range(source.config.text.num_experts)
        singles = tuple(f"{at}.{e}.{half}.weight" for e in experts for half in halves)
        if singles[0] in source.headers:
            names, label = singles, " + ".join(f"{at}.*.{half}.weight" for half in halves)
    infos = [source.info(one) for one in names]
    return Bound(name, shape, names, label or infos[0].name)


def _dropped(source: SourceCheckpoint, bound: Iterable[Bound]) -> Iterator[str]:
    """The names of known strays; CheckpointError for any other tensor that is left over."""
    used = {part for one in bound for name in one.sources for part in _parts(source, name)}
    for name in sorted(set(source.headers) - used):
        stored = source.headers[name].name
        if not is_stray(name, source.config):
            raise refusal(stored, source.folder)
        yield stored


def _parts(source: SourceCheckpoint, name: str) -> Iterator[str]:
    """A source tensor, with its scales and biases where it is packed."""
    yield name
    module = name.removesuffix(".weight")
    for kind in ("scales", "biases"):
        if f"{module}.{kind}" in source.headers:
            yield f"{module}.{kind}"
