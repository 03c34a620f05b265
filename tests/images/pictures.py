"""Images for tests, made from a seed: every mode, odd sizes, files of every format."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")
CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}


def picture(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth colours with some noise; palettes, and where there is an alpha all grades of it."""
    random = np.random.default_rng(seed)
    width, height = size
    small = random.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    image = Image.fromarray(small, "RGBA").resize(size, Image.Resampling.BILINEAR)
    noise = random.integers(-20, 21, (height, width, 4))
    rough = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    if mode in ("P", "PA"):
        return _with_palette(rough, mode, random.integers(0, 256, 768, dtype=np.uint8))
    if mode == "1":
        return Image.fromarray(rough[..., 0]).convert("1")
    channels = rough[..., [0, 3]] if mode == "LA" else rough[..., : CHANNELS[mode]]
    return Image.frombytes(mode, size, np.ascontiguousarray(channels).tobytes())


def _with_palette(rough: Any, mode: str, palette: Any) -> Image.Image:
    height, width, _ = rough.shape
    channels = rough[..., :1] if mode == "P" else rough[..., [0, 3]]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(channels).tobytes())
    image.putpalette(palette.tobytes())
    return image


def sizes(count: int, seed: int = 7) -> list[tuple[int, int]]:
    """Widths and heights of all magnitudes from 1 to 3,000, and the most extreme of shapes."""
    extreme = [(1, 5000), (5000, 1), (1, 1), (1, 2), (48, 48), (47, 4700), (3, 2999), (2999, 3)]
    random = np.random.default_rng(seed)
    sides = np.exp(random.uniform(0, np.log(1500), (count, 2))).astype(int)
    return (extreme + [(int(w), int(h)) for w, h in sides])[:count]


def file_of(image: Image.Image, kind: str, **how: Any) -> bytes:
    """The image as the bytes of a file."""
    out = BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def stored(image: Image.Image) -> Any:
    """The pixels of an image in its own mode, uint8 [H, W, channels]; mode 1 is 0 and 255."""
    plain = image.convert("L") if image.mode == "1" else image
    return np.frombuffer(plain.tobytes(), np.uint8).reshape(image.height, image.width, -1)


def restored(mode: str, pixels: Any, palette: Any = None) -> Image.Image:
    """The image of what `stored` gave."""
    height, width, _ = pixels.shape
    if mode == "1":
        return Image.frombytes("L", (width, height), pixels.tobytes()).convert("1")
    image = Image.frombytes(mode, (width, height), pixels.tobytes())
    if palette is not None:
        image.putpalette(palette.tobytes())
    return image
