"""Animations as videos: their own durations count."""

import random
from typing import Any

import numpy as np
import pytest
from facts import assert_says, raises
from pictures import file_of, picture
from PIL import Image
from test_formats import damaged

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.video import Clip, prepare_video


def shades(count: int, size: tuple[int, int] = (16, 16)) -> list[Image.Image]:
    return [Image.new("RGB", size, (9 * number + 5,) * 3) for number in range(count)]


def animation(kind: str, frames: list[Image.Image], duration: Any, **how: Any) -> bytes:
    exact = {"WEBP": {"lossless": True}, "PNG": {"default_image": False}}.get(kind, {})
    return file_of(
        frames[0], kind, save_all=True, append_images=frames[1:], duration=duration, **exact | how
    )


def seen(clip: Clip) -> list[int]:
    """The number of each frame in its animation, by its shade."""
    return [round((float(frame.rgb.mean()) - 5) / 9) for frame in clip.frames]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_frames_are_taken_by_their_own_durations(kind: str) -> None:
    clip = prepare_video(animation(kind, shades(12), 250), 1)
    assert (clip.seconds, clip.source_frames) == (3.0, 12)
    assert seen(clip) == [0, 4, 8]
    assert clip.stamps == ("00:00", "00:01", "00:02")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_durations_may_differ(kind: str) -> None:
    clip = prepare_video(animation(kind, shades(5), [1500, 100, 1400, 3000, 500]), 1)
    assert (clip.seconds, clip.source_frames) == (6.5, 5)
    assert seen(clip) == [0, 0, 2, 3, 3, 3, 4]


def test_the_last_part_of_a_second_has_a_frame() -> None:
    clip = prepare_video(animation("GIF", shades(12), 100), 1)
    assert (clip.seconds, seen(clip), clip.stamps) == (1.2, [0, 10], ("00:00", "00:01"))


def test_a_long_animation_is_sampled() -> None:
    clip = prepare_video(animation("GIF", shades(25), 5000), 1)
    assert (clip.seconds, len(clip.frames), clip.step_seconds) == (125.0, 60, 125 / 60)
    assert seen(clip) == [int(k * 125 / 60 // 5) for k in range(60)]
    assert (clip.stamps[1], clip.stamps[-1]) == ("00:02", "02:02")


@pytest.mark.parametrize(("stated", "seconds"), [(0, 1.2), (10, 1.2), (20, 0.24)])
def test_frames_that_state_no_time_are_shown_as_browsers_do(stated: int, seconds: float) -> None:
    clip = prepare_video(animation("GIF", shades(12), stated), 1)
    assert clip.seconds == pytest.approx(seconds)


def test_durations_of_thirds_add_up_to_whole_seconds() -> None:
    """An APNG states fractions, which Pillow gives as floats: three thirds are one second."""
    clip = prepare_video(animation("PNG", shades(6), 1000 / 3), 1)
    assert clip.seconds == pytest.approx(2.0, abs=0.01)


def test_the_still_image_before_an_apng_is_not_in_it() -> None:
    first, *rest = shades(4)
    data = animation("PNG", [first, *rest], 1000, default_image=True)
    assert seen(prepare_video(data, 1)) == [1, 2, 3]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF"])
def test_a_still_image_is_a_video_of_one_frame(kind: str) -> None:
    clip = prepare_video(file_of(shades(3)[2], kind), 1)
    assert (seen(clip), clip.stamps, clip.seconds) == ([2], ("00:00",), 1.0)


def test_previews_in_a_cameras_file_are_no_frames() -> None:
    data = file_of(shades(1)[0], "MPO", save_all=True, append_images=shades(3)[1:])
    assert seen(prepare_video(data, 1)) == [0]


def test_pages_are_a_second_each() -> None:
    data = file_of(shades(1)[0], "TIFF", save_all=True, append_images=shades(4)[1:])
    assert seen(prepare_video(data, 1)) == [0, 1, 2, 3]


def test_only_what_changes_is_stored_and_the_rest_is_seen_too() -> None:
    """Frames of a GIF are differences, transparent where nothing changed."""
    frames = [Image.new("RGB", (48, 48), (250, 0, 0)) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.paste((0, 0, 250), (0, 0, 16 * number + 1, 8))
    clip = prepare_video(animation("GIF", frames, 1000), 1)
    for frame, expected in zip(clip.frames, frames, strict=True):
        assert np.abs(frame.rgb.astype(int) - np.asarray(expected)).max() < 16


def test_a_file_is_named_and_bytes_are_told_by_their_hash(tmp_path: Any) -> None:
    data = animation("GIF", shades(3), 1000)
    clip = prepare_video(data, 1)
    assert clip.source.path is None
    (tmp_path / "a.gif").write_bytes(data)
    there = prepare_video(tmp_path / "a.gif", 1)
    assert there.source.path == str(tmp_path / "a.gif")
    assert there.source.sha256 == clip.source.sha256
    assert [frame.source for frame in there.frames] == [there.source] * 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_cut_inside_a_frame_is_refused_or_whole(kind: str) -> None:
    frames = [picture((40, 30), seed=number) for number in range(3)]
    data = animation(kind, frames, 1000)
    whole = prepare_video(data, 4)
    for length in (len(data) // 5, len(data) // 2, len(data) - 9):
        try:
            clip = prepare_video(data[:length], 4)
        except ImageError as error:
            assert_says(error, "the video")
        else:
            assert [f.digest for f in clip.frames] == [f.digest for f in whole.frames]


def test_progress_is_told_after_each_frame() -> None:
    told: list[tuple[int, int]] = []
    prepare_video(animation("GIF", shades(4), 1000), 1, lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_clip_is_returned_as_it_is() -> None:
    clip = prepare_video(animation("GIF", shades(4), 1000), 1)
    assert prepare_video(clip, 70) is clip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_damaged_animations_give_frames_or_one_line(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = random.Random(5)
    data = animation(kind, [picture((20, 16), seed=number) for number in range(4)], 900)
    for _ in range(300):
        try:
            assert prepare_video(damaged(data, numbers), 1).frames
        except ImageError as error:
            assert_says(error, "the video")
    assert capfd.readouterr() == ("", "")


def test_a_huge_canvas_is_refused_before_it_is_drawn() -> None:
    data = bytearray(animation("GIF", shades(3), 1000))
    data[6:10] = b"\xff\xff\xff\xff"
    with raises(ImageError, "the video", "134,217,728"):
        prepare_video(bytes(data))
