"""The live view as a pure function: a Snapshot of a generation and a size -> lines of styled text.

A token's colour shows its entropy; a token of a canvas is bold where it was accepted and underlined
where this step changed it; thoughts, control tokens and tokens behind the end are dim. Without
colour the text is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from ...assets import Layout
from ...conversation.scene import FINISHED, Drawn, Run
from ...text.pieces import ANSWER, THINKING
from .colours import LEVELS
from .status import Numbers, Written, status_line
from .wrap import DOT, Line, Wrapper, atoms, joined

PLAIN, FAINT = Style(), Style(dim=True)
STATUS = Style(reverse=True)


def _token_styles() -> list[Style]:
    """By certainty + 5 * accepted + 10 * changed."""
    return [
        Style(color=level.on_both, bold=accepted or None, underline=changed or None)
        for changed in (False, True)
        for accepted in (False, True)
        for level in LEVELS
    ]


TOKEN_STYLES = _token_styles()
DIM_STYLES = [style + FAINT for style in TOKEN_STYLES]

LEAST_ROOM = 3  # rows of text, before anything may stand below the status line


@dataclass(frozen=True)
class Snapshot:
    """A generation after a step or a token.

    drawn: its segment; finished: those before this one. layout: where the canvas's positions stand
    on the screen where they do not follow one another. written: token by token, from left to right.
    """

    drawn: Drawn
    finished: tuple[Run, ...]
    numbers: Numbers | Written
    layout: Layout | None = None
    written: bool = False


@dataclass(frozen=True)
class Size:
    """Columns and rows of a screen; the status line stands no higher than row `floor`."""

    columns: int
    rows: int
    floor: int = 0


@dataclass(frozen=True)
class Picture:
    """Lines to show, top to bottom, the status line as number `status`; a Rich renderable."""

    lines: tuple[Line, ...]
    status: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            yield from line
            yield Segment.line()


def render(snapshot: Snapshot, size: Size, below: Sequence[Line] = (), hint: str = "") -> Picture:
    """At most size.rows lines of at most size.columns cells: text, canvas, status line, `below`.

    Of `below` those lines that fit, where the canvas keeps its room; of the status line's `hint`
    what status_line says.
    """
    columns, rows = max(1, size.columns), max(1, size.rows)
    layout = _fitting(snapshot.layout, columns, rows - 1)
    spare = max(0, rows - 1 - (len(layout) if layout else LEAST_ROOM))
    below = [line for line in below if line_cells(line) <= columns][:spare]
    room = rows - 1 - len(below)
    styles = token_styles(snapshot.drawn)
    if layout:
        body = [_row(row, snapshot.drawn.pieces, styles) for row in layout]
    else:
        body = _flow(snapshot, styles, columns, room)
    body += [()] * (min(size.floor, room) - len(body))
    status = (Segment(status_line(snapshot.numbers, columns, hint), STATUS),)
    return Picture((*body, status, *below), len(body))


def line_cells(line: Line) -> int:
    """The width of a line."""
    return sum(cell_len(segment.text) for segment in line)


def token_styles(drawn: Drawn) -> list[Style]:
    """The style of each position."""
    codes = drawn.levels + 5 * drawn.accepted + 10 * drawn.changed
    return [
        TOKEN_STYLES[code] if role == ANSWER else DIM_STYLES[code] if role == THINKING else FAINT
        for code, role in zip(codes.tolist(), drawn.roles, strict=True)
    ]


def _fitting(layout: Layout | None, columns: int, rows: int) -> Layout | None:
    """The layout if it can be shown whole."""
    if not layout or len(layout) > rows:
        return None
    width = max(sum(1 if isinstance(part, int) else len(part) for part in row) for row in layout)
    return layout if width <= columns else None


def _row(row: Sequence[str | int], pieces: Sequence[str], styles: Sequence[Style]) -> Line:
    """One row of a layout; a cell shows a dot where its token is not one character wide."""
    parts: list[tuple[str, Style]] = []
    for part in row:
        if isinstance(part, str):
            parts.append((part, FAINT))
            continue
        shown = atoms(pieces[part]) if part < len(pieces) else ()
        single = len(shown) == 1 and shown[0][1] == 1 and shown[0][0] != "\n"
        parts.append((shown[0][0], styles[part]) if single else (DOT, FAINT))
    return joined(parts)


def _flow(snapshot: Snapshot, styles: Sequence[Style], columns: int, room: int) -> list[Line]:
    """Finished text and segment, wrapped; of more than fits, the part where something happens."""
    if not room:
        return []
    wrapper = _wrapped(snapshot.finished, columns).copy(room)
    before = len(wrapper.lines)
    active = -1  # the first line with a token that is not accepted or has just changed
    drawn = snapshot.drawn
    restless = (drawn.changed | ~drawn.accepted).tolist()
    for piece, style, moving in zip(drawn.pieces, styles, restless, strict=True):
        if moving and active < 0:
            active = len(wrapper.lines)
        wrapper.add(piece, style)
    lines = wrapper.finished()
    if snapshot.written:
        return lines[-room:]
    return _window(lines, before if active < 0 else active, room)


def _window(lines: list[Line], active: int, room: int) -> list[Line]:
    """At most `room` lines: the last ones, or those from shortly before line `active` on."""
    start = max(0, min(len(lines) - room, active - 1))
    return lines[start : start + room]


@lru_cache(maxsize=2)
def _wrapped(finished: tuple[Run, ...], columns: int) -> Wrapper:
    """The finished text, wrapped once a canvas and not once a step; never changed."""
    wrapper = Wrapper(columns)
    for text, kind in finished:
        wrapper.add(text, PLAIN if kind == FINISHED else FAINT)
    return wrapper
