"""Prepared images and videos as JSON, from one Mac to another: the very pixels, decoded once."""

from base64 import b64decode, b64encode
from typing import Any

import numpy as np

from .pixels import Pixels, Source
from .video import Clip


def media_to_json(media: tuple[Pixels | Clip, ...]) -> list[dict[str, Any]]:
    """Images and videos, each as an object."""
    return [_clip_to_json(m) if isinstance(m, Clip) else _to_json(m) for m in media]


def media_from_json(value: list[dict[str, Any]]) -> tuple[Pixels | Clip, ...]:
    """The images and videos that `media_to_json` told of."""
    return tuple(_clip(each) if "frames" in each else pixels_from_json(each) for each in value)


def pixels_from_json(value: dict[str, Any]) -> Pixels:
    """One image."""
    rgb = np.frombuffer(b64decode(value["rgb"]), np.uint8).reshape(value["shape"])
    return Pixels(rgb, value["width"], value["height"], Source(*value["source"]))


def _to_json(pixels: Pixels) -> dict[str, Any]:
    return {
        "rgb": b64encode(np.ascontiguousarray(pixels.rgb).tobytes()).decode(),
        "shape": pixels.rgb.shape,
        "width": pixels.width,
        "height": pixels.height,
        "source": [pixels.source.path, pixels.source.sha256],
    }


def _clip_to_json(clip: Clip) -> dict[str, Any]:
    return {
        "frames": [_to_json(frame) for frame in clip.frames],
        "stamps": clip.stamps,
        "seconds": clip.seconds,
        "source": [clip.source.path, clip.source.sha256],
        "source_frames": clip.source_frames,
    }


def _clip(value: dict[str, Any]) -> Clip:
    frames = tuple(map(pixels_from_json, value["frames"]))
    source = Source(*value["source"])
    return Clip(frames, tuple(value["stamps"]), value["seconds"], source, value["source_frames"])
