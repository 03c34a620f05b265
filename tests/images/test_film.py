"""Video files, through PyAV: which frames are taken, and what is refused."""

import random
import struct
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import assert_says, raises
from films import CODECS, film, shade, sound_only
from test_formats import damaged

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.film import SLACK, Extent, Film
from mlx_diffgemma.images.pixels import Source
from mlx_diffgemma.images.video import Clip, moments, prepare_video

pytest.importorskip("av", reason="video files were not checked")


def seen(clip: Clip) -> list[int]:
    """The grey of each frame, of its lower right quarter."""
    return [int(frame.rgb[-20:, -20:].mean()) for frame in clip.frames]


def assert_seen(clip: Clip, numbers: list[int]) -> None:
    greys = [shade(number) for number in numbers]
    assert len(clip.frames) == len(clip.stamps) == len(numbers)
    assert np.abs(np.subtract(seen(clip), greys)).max() <= 3, (seen(clip), greys)


# --- which frames


@pytest.mark.parametrize("kind", CODECS)
def test_every_container_gives_a_frame_a_second(kind: str) -> None:
    clip = prepare_video(film(3.5, kind), 4)
    assert (clip.seconds, clip.source_frames) == (3.5, 35)
    assert clip.stamps == ("00:00", "00:01", "00:02", "00:03")
    assert_seen(clip, [0, 10, 20, 30])


def test_90_seconds_are_60_frames_of_one_and_a_half() -> None:
    clip = prepare_video(film(90, rate=2, keyframes=20), 1)
    assert (clip.seconds, clip.source_frames, clip.step_seconds) == (90.0, 180, 1.5)
    assert_seen(clip, [3 * k for k in range(60)])
    assert clip.stamps[:4] == ("00:00", "00:01", "00:03", "00:04")
    assert clip.stamps[-1] == "01:28"


def test_the_minutes_of_a_stamp_go_on_above_59() -> None:
    clip = prepare_video(film(times=[0, 100, 7000, 7200], rate=1, codec="mpeg4"), 1)
    assert clip.stamps[-1] == "118:00"
    assert_seen(clip, [0 if 120 * k < 100 else 1 if 120 * k < 7000 else 2 for k in range(60)])


def test_a_variable_frame_rate_counts_time_not_frames() -> None:
    clip = prepare_video(film(times=[0, 1, 2, 25, 31, 38], options={"bf": "0"}), 4)
    assert (clip.source_frames, clip.seconds) == (6, 3.9)
    assert_seen(clip, [0, 2, 2, 3])


def test_frames_that_are_stored_in_another_order_are_shown_in_theirs() -> None:
    clip = prepare_video(film(times=[0, 1, 2, 25, 31, 38], options={"bf": "3"}), 4)
    assert len(clip.frames) >= 4
    assert_seen(clip, [0, 2, 2, 3, 5][: len(clip.frames)])


def test_time_begins_with_the_first_frame() -> None:
    clip = prepare_video(film(times=list(range(50, 80)), rate=10, kind="matroska"), 4)
    assert clip.seconds == 3.0
    assert_seen(clip, [0, 10, 20])


