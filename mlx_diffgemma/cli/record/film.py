"""A recording as pictures of one size, and those as an SVG or a page that plays without a program.

A line that stays the same over several steps is written once, with the time in which it is seen: an
animation in CSS, which also plays where an image may hold no script, as in a README. Without
animations the last step shows. Colours follow the scheme of whoever looks at it, light or dark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from rich.cells import cell_len
from rich.style import Style

from ...generation.certainty import DARK, LIGHT
from ..terminal.colours import LEVEL_OF
from ..terminal.legend import legend
from ..terminal.live import REDRAWS_PER_SECOND
from ..terminal.picture import Picture, Size, Snapshot, line_cells, render
from ..terminal.wrap import Line
from .pace import Pace
from .recording import Recording

COLUMNS, ROWS = 80, 50
HOLD_SECONDS = 2.0  # the last step, before it begins again
SVG_MARK = 'data-generator="mlx-diffgemma"'  # by which an image, or a page, is known again
PAGE_MARK = '<meta name="generator" content="mlx-diffgemma">'
CELL, ROW, FONT, MARGIN = 8.4, 19, 14, 12  # pixels
FAMILY = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


@dataclass(frozen=True)
class Film:
    """Pictures of equally many lines, and the seconds from the start at which each comes."""

    pictures: tuple[Picture, ...]
    starts: tuple[float, ...]
    length: float  # seconds
    columns: int
    legend: Line
    prompt: str | None = None
    note: str | None = None  # on an answer that is wrong or not whole

    @property
    def rows(self) -> int:
        """Lines of each picture."""
        return len(self.pictures[0].lines)


@dataclass(frozen=True)
class Stretch:
    """A line of text that stands in row `row` from picture `first` up to picture `end`."""

    row: int
    line: Line
    first: int
    end: int


def make_film(recording: Recording, pace: Pace) -> Film:
    """A picture a step, each for its time, but no more than 12 a second.

    Tokens that come sooner behind one another share a picture, so that they take their own time.
    """
    scene, snapshots, starts, now = recording.scene(), list[Snapshot](), list[float](), 0.0
    steps = [frame for frame in recording.frames if not frame.committed]
    for frame in recording.frames:
        scene.take(frame)
        if frame.committed:
            continue
        gap = 1 / REDRAWS_PER_SECOND if frame.mode == "diffusion" else 0.0
        due = starts[-1] + 1 / REDRAWS_PER_SECOND if starts else 0.0
        if (now >= due or frame is steps[-1]) and (snapshot := scene.snapshot()) is not None:
            snapshots.append(snapshot)
            starts.append(max(now, due))
        now = max(now + pace.seconds(frame), starts[-1] + gap)
    size = Size(COLUMNS, ROWS)
    first = [render(snapshot, size) for snapshot in snapshots]
    below = legend("diffusion" in recording.modes)
    lines = [below, *(line for picture in first for line in picture.lines)]
    floor = max(picture.status for picture in first)
    pictures = tuple(render(snapshot, replace(size, floor=floor)) for snapshot in snapshots)
    columns = max(map(line_cells, lines))
    length = starts[-1] + HOLD_SECONDS
    note = _note(recording)
    return Film(pictures, tuple(starts), length, columns, below, recording.prompt, note)


def _note(recording: Recording) -> str | None:
    if recording.refused is not None:
        return f"Refused: {recording.refused}"
    return None if recording.finished else "The generation was interrupted here."


def svg(film: Film, title: str) -> str:
    """The film as an animated image, with a legend below."""
    width = round(film.columns * CELL + 2 * MARGIN)
    height = (film.rows + 2) * ROW + 2 * MARGIN
    count = len(film.pictures)
    stretches = [*_stretches(film), Stretch(film.rows + 1, film.legend, 0, count)]
    classes = _Classes()
    body = "\n".join(_drawn(stretch, count, classes) for stretch in stretches)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}" {SVG_MARK}>\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{_style(film, stretches, classes)}</style>\n"
        f'<rect width="100%" height="100%" rx="8"/>\n'
        f'<g transform="translate({MARGIN} {MARGIN})">\n{body}\n</g>\n</svg>\n'
    )


def _stretches(film: Film) -> Iterator[Stretch]:
    """Every line, once for each stretch of pictures that show it."""
    for row in range(film.rows):
        lines = [picture.lines[row] for picture in film.pictures]
        first = 0
        for end in range(1, len(lines) + 1):
            if end == len(lines) or lines[end] != lines[first]:
                if lines[first]:
                    yield Stretch(row, lines[first], first, end)
                first = end


class _Classes:
    """Styles as CSS classes, numbered as they come."""

    def __init__(self) -> None:
        self.numbers: dict[Style, int] = {}

    def name(self, style: Style | None) -> str:
        return f"s{self.numbers.setdefault(style or Style(), len(self.numbers))}"

    def rules(self) -> Iterator[str]:
        """Fonts and light colours first, then the dark ones."""
        for style, number in self.numbers.items():
            yield f".s{number}{{fill:{_colour(style, dark=False)}{_font(style)}}}"
        yield f"rect{{fill:{LIGHT.back}}}"
        dark = (f".s{n}{{fill:{_colour(style, dark=True)}}}" for style, n in self.numbers.items())
        yield f"@media (prefers-color-scheme:dark){{rect{{fill:{DARK.back}}}{''.join(dark)}}}"


def _colour(style: Style, *, dark: bool) -> str:
    """The colour of a level; without one that of text, or of what is dim."""
    if style.color is None:
        ground = DARK if dark else LIGHT
        return ground.faint if style.dim else ground.text
    level = LEVEL_OF[style.color.name]
    return level.on_dark if dark else level.on_light


def _font(style: Style) -> str:
    """Bold and underlined as on the screen; italic for what is dim there, but has a certainty."""
    css = ";font-weight:bold" if style.bold else ""
    css += ";text-decoration:underline" if style.underline else ""
    return css + (";font-style:italic" if style.dim and style.color else "")


def _drawn(stretch: Stretch, num_pictures: int, classes: _Classes) -> str:
    """A line's texts, in a group that is shown in its time."""
    texts, cells = [], 0
    for text, style, _ in stretch.line:
        # Blanks inside become hard ones, and those outside a place: viewers drop and merge others.
        inside = text.strip(" ")
        if inside:
            x = (cells + len(text) - len(text.lstrip(" "))) * CELL
            content = escape(inside.replace(" ", "\u00a0"))
            texts.append(
                f'<text class="{classes.name(style)}" x="{x:.4g}" y="{stretch.row * ROW + FONT}" '
                f'textLength="{cell_len(inside) * CELL:.4g}">{content}</text>'
            )
        cells += cell_len(text)
    content = "".join(texts)
    if (stretch.first, stretch.end) == (0, num_pictures):
        return content
    return f'<g class="{_name(stretch)}">{content}</g>'


def _name(stretch: Stretch) -> str:
    return f"t{stretch.first}-{stretch.end}"


def _style(film: Film, stretches: Sequence[Stretch], classes: _Classes) -> str:
    """Fonts, colours, and for each time a line may be seen its animation."""
    rules = [f"text{{font:{FONT}px {FAMILY}}}", *classes.rules()]
    count = len(film.pictures)
    for stretch in {_name(t): t for t in stretches if (t.first, t.end) != (0, count)}.values():
        name = _name(stretch)
        begin = 100 * film.starts[stretch.first] / film.length
        end = 100 * film.starts[stretch.end] / film.length if stretch.end < count else 100.0
        seen = "visible" if stretch.end == count else "hidden"
        frames = f"{begin:.4g}%{{visibility:visible}}"
        frames = ("0%{visibility:hidden}" if stretch.first else "") + frames
        frames += f"{end:.4g}%{{visibility:hidden}}" if stretch.end < count else ""
        rules.append(
            f".{name}{{visibility:{seen};animation:{name} {film.length:.4g}s step-end infinite}}"
            f"@keyframes {name}{{{frames}}}"
        )
    rules.append("@media (prefers-reduced-motion){g{animation:none!important}}")
    return "\n".join(rules) + "\n"
