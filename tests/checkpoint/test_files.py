"""Files that may be missing: none is an empty one, and whatever else is wrong is an error."""

from pathlib import Path

import pytest
from facts import raises

from mlx_diffgemma.checkpoint.files import (
    is_there,
    read_object,
    read_optional,
    read_text,
    require_no_lost_file,
    whole,
)
from mlx_diffgemma.errors import CheckpointError


def test_no_file_is_an_empty_object(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    assert read_optional(file) == {}
    with pytest.raises(CheckpointError, match=r"generation_config\.json: not found"):
        read_object(file)


def test_a_link_into_an_emptied_cache_is_no_missing_file(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    file.symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: not found"):
        read_optional(file)


def test_every_reader_takes_a_link_to_nothing_for_a_lost_file(tmp_path: Path) -> None:
    """Bug: an emptied cache gave other sampler settings and another template, without a word."""
    (tmp_path / "file").symlink_to(tmp_path / "gone")
    for ask in (is_there, read_text, read_object, read_optional):
        with raises(CheckpointError, tmp_path / "file", "not found ... link to nothing ... cache"):
            ask(tmp_path / "file")
    with raises(CheckpointError, tmp_path / "file", "link to nothing"):
        require_no_lost_file(tmp_path)
    (tmp_path / "gone").write_text("{}")
    require_no_lost_file(tmp_path)
    assert is_there(tmp_path / "file")


def test_text_begins_behind_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "file") == "a\nb\nc\n"


@pytest.mark.parametrize("value", [None, True, 8.0, "8", -1, 10, [8], 2**70])
def test_a_whole_number_is_one_in_its_range(value: object) -> None:
    assert whole(8, "it", 0, 9) == 8
    with raises(ValueError, "it", repr(value), "whole number"):
        whole(value, "it", 0, 9)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for content in (b"[]", b"{", b"\xff", b"[" * 200_000):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a JSON object; download") as error:
            read_optional(tmp_path / "file")
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        read_optional(tmp_path)
