"""Video files for tests, written by PyAV: each frame a grey of its own."""

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CODECS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "matroska": "libx264",
    "webm": "libvpx-vp9",
    "avi": "mpeg4",
}
"""A container, as FFmpeg calls it -> the codec of its test files."""


def film(
    seconds: float = 3,
    kind: str = "mp4",
    *,
    rate: int = 10,
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] | None = None,
    keyframes: int = 12,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    sound: float = 0,
    codec: str | None = None,
    place: Path | None = None,
) -> bytes:
    """Frame n has the grey 8 * (n % 28) + 16 everywhere, but for a white upper left quarter.

    times: of the frames in ticks of 1/rate seconds; keyframes: frames from one to the next at
    most; sound: seconds of silence beside it; place: a file, for what needs
    one.
    """
    av = pytest.importorskip("av", reason="video files were not checked")
    out = BytesIO()
    with av.open(place or out, "w", format=kind, options=container_options or {}) as container:
        video = container.add_stream(codec or CODECS[kind], rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.bit_rate = 4_000_000
        video.codec_context.gop_size = keyframes
        video.codec_context.time_base = Fraction(1, rate)
        audio = (
            container.add_stream("aac" if kind != "webm" else "libopus", rate=48000)
            if sound
            else None
        )
        for number, time in enumerate(times or range(round(seconds * rate))):
            frame = av.VideoFrame.from_ndarray(shaded(number, size), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio:
            _silence(av, container, audio, sound)
    return place.read_bytes() if place else out.getvalue()


def shade(number: int) -> int:
    return 8 * (number % 28) + 16


def shaded(number: int, size: tuple[int, int]) -> Any:
    width, height = size
    frame = np.full((height, width, 3), shade(number), np.uint8)
    frame[: height // 2, : width // 2] = 255
    return frame


def sound_only(cover: bool = False) -> bytes:
    """An mp4 without pictures, but for one on its cover."""
    av = pytest.importorskip("av", reason="video files were not checked")
    out = BytesIO()
    with av.open(out, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=48000)
        if cover:
            video = container.add_stream("mjpeg", rate=1)
            video.width, video.height, video.pix_fmt = 32, 32, "yuvj420p"
            video.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(shaded(0, (32, 32)), format="rgb24")
            frame.pts = 0
            container.mux(video.encode(frame))
            container.mux(video.encode(None))
        _silence(av, container, audio, 1)
    return out.getvalue()


def _silence(av: Any, container: Any, audio: Any, seconds: float) -> None:
    for start in range(0, int(seconds * 48000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))
