"""Files that may be missing: none is an empty one, and whatever else is wrong is an error."""

from pathlib import Path

import pytest

from mlx_diffgemma.checkpoint.files import read_object, read_optional
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


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for content in (b"[]", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a JSON object; download") as error:
            read_optional(tmp_path / "file")
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        read_optional(tmp_path)
