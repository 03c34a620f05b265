#!/usr/bin/env python3
"""Render pictures of Sudokus in many styles: scripts/render_sudokus.py OUT PUZZLES

OUT, which must not exist yet, gets 001.png, 002.png ... for the lines of PUZZLES, 81 cells each. A
seed gives the same pictures where Pillow and the fonts are the same: those of DejaVu and Liberation
where the system has them, and the one that Pillow carries.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mlx_diffgemma.assets.sudoku import parse_puzzle
from mlx_diffgemma.errors import PromptError

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts")
FAMILIES = ("DejaVuSans", "DejaVuSerif", "LiberationSans", "LiberationSerif", "LiberationMono")
UNREAD = ("Oblique", "Italic", "ExtraLight", "MathTeX", "Narrow")
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Style:
    """The looks of a grid; sizes are shares of a cell. font: a file, None for Pillow's own.

    second: the ink of about half of the digits; shade: of every second box; faint: of candidates;
    candidates: the share of blanks that have some.
    """

    font: Path | None = None
    paper: Colour = WHITE
    ink: Colour = BLACK
    second: Colour | None = None
    thick: Colour = BLACK
    thin: Colour = (120, 120, 120)
    shade: Colour | None = None
    faint: Colour = (185, 185, 185)
    cell: int = 44
    margin: float = 0.5
    digit: float = 0.56
    thick_width: float = 0.06
    thin_width: float = 0.025
    shift: tuple[float, float] = (0.0, 0.0)
    candidates: float = 0.0


def font_files() -> list[Path | None]:
    """The upright fonts of FAMILIES on this system, and None for Pillow's own."""
    found = {
        path.name: path
        for folder in FOLDERS
        for path in Path(folder).rglob("*.ttf")
        if path.name.startswith(FAMILIES) and not any(word in path.name for word in UNREAD)
    }
    return [*(found[name] for name in sorted(found)), None]


def random_style(rng: Generator, fonts: Sequence[Path | None]) -> Style:
    """A style as apps, papers and books have them, ink and paper always apart."""
    paper, ink = random_colours(rng)
    dark = sum(paper) < sum(ink)
    return Style(
        font=fonts[int(rng.integers(len(fonts)))],
        paper=paper,
        ink=ink,
        second=mixed(ink, _tint(rng), 0.4) if rng.random() < 0.25 else None,
        thick=mixed(paper, ink, rng.uniform(0.6, 1)),
        thin=mixed(paper, ink, rng.uniform(0.25, 0.8)),
        shade=mixed(paper, ink, rng.uniform(0.04, 0.14)) if rng.random() < 0.25 else None,
        faint=mixed(paper, ink, rng.uniform(0.22, 0.45)),
        cell=int(rng.integers(28, 80)),
        margin=rng.uniform(0.06, 1.5) if rng.random() < 0.8 else 0.05,
        digit=rng.uniform(0.42, 0.62) if not dark else rng.uniform(0.45, 0.6),
        thick_width=rng.uniform(0.035, 0.09),
        thin_width=rng.uniform(0.015, 0.04),
        shift=(rng.normal(0, 0.02), rng.normal(0, 0.02)),
        candidates=rng.uniform(0.2, 0.8) if rng.random() < 0.1 else 0.0,
    )


