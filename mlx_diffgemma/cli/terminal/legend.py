"""The meaning of colours and styles, in lines that show them."""

from collections.abc import Iterator, Sequence

from rich.style import Style

from .colours import LEVELS
from .picture import FAINT, PLAIN, line_cells
from .wrap import Line, joined

GAP = 3  # cells between two parts of a line


def legend(denoised: bool = True) -> Line:
    """The meaning of colours, and of canvases' bold and underlined, in a line that shows them."""
    parts = [("entropy in nats: ", PLAIN)]
    for level in LEVELS:
        parts += [(level.label, Style(color=level.on_both)), (" ", PLAIN)]
    if not denoised:
        return joined(parts[:-1])
    parts += [(" ", PLAIN), ("accepted", Style(bold=True)), ("  ", PLAIN)]
    return joined([*parts, ("changed", Style(underline=True))])


def explained(columns: int, modes: Sequence[str]) -> tuple[Line, ...]:
    """The legend in words, in as many lines of at most `columns` cells as it takes.

    modes: those that there may be; mode ar alone has nothing that is accepted, or changes.
    """
    lines: list[Line] = []
    for part in _parts("diffusion" in modes or "auto" in modes):
        together = (*lines[-1], *_gap(), *part) if lines else part
        if lines and line_cells(together) <= columns:
            lines[-1] = together
        else:
            lines.append(part)
    return tuple(lines)


def _gap() -> Line:
    return joined([(" " * GAP, PLAIN)])


def _parts(denoised: bool) -> Iterator[Line]:
    """What stays together, each no wider than the narrowest window that should show it."""
    yield joined([("a token's colour: its entropy, nats", PLAIN)])
    scale = [("sure ", PLAIN)]
    for level in LEVELS:
        scale += [(level.label, Style(color=level.on_both)), (" ", PLAIN)]
    yield joined([*scale, ("noise", PLAIN)])
    if denoised:
        yield joined([("bold", Style(bold=True)), (" accepted for the next step", PLAIN)])
        yield joined([("underlined", Style(underline=True)), (" changed in this step", PLAIN)])
    yield joined([("dim", FAINT), (" a thought, or behind the end", PLAIN)])
    yield joined([("no colour: finished text", PLAIN)])
