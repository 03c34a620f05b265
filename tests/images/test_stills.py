"""Lists of images and folders of frames as a video."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from facts import raises
from pictures import file_of, picture

from mlx_diffgemma.errors import ImageError, SettingsError
from mlx_diffgemma.images.prepare import prepare_image
from mlx_diffgemma.images.stills import frames_of
from mlx_diffgemma.images.video import prepare_video


def folder(tmp_path: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(file_of(picture((20, 10), seed=number), "PNG"))
    return tmp_path


def test_images_of_a_list_are_a_second_each() -> None:
    images = [picture((20, 10), seed=0), np.asarray(picture((10, 20), seed=1)), picture((9, 9))]
    clip = prepare_video(images, 6)
    assert [frame.digest for frame in clip.frames] == [
        prepare_image(image, 6).digest for image in images
    ]
    assert clip.stamps == ("00:00", "00:01", "00:02")
    assert (clip.seconds, clip.source_frames, clip.step_seconds) == (3.0, 3, 1.0)
    assert clip.soft_tokens == sum(frame.soft_tokens for frame in clip.frames)


def test_a_frame_has_70_soft_tokens_at_most_by_default() -> None:
    assert 60 < prepare_video([picture((20, 20))]).soft_tokens <= 70


def test_more_than_60_images_are_sampled() -> None:
    images = [np.full((8, 8), number, np.uint8) for number in range(90)]
    clip = prepare_video(images, 1)
    assert [int(frame.rgb[0, 0, 0]) for frame in clip.frames] == [3 * k // 2 for k in range(60)]
    assert clip.stamps[:4] == ("00:00", "00:01", "00:03", "00:04")
    assert (clip.stamps[-1], clip.seconds, clip.source_frames) == ("01:28", 90.0, 90)
    assert clip.step_seconds == 1.5


def test_what_is_prepared_stays_prepared() -> None:
    pixels = prepare_image(picture((20, 20)), 70)
    assert prepare_video([pixels]).frames[0] is pixels
    with raises(SettingsError, "64 soft tokens", "soft_tokens", "4"):
        prepare_video([pixels], 4)


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_image_is_no_video(nothing: object) -> None:
    with raises(ImageError, "0 frames"):
        prepare_video(nothing)


def test_a_list_with_something_else_names_it() -> None:
    with raises(ImageError, "None", "path ... bytes"):
        prepare_video([picture((9, 9)), None])


# --- folders


def test_a_folder_goes_in_the_natural_order_of_its_names(tmp_path: Path) -> None:
    names = ("img10.png", "img2.png", "IMG1.PNG", "img02b.png", "other.png", "7.png")
    ordered = [file.name for file in frames_of(folder(tmp_path, *names))]
    assert ordered == ["7.png", "IMG1.PNG", "img2.png", "img02b.png", "img10.png", "other.png"]


def test_a_folder_is_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(tmp_path, "b10.png", "b9.png")
    clip = prepare_video(place, 4)
    files = [place / "b9.png", place / "b10.png"]
    assert [frame.source.path for frame in clip.frames] == [str(file) for file in files]
    assert clip.stamps == ("00:00", "00:01")
    assert clip.source.path == str(tmp_path)
    hashes = "".join(sha256(file.read_bytes()).hexdigest() for file in files)
    assert clip.source.sha256 == sha256(hashes.encode()).hexdigest()
    monkeypatch.chdir(place)
    assert prepare_video(".", 4).source == clip.source


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    folder(tmp_path, "1.png", "2.png")
    (tmp_path / ".DS_Store").write_bytes(b"rubbish")
    assert len(prepare_video(tmp_path, 4).frames) == 2


@pytest.mark.parametrize(
    ("others", "facts"),
    [
        (["notes.txt"], "notes.txt ... no image"),
        (["b.json", "a.json", "c.mp4"], "a.json ... 2 others"),
        (["readme", "x.md"], "readme ... 1 other"),
    ],
)
def test_other_files_are_named_not_left_out(others: list[str], facts: str, tmp_path: Path) -> None:
    folder(tmp_path, "1.png")
    for name in others:
        (tmp_path / name).touch()
    with raises(ImageError, facts):
        prepare_video(tmp_path)


def test_a_folder_without_images_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").touch()
    with raises(ImageError, tmp_path.name, "0 frames"):
        prepare_video(tmp_path)


def test_a_frame_that_is_broken_is_named(tmp_path: Path) -> None:
    folder(tmp_path, "1.png", "2.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with raises(ImageError, "2.png", "PNG image"):
        prepare_video(tmp_path)


def test_a_folder_inside_is_named(tmp_path: Path) -> None:
    folder(tmp_path, "1.png")
    (tmp_path / "more").mkdir()
    with raises(ImageError, "more", "no image"):
        prepare_video(tmp_path)
    (tmp_path / "more").rename(tmp_path / "more.png")
    with raises(ImageError, "more.png", "directory"):
        prepare_video(tmp_path)
