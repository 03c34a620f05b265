"""A recording as pictures of one size, and those as an SVG or a page that plays without a program.

A line that stays the same over several steps is written once, with the time in which it is seen: an
animation in CSS, which also plays where an image may hold no script, as in a README. Without
animations the last step shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from rich.cells import cell_len
from rich.color import blend_rgb
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME

from ..terminal.live import REDRAWS_PER_SECOND
from ..terminal.picture import Picture, Size, Snapshot, render
from ..terminal.wrap import Line
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


def make_film(recording: Recording, speed: float) -> Film:
    """A picture a step, each for as long as its step took, but no more than 12 a second."""
    scene, snapshots, starts, now = recording.scene(), list[Snapshot](), list[float](), 0.0
    for frame in recording.frames:
        scene.take(frame)
        if (snapshot := scene.snapshot()) is not None:
            snapshots.append(snapshot)
            starts.append(now)
            now += max(frame.seconds / speed, 1 / REDRAWS_PER_SECOND)
    size = Size(COLUMNS, ROWS)
    first = [render(snapshot, size) for snapshot in snapshots]
    columns = max(_cells(line) for picture in first for line in picture.lines)
    floor = max(len(picture.lines) for picture in first) - 1
    pictures = tuple(render(snapshot, replace(size, floor=floor)) for snapshot in snapshots)
    return Film(pictures, tuple(starts), now + HOLD_SECONDS, columns)


def svg(film: Film, title: str) -> str:
    """The film as an animated image."""
    width = round(film.columns * CELL + 2 * MARGIN)
    height = film.rows * ROW + 2 * MARGIN
    stretches = list(_stretches(film))
    classes = _Classes()
    body = "\n".join(_drawn(stretch, len(film.pictures), classes) for stretch in stretches)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}" {SVG_MARK}>\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{_style(film, stretches, classes)}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{THEME.background_color.hex}"/>\n'
        f'<g transform="translate({MARGIN} {MARGIN})">\n{body}\n</g>\n</svg>\n'
    )


def html(film: Film, title: str) -> str:
    """A page of its own: the image, a button that stops it and a slider through its time."""
    image, length = svg(film, title), 1000 * film.length
    return PAGE.format(mark=PAGE_MARK, title=escape(title), image=image, length=length)


def _cells(line: Line) -> int:
    return sum(cell_len(segment.text) for segment in line)


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
        self.numbers: dict[str, int] = {}

    def name(self, style: Style | None) -> str:
        css = _css(style or Style())
        return f"s{self.numbers.setdefault(css, len(self.numbers))}"

    def rules(self) -> Iterator[str]:
        return (f".s{number}{{{css}}}" for css, number in self.numbers.items())


def _css(style: Style) -> str:
    fore, back = THEME.foreground_color, THEME.background_color
    colour = style.color.get_truecolor(THEME) if style.color else fore
    if style.dim:
        colour = blend_rgb(colour, back, 0.5)
    css = f"fill:{colour.hex}"
    css += ";font-weight:bold" if style.bold else ""
    return css + (";text-decoration:underline" if style.underline else "")


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


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<title>{title}</title>
<style>
body {{ margin: 2em auto; max-width: max-content; font: 15px system-ui, sans-serif; }}
svg {{ display: block; max-width: 100%; height: auto; }}
div {{ display: flex; gap: 1em; margin: 1em 0; }}
input {{ flex: 1; }}
</style>
</head>
<body>
{image}
<div><button>Pause</button><input type="range" min="0" max="{length:.0f}" value="0"></div>
<script>
const films = () => document.querySelector("svg").getAnimations({{subtree: true}});
const button = document.querySelector("button"), slider = document.querySelector("input");
let paused = false;
const pause = (wanted) => {{
  paused = wanted;
  button.textContent = paused ? "Play" : "Pause";
  films().forEach((film) => paused ? film.pause() : film.play());
}};
button.onclick = () => pause(!paused);
slider.oninput = () => {{
  pause(true);
  films().forEach((film) => film.currentTime = +slider.value);
}};
setInterval(() => {{
  const film = films()[0];
  if (film && !paused) slider.value = film.currentTime % {length:.0f};
}}, 100);
</script>
</body>
</html>
"""
