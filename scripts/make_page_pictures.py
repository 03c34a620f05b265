#!/usr/bin/env python3
"""Write docs/page-light.png and docs/page-dark.png: the server's page while an answer settles.

    .venv/bin/python scripts/make_page_pictures.py

tiny-chat tells the story of scripts/demo, held at one step of its second canvas until both schemes
were seen. Needs chromium, chromedriver and Pillow.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from mlx_diffgemma.serve.dialects.routes import DIALECTS
from mlx_diffgemma.serve.events import Draft, Event

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "serve")]
browser, live, tiny = map(import_module, ("browser", "live", "tiny_engines"))

QUESTION, SEED = "Tell me a story about an owl", "12"
CANVAS, STEP = 1, 3  # the draft that is shown, counted from 0
WIDTH, HEIGHT = 860, 600  # pixels
COLOURS = 256  # of a picture's palette


@dataclass
class Held:
    """An engine whose answers wait at one draft until they may go on."""

    engine: Any
    go_on: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def answer(self, *asked: Any) -> Iterator[Event]:
        """The engine's events, with a pause."""
        for event in self.engine.answer(*asked):
            yield event
            if isinstance(event, Draft) and (event.canvas, event.step) == (CANVAS, STEP):
                self.go_on.wait(60)


def main() -> None:
    """Write both pictures, and say how large they are."""
    engine = Held(tiny.tiny_engine("tiny-chat"))
    with (
        tempfile.TemporaryDirectory() as profile,
        live.running(engine, DIALECTS) as server,
        browser.chromium(Path(profile)) as window,
    ):
        window.size(WIDTH, HEIGHT)
        window.prefer(prefers_reduced_motion="reduce")
        window.open(server.url)
        window.click("#more")
        window.type("#seed", SEED)
        window.click("#more")
        window.type("#ask", QUESTION + browser.ENTER)
        place = f"canvas {CANVAS + 1} · step {STEP + 1} "
        window.wait(lambda: window.text(".answer .where").startswith(place))
        for scheme in ("light", "dark"):
            window.prefer(prefers_reduced_motion="reduce", prefers_color_scheme=scheme)
            write(ROOT / "docs" / f"page-{scheme}.png", window.picture())
        engine.go_on.set()


def write(file: Path, png: str) -> None:
    """Write a picture with a small palette; png: in base64."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
