"""Pillow, pillow-heif and PyAV that are not there, or broken: what to install."""

import subprocess
import sys

import numpy as np
import pytest
from facts import raises
from pictures import file_of, picture

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.prepare import prepare_image
from mlx_diffgemma.images.video import prepare_video

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
MP4 = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40)
IMAGE, VIDEO = '"mlx-diffgemma[image]" ... ".[image]"', '"mlx-diffgemma[video]" ... ".[video]"'


def lacking(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        for name in [*sys.modules, package]:
            if name.partition(".")[0] == package:
                monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("image", [b"", np.zeros((2, 2), np.uint8), "absent.png"], ids=str)
def test_without_pillow_nothing_is_opened(image: object, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "PIL")
    for prepare in (prepare_image, prepare_video):
        with raises(ImageError, "Pillow", "not installed", IMAGE):
            prepare(image)


def test_without_pillow_heif_an_iphone_photo_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "pillow_heif")
    prepare_image(file_of(picture((9, 9)), "PNG"))
    with raises(ImageError, "the image", "pillow-heif", "not installed", IMAGE):
        prepare_image(HEIC)


def test_without_pyav_a_video_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "av")
    prepare_video([picture((9, 9))])
    prepare_video(file_of(picture((9, 9)), "GIF"))
    with raises(ImageError, "the video", "PyAV", "not installed", VIDEO):
        prepare_video(MP4)


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (ImportError("libavcodec.so.62: cannot open shared object file"), "libavcodec.so.62"),
        (ModuleNotFoundError("No module named 'cffi'", name="cffi"), "cffi"),
    ],
)
def test_a_broken_library_is_not_called_absent(
    error: ImportError, fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "av":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "av"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with raises(ImageError, "PyAV", "broken", fact, VIDEO):
        prepare_video(MP4)


def test_naming_the_functions_loads_no_library() -> None:
    code = (
        "import sys, mlx_diffgemma as dg; dg.prepare_image, dg.prepare_video, dg.Clip, dg.Pixels;"
        "print({'PIL', 'pillow_heif', 'av'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_importing_the_package_loads_not_even_numpy() -> None:
    code = "import sys, mlx_diffgemma; print({'PIL', 'numpy', 'av', 'mlx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