def test_what_an_edit_list_cuts_away_is_not_shown() -> None:
    """As a phone trims: the first two seconds are in the file, and are decoded only."""
    data = film(6, keyframes=50)
    list_, scale = data.index(b"elst") + 12, data.index(b"mdhd") + 16
    seconds, start = struct.unpack(">ii", data[list_ : list_ + 8])
    (ticks,) = struct.unpack(">I", data[scale : scale + 4])
    edited = struct.pack(">ii", seconds * 4 // 6, start + 2 * ticks)
    clip = prepare_video(data[:list_] + edited + data[list_ + 8 :], 4)
    assert (clip.seconds, clip.source_frames) == (4.0, 40)
    assert_seen(clip, [20, 30, 40, 50])


def test_the_end_is_that_of_the_frame_shown_last() -> None:
    """Not of one that states a longer time, and was stored later."""
    extent = Extent()
    for start, length in ((0, 9), (3, 1), (1, 9), (2, 1)):
        extent.add(Fraction(start), Fraction(length))
    assert (extent.first, extent.last, extent.end, extent.seconds) == (0, 3, 4, 4)


def test_sound_that_goes_on_makes_no_video_longer() -> None:
    clip = prepare_video(film(3, sound=6), 4)
    assert (clip.seconds, len(clip.frames)) == (3.0, 3)


def test_a_single_frame_lasts_as_long_as_it_says_or_a_second() -> None:
    assert prepare_video(film(times=[0], rate=1), 4).stamps == ("00:00",)


def test_a_file_without_lengths_of_packets_ends_a_usual_frame_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note = Film._note

    def without_length(self: Film, packet: Any, *others: Any) -> None:
        packet.duration = 0
        note(self, packet, *others)

    monkeypatch.setattr(Film, "_note", without_length)
    assert prepare_video(film(3), 4).seconds == 3.0
    assert prepare_video(film(times=[0]), 4).seconds == 1.0


def test_a_recording_that_states_no_length_is_looked_through() -> None:
    """As a browser records: the length in the header of a live stream is unknown."""
    data = film(3, "webm", container_options={"live": "1"})
    clip = prepare_video(data, 4)
    assert clip.seconds == pytest.approx(3.0, abs=0.15)
    assert_seen(clip, [0, 10, 20])


@pytest.mark.parametrize(
    ("options", "keyframes"),
    [
        ({"bf": "3", "open_gop": "1", "x264-params": "open-gop=1:bframes=3"}, 7),
        ({"bf": "0"}, 1),
        ({"bf": "2"}, 250),
    ],
    ids=["open groups", "keyframes only", "one keyframe"],
)
def test_skipping_gives_the_frames_of_decoding_all(options: dict[str, str], keyframes: int) -> None:
    data = film(12, rate=10, keyframes=keyframes, options=options)
    clip = prepare_video(data, 4)
    assert_seen(clip, [10 * k for k in range(12)])
    every = [Fraction(k, 7) for k in range(84)]
    frames = list(Film(lambda: BytesIO(data), "x", Source(None, "")).at(every))
    greys = [int(np.asarray(frame.image)[-9:, -9:].mean()) for frame in frames]
    expected = [shade(int(time * 10)) for time in every]
    assert np.abs(np.subtract(greys, expected)).max() <= 3


def test_stretches_without_a_wanted_frame_are_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlx_diffgemma.images import film as module

    data = film(40, rate=5, keyframes=5)
    starts: list[Fraction] = []
    start = module._start

    def counted(frame: Any) -> Fraction:
        starts.append(start(frame))
        return start(frame)

    monkeypatch.setattr(module, "_start", counted)
    taken = list(Film(lambda: BytesIO(data), "x", Source(None, "")).at([Fraction(0), Fraction(30)]))
    assert len(taken) == 2
    assert len(starts) < 40  # of 200


def test_a_frame_is_on_view_until_the_next_begins() -> None:
    data = film(times=[0, 5, 30], rate=10, kind="matroska")
    times = [Fraction(n, 10) for n in (0, 4, 5, 29, 30, 99)]
    frames = Film(lambda: BytesIO(data), "x", Source(None, "")).at(times)
    greys = [int(np.asarray(frame.image)[-9:, -9:].mean()) for frame in frames]
    assert np.abs(np.subtract(greys, [shade(n) for n in (0, 0, 1, 1, 2, 2)])).max() <= 3


@pytest.mark.parametrize(
    ("seconds", "count", "last"),
    [
        (Fraction(1, 25), 1, 0),
        (1, 1, 0),
        (Fraction(101, 100), 2, 1),
        (60, 60, 59),
        (Fraction(6001, 100), 60, Fraction(6001 * 59, 6000)),
        (3600, 60, 3540),
    ],
)
def test_the_rule_of_moments(seconds: Any, count: int, last: Any) -> None:
    times = moments(Fraction(seconds))
    assert (len(times), times[0], times[-1]) == (count, 0, last)
    assert all(time < seconds for time in times)


def test_a_video_of_no_time_has_a_frame() -> None:
    assert moments(Fraction(0)) == [0]


# --- turned and sized


def turned(data: bytes, matrix: tuple[int, ...]) -> bytes:
    """The mp4 with another matrix in its track header, 16.16 fixed point, the last column 2.30."""
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    packed = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return data[:at] + packed + data[at + 36 :]


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, -1)),  # a quarter clockwise: what was at the left is at the top
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (-1, 0)),
    ],
)
def test_a_phone_held_sideways_is_turned_upright(
    matrix: tuple[int, ...], corner: tuple[int, int]
) -> None:
    """The white quarter, in the upper left of the stored frame, shows the turn."""
    clip = prepare_video(turned(film(2, size=(96, 48)), matrix), 8)
    (frame, _) = clip.frames
    size = (frame.width, frame.height)
    assert size == ((48, 96) if matrix[0] == 0 else (96, 48))
    ys, xs = np.nonzero(frame.rgb[..., 0] > 200)
    height, width, _ = frame.rgb.shape
    assert (ys.mean() > height / 2, xs.mean() > width / 2) == (corner[0] == -1, corner[1] == -1)


