"""Images and videos in a saved conversation: read again from their files, or kept whole."""

import json
from base64 import b64encode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import raises
from PIL import Image
from puzzle import assert_one_line

from mlx_diffgemma.cli.chat import saved
from mlx_diffgemma.cli.chat.saved import SavedConversation, load, loaded_line, save
from mlx_diffgemma.cli.errors import FileError
from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.prepare import prepare_image
from mlx_diffgemma.images.video import Clip, prepare_video
from mlx_diffgemma.machine import libraries
from mlx_diffgemma.text.chat import Message
from mlx_diffgemma.text.placeholders import Medium


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.json"


def drawn(path: Path, seed: int = 0, size: tuple[int, int] = (130, 70)) -> Path:
    """An image file of random pixels."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def moving(path: Path, count: int = 3) -> Path:
    """An animation of so many frames, one a second."""
    frames = [Image.new("RGB", (60, 50), (40 * n, 9, 9)) for n in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000)
    return path


def saved_media(file: Path, *media: Medium, **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """The number that is kept in words, and the entries of a conversation about these."""
    said = (Message("user", "?", media), Message("assistant", "!"))
    kept = save(file, SavedConversation("m", None, said), **options)
    entries: list[dict[str, Any]] = json.loads(file.read_text())["messages"][0]["media"]
    return kept, entries


def loaded(file: Path) -> tuple[Medium, ...]:
    return load(file).messages[0].media


def frames_of(medium: Medium) -> tuple[Any, ...]:
    return medium.frames if isinstance(medium, Clip) else (medium,)


def facts(medium: Medium) -> list[object]:
    """What counts of an image or a video."""
    frames = frames_of(medium)
    told = [(frame.digest, frame.width, frame.height) for frame in frames]
    clip = (medium.stamps, medium.seconds, medium.source_frames) if type(medium) is Clip else None
    return [told, clip, medium.source.path, medium.source.sha256]


# --- and back


def test_images_in_files_are_read_again(file: Path, tmp_path: Path) -> None:
    photo = drawn(tmp_path / "photo.png")
    media = [prepare_image(photo, tokens) for tokens in (280, 70, 99)]
    kept, entries = saved_media(file, *media)
    assert kept == ""
    assert file.stat().st_size < 3000
    assert [entry["path"] for entry in entries] == [str(photo)] * 3
    assert list(map(facts, loaded(file))) == list(map(facts, media))


def test_a_path_is_found_from_any_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    saved_media(file, prepare_image("photo.png", 4))
    monkeypatch.chdir("/")
    assert len(loaded(file)) == 1


def test_videos_in_files_are_read_again(file: Path, tmp_path: Path) -> None:
    film = prepare_video(moving(tmp_path / "film.gif"))
    kept, (entry,) = saved_media(file, film)
    assert (kept, entry["kind"], entry["pictures"], entry["soft_tokens"]) == ("", "video", None, 70)
    assert facts(loaded(file)[0]) == facts(film)


def test_what_is_asked_for_is_kept_whole(file: Path, tmp_path: Path) -> None:
    photo, film = drawn(tmp_path / "photo.png"), moving(tmp_path / "film.gif")
    media = prepare_image(photo, 70), prepare_video(film)
    kept, _ = saved_media(file, *media, with_images=True)
    assert kept == "1 image and 1 video"
    photo.unlink()
    film.unlink()
    assert list(map(facts, loaded(file))) == list(map(facts, media))


def test_what_no_file_gives_back_is_always_kept(file: Path, tmp_path: Path) -> None:
    """A clipboard's picture; a file that is gone, or another by now; an image cut out of one."""
    array = np.asarray(Image.open(drawn(tmp_path / "a.png", 1)))
    gone, changed = drawn(tmp_path / "gone.png", 2), drawn(tmp_path / "changed.png", 3)
    whole = prepare_image(drawn(tmp_path / "whole.png", 4), 4)
    media: list[Medium] = [prepare_image(each, 4) for each in (array, gone, changed)]
    media += [replace(whole, rgb=whole.rgb[:, :48]), prepare_video([array, array])]
    gone.unlink()
    drawn(changed, 5)
    kept, entries = saved_media(file, *media)
    assert kept == "4 images and 1 video"
    assert all(entry["pictures"] and entry["soft_tokens"] is None for entry in entries)
    assert list(map(facts, loaded(file))) == list(map(facts, media))
    assert saved_media(file, *loaded(file))[0] == kept  # and again