def random_colours(rng: Generator) -> tuple[Colour, Colour]:
    """Paper and ink: mostly black on white, some of it tinted, a fifth light on dark."""
    kind = rng.random()
    if kind < 0.5:
        return _grey(rng, 235, 256), _grey(rng, 0, 60)
    if kind < 0.8:
        paper = mixed(_grey(rng, 215, 250), _tint(rng), 0.12)
        return paper, mixed(_grey(rng, 0, 50), _tint(rng), 0.25)
    return mixed(_grey(rng, 0, 60), _tint(rng), 0.15), _grey(rng, 200, 256)


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """A colour between `a` and `b`, so much of the way."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def draw(grid: str, style: Style, rng: Generator) -> Image.Image:
    """A picture of a grid of 81 characters, "0" for a blank."""
    margin = max(2, round(style.margin * style.cell))
    side = 9 * style.cell + 2 * margin
    image = Image.new("RGB", (side, side), style.paper)
    pen = ImageDraw.Draw(image)
    if style.shade:
        for box in range(1, 9, 2):
            left, top = margin + box % 3 * 3 * style.cell, margin + box // 3 * 3 * style.cell
            pen.rectangle([left, top, left + 3 * style.cell, top + 3 * style.cell], style.shade)
    draw_lines(pen, margin, style)
    draw_digits(pen, margin, grid, style, rng)
    return image


def draw_lines(pen: ImageDraw.ImageDraw, margin: int, style: Style) -> None:
    """The thin lines between cells, then the thick ones around boxes."""
    end = margin + 9 * style.cell
    thin = style.thin, max(1, round(style.thin_width * style.cell)), range(10)
    thick = style.thick, max(1, round(style.thick_width * style.cell)), range(0, 10, 3)
    for colour, width, lines in (thin, thick):
        for line in lines:
            at, spare = margin + line * style.cell, width // 2
            pen.line([(at, margin - spare), (at, end + spare)], colour, width)
            pen.line([(margin - spare, at), (end + spare, at)], colour, width)


def draw_digits(
    pen: ImageDraw.ImageDraw, margin: int, grid: str, style: Style, rng: Generator
) -> None:
    """The givens, and candidates in some of the blanks."""
    font, small = sized(style.font, style.digit * style.cell), sized(style.font, style.cell * 0.19)
    for index, digit in enumerate(grid):
        row, column = divmod(index, 9)
        x = margin + (column + 0.5 + style.shift[0]) * style.cell
        y = margin + (row + 0.5 + style.shift[1]) * style.cell
        if digit != "0":
            ink = style.second if style.second and rng.random() < 0.5 else style.ink
            pen.text((x, y), digit, ink, font, anchor="mm")
        elif rng.random() < style.candidates:
            for number in np.flatnonzero(rng.random(9) < 0.4):
                down, right = (number // 3 - 1) * 0.28, (number % 3 - 1) * 0.28
                place = x + right * style.cell, y + down * style.cell
                pen.text(place, str(number + 1), style.faint, small, anchor="mm")


def sized(path: Path | None, height: float) -> Font:
    """A font whose digits are about so many pixels tall."""
    trial = opened(path, 100)
    _, top, _, bottom = trial.getbbox("0123456789")
    return opened(path, max(5.0, 100 * height / (bottom - top)))


def opened(path: Path | None, size: float) -> Font:
    """A font at a size in pixels; path: None for Pillow's own."""
    if path is not None:
        return ImageFont.truetype(path, size)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("this Pillow has no FreeType; install one of the wheels.")
    return font


def worn(image: Image.Image, rng: Generator, style: Style) -> Image.Image:
    """The picture as a scan or a photo from straight above may have it: turned by a degree at most,
    blurred, unevenly lit, with grain, and packed as JPEG.
    """
    turned = image.rotate(rng.uniform(-0.8, 0.8), Image.Resampling.BICUBIC, fillcolor=style.paper)
    soft = turned.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8) * style.cell / 48))
    x, y = np.meshgrid(np.linspace(-1, 1, image.width), np.linspace(-1, 1, image.height))
    light = 1 + rng.normal(0, 0.06) * x + rng.normal(0, 0.06) * y
    grain = rng.normal(0, rng.uniform(1, 14), (image.height, image.width, 1))
    lit = np.asarray(soft) * light[:, :, None] + grain
    packed = BytesIO()
    Image.fromarray(lit.clip(0, 255).astype(np.uint8)).save(
        packed, "JPEG", quality=int(rng.integers(40, 90))
    )
    return Image.open(packed).convert("RGB")


def random_pictures(
    puzzles: Sequence[str], seed: int, fonts: Sequence[Path | None], *, noisy: bool = False
) -> Iterator[Image.Image]:
    """A picture of each puzzle, every one in a style of its own."""
    for number, puzzle in enumerate(puzzles):
        rng = np.random.default_rng([seed, number])
        style = random_style(rng, fonts)
        image = draw(puzzle, style, rng)
        yield worn(image, rng, style) if noisy else image


def _grey(rng: Generator, least: int, end: int) -> Colour:
    level = int(rng.integers(least, end))
    return level, level, level


def _tint(rng: Generator) -> Colour:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; must not exist")
    parser.add_argument("puzzles", type=Path, metavar="PUZZLES", help="a file, 81 cells a line")
    parser.add_argument("--seed", type=int, default=1, help="of styles and noise [1]")
    looks = parser.add_mutually_exclusive_group()
    looks.add_argument("--plain", action="store_true", help="black on white, in the first font")
    looks.add_argument("--noisy", action="store_true", help="worn: turned, blurred, grainy, JPEG")
    arguments = parser.parse_args()
    try:
        puzzles = [parse_puzzle(line) for line in arguments.puzzles.read_text().split()]
        arguments.out.mkdir()
        fonts, noisy = font_files(), arguments.noisy
        images = random_pictures(puzzles, arguments.seed, fonts, noisy=noisy)
        if arguments.plain:
            plain = Style(font=fonts[0])
            images = iter(draw(puzzle, plain, np.random.default_rng(0)) for puzzle in puzzles)
        for number, image in enumerate(images, 1):
            image.save(arguments.out / f"{number:03d}.png", optimize=True)
    except (PromptError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