def test_sizes_are_those_of_the_frames() -> None:
    frame = prepare_video(film(1, size=(128, 72)), 70).frames[0]
    assert (frame.width, frame.height) == (128, 72)
    assert frame.rgb.shape[:2] == (288, 528)


# --- where it came from


def test_a_file_is_named_and_hashed(tmp_path: Path) -> None:
    data = film(2)
    (tmp_path / "a.mp4").write_bytes(data)
    clip, same = prepare_video(tmp_path / "a.mp4", 4), prepare_video(data, 4)
    assert (clip.source.path, same.source.path) == (str(tmp_path / "a.mp4"), None)
    assert clip.source.sha256 == same.source.sha256
    assert [frame.digest for frame in clip.frames] == [frame.digest for frame in same.frames]


# --- refused


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_no_video(cover: bool) -> None:
    with raises(ImageError, "the video", "no video"):
        prepare_video(sound_only(cover))


@pytest.mark.slow
def test_frames_that_the_decoder_had_to_guess_are_not_shown() -> None:
    numbers, base = random.Random(1), film(6, "matroska", size=(128, 96), keyframes=60)
    said = []
    for _ in range(60):
        at = numbers.randrange(800, len(base) - 100)
        try:
            prepare_video(base[:at] + numbers.randbytes(6) + base[at + 6 :], 1)
        except ImageError as error:
            said.append(str(error))
    assert [line for line in said if "damaged frames" in line]


@pytest.mark.parametrize("kind", CODECS)
def test_a_truncated_file_is_refused_or_whole(kind: str) -> None:
    """Behind the last frame of some containers stands an index, which may be missing, and with it
    less than half a second."""
    data = film(6, kind)
    whole = prepare_video(data, 1)
    for share in (0.1, 0.3, 0.5, 0.8, 0.95):
        try:
            clip = prepare_video(data[: int(len(data) * share)], 1)
        except ImageError as error:
            assert_says(error, "the video")
        else:
            assert share > 0.5
            assert clip.seconds > whole.seconds - SLACK
            assert [f.digest for f in clip.frames] == [f.digest for f in whole.frames]


def test_a_download_that_stopped_behind_the_index_is_refused(tmp_path: Path) -> None:
    """The index at the front states the whole length; a file may end between two packets too."""
    front = {"movflags": "faststart"}
    data = film(8, container_options=front, options={"bf": "0"}, place=tmp_path / "a.mp4")
    assert prepare_video(data, 1).seconds == 8.0
    for length in range(len(data) // 2, len(data) // 2 + 60):
        with raises(ImageError, "the video", "incomplete"):
            prepare_video(data[:length], 1)


def test_a_file_that_ends_before_the_length_it_states_says_both() -> None:
    data = film(8, "matroska")
    at = data.index(b"\x44\x89\x88") + 3  # the duration, a float of 8 bytes in milliseconds
    data = data[:at] + struct.pack(">d", 30_000) + data[at + 8 :]
    with raises(ImageError, "the video", "8.0 ... 30.0 seconds"):
        prepare_video(data, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, world",
        b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd",
    ],
    ids=["empty", "text", "playlist", "concat"],
)
def test_what_is_no_video_is_one_line(data: bytes, tmp_path: Path) -> None:
    """A list of other files is none: nothing that it names is opened."""
    file = tmp_path / "a.mp4"
    file.write_bytes(data)
    with raises(ImageError, "a.mp4", "mp4, mov, mkv, webm, avi"):
        prepare_video(file)


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI LIST"])
def test_the_head_of_a_video_and_nothing_more_is_broken(head: bytes) -> None:
    with raises(ImageError, "the video", "broken or incomplete"):
        prepare_video(head + bytes(200))


def test_more_pixels_than_can_be_decoded_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_diffgemma.images import formats

    monkeypatch.setattr(formats, "MOST_PIXELS", 64 * 48 - 1)
    with raises(ImageError, "the video", "64 x 48", "3,071"):
        prepare_video(film(1))


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("absent.mp4", "absent.mp4 ... No such file"),
        ("", "video ... empty"),
        ("https://x/a.mp4", "https://x/a.mp4 ... fetched"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(path: str, facts: str) -> None:
    with raises(ImageError, facts):
        prepare_video(path)


@pytest.mark.parametrize("other", [None, 5, {}])
def test_other_things_are_refused(other: Any) -> None:
    with raises(ImageError, "the video"):
        prepare_video(other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CODECS)
def test_damaged_files_give_frames_or_one_line(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = random.Random(9)
    data = film(4, kind, size=(32, 32))
    capfd.readouterr()  # of the encoder
    for _ in range(150):
        try:
            assert prepare_video(damaged(data, numbers), 1).frames
        except ImageError as error:
            assert_says(error, "the video")
    assert capfd.readouterr() == ("", "")