def test_an_older_file_is_loaded(file: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    old = {"kind": saved.KIND, "version": 1, "model": "m", "system": None, "messages": messages}
    file.write_text(json.dumps(old))
    assert load(file).messages == (Message("user", "a"), Message("assistant", "b"))


def test_the_line_about_it_counts_them(file: Path, tmp_path: Path) -> None:
    photo, film = drawn(tmp_path / "photo.png"), moving(tmp_path / "film.gif")
    saved_media(file, prepare_image(photo), prepare_image(photo), prepare_video(film))
    line = loaded_line(file, load(file), None)
    assert "2 messages with 2 images and 1 video, saved with m" in line


# --- what cannot be loaded


def test_a_file_that_is_gone_or_has_changed_is_one_line(file: Path, tmp_path: Path) -> None:
    photo = drawn(tmp_path / "photo.png")
    pixels = prepare_image(photo, 4)
    saved_media(file, pixels)
    known = f"{photo} with sha256 {pixels.source.sha256[:12]}"
    way_on = "put that file there ... --with-images"
    photo.unlink()
    with raises(FileError, known, "No such file", way_on, most=450):
        load(file)
    other = prepare_image(drawn(photo, 1), 4).source.sha256
    with raises(FileError, known, other[:12], way_on, most=450):
        load(file)
    photo.write_text("no image")
    with raises(FileError, known, way_on, most=450):
        load(file)


def test_without_pillow_it_says_how_to_get_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_media(file, prepare_image(drawn(tmp_path / "photo.png"), 4), with_images=True)
    monkeypatch.setattr(libraries, "import_module", missing)
    with raises(ImageError, "Pillow ... mlx-diffgemma[image]"):
        load(file)


def missing(name: str) -> None:
    raise ModuleNotFoundError(name=name.partition(".")[0])


def png(width: int, height: int) -> str:
    content = BytesIO()
    Image.new("L", (width, height)).save(content, "PNG")
    return b64encode(content.getvalue()).decode()


PICTURE = {"png": png(48, 96), "width": 5, "height": 10}
FRESH = {
    "kind": "image",
    "path": None,
    "sha256": "0",
    "soft_tokens": None,
    "pictures": [PICTURE],
    "stamps": None,
    "seconds": None,
    "source_frames": None,
}
VIDEO = FRESH | {"kind": "video", "stamps": ["00:00"], "seconds": 1, "source_frames": 1}


def written(file: Path, media: Any, role: str = "user") -> Path:
    message = {"role": role, "content": "", "media": media}
    whole = {"kind": saved.KIND, "version": 2, "model": "m", "system": None}
    file.write_text(json.dumps(whole | {"messages": [message]}))
    return file


def test_entries_as_they_are_made(file: Path) -> None:
    assert [len(frames_of(medium)) for medium in loaded(written(file, [FRESH, VIDEO]))] == [1, 1]


@pytest.mark.parametrize(
    ("media", "part"),
    [
        ({}, "media are no list"),
        ([1], "keys or a kind"),
        ([{k: v for k, v in FRESH.items() if k != "path"}], "keys or a kind"),
        ([FRESH | {"kind": "sound"}], "keys or a kind"),
        ([FRESH | {"kind": []}], "keys or a kind"),
        ([FRESH | {"sha256": 1}], "a path or a hash"),
        ([FRESH | {"path": 1}], "a path or a hash"),
        ([FRESH | {"pictures": []}], "no list of pictures"),
        ([FRESH | {"pictures": [PICTURE, PICTURE]}], "2 pictures of one image"),
        ([FRESH | {"pictures": [{"png": ""}]}], "a picture without"),
        ([FRESH | {"pictures": [PICTURE | {"png": 1}]}], "png is no text"),
        ([FRESH | {"pictures": [PICTURE | {"width": True}]}], "whose size is none"),
        ([FRESH | {"pictures": [PICTURE | {"png": "*"}]}], "base64"),
        ([FRESH | {"pictures": [PICTURE | {"png": ""}]}], "no pixels"),
        ([FRESH | {"pictures": [PICTURE | {"png": png(48, 50)}]}], "(48, 50) pixels"),
        ([FRESH | {"pictures": [PICTURE | {"png": png(4800, 4800)}]}], "at most 1,120"),
        ([FRESH | {"pictures": [PICTURE | {"png": PICTURE["png"][:60]}]}], "the image"),  # type: ignore[index]
        ([FRESH | {"pictures": None}], "neither pictures nor a file"),
        ([FRESH | {"pictures": None, "path": "/x", "soft_tokens": 0}], "neither pictures nor"),
        ([FRESH | {"pictures": None, "path": "/x", "soft_tokens": 1121}], "neither pictures nor"),
        ([VIDEO | {"stamps": []}], "a time for each frame"),
        ([VIDEO | {"stamps": [1]}], "a time for each frame"),
        ([VIDEO | {"seconds": 0}], "without a length"),
        ([VIDEO | {"seconds": True}], "without a length"),
        ([VIDEO | {"source_frames": 0}], "a number of frames"),
    ],
)
def test_entries_that_are_none_are_one_line(file: Path, media: Any, part: str) -> None:
    with raises(FileError, file, "message 1", part, "save it again", most=500):
        load(written(file, media))


def test_an_answer_has_no_images(file: Path) -> None:
    with raises(FileError, "message 1 ... not the user's"):
        load(written(file, [FRESH], "assistant"))


def test_more_than_can_be_loaded_is_not_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "MOST_BYTES", 1 << 20)
    array = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    with raises(FileError, "MiB ... at most 1 ... --with-images"):
        saved_media(file, prepare_image(array, 200))
    assert not file.exists()


# --- in a chat


def test_a_chat_goes_on_with_what_it_saw(
    run: Any, seeing_folder: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--model", seeing_folder, "--max-tokens", 8, "--seed", 1)
    asked = f"/image '{photo}'\nWhat?\n"
    typed = f"{asked}/save a.json\n/save b.json --with-images\nAnd?\n"
    whole = run("chat", *options, input=typed)
    assert "messages to b.json, which keeps 1 image itself." in whole.stderr
    answer = run("chat", *options, input=asked).stdout
    for name in ("a.json", "b.json"):
        if name == "b.json":
            photo.unlink()
        rest = run("chat", *options, "--load", name, input="And?\n")
        assert (rest.exit_code, answer + rest.stdout) == (0, whole.stdout)
    done = run("chat", *options, "--load", "a.json", input="And?\n")
    assert_one_line(done, 1, "the conversation needs", photo, "--with-images")


@pytest.mark.parametrize(
    ("typed", "facts"),
    [
        ("/save --with-images", "/save takes the name of a file"),
        ("/save a.json --with", "/save takes --with-images ... got '--with'"),
    ],
)
def test_what_stands_behind_save_is_a_name_and_one_option(
    run: Any, seeing_folder: Path, tmp_path: Path, monkeypatch: Any, typed: str, facts: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("chat", "--model", seeing_folder, input=f"{typed}\n")
    assert_one_line(done, 1, facts)
    assert list(tmp_path.iterdir()) == []
