"""Safetensors files of a checkpoint folder, and the tensors that their headers promise.

Headers alone are read here, without MLX, so that a broken download is found before any weight is
touched and a folder can be described without loading it.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, one_line
from ..machine.dtypes import ITEM_BYTES
from .files import is_there, read_object

CONVERT_AGAIN = "download it again, or convert the bf16 checkpoint"


@dataclass(frozen=True)
class TensorInfo:
    """A safetensors header's entry for one tensor."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    offset: int = 0  # of its first byte in the file

    @property
    def num_items(self) -> int:
        return math.prod(self.shape)

    def require(self, name: str, shape: tuple[int, ...], dtypes: Iterable[str]) -> None:
        """CheckpointError, under this name, unless shape and dtype are as expected."""
        if self.shape != shape:
            raise CheckpointError(
                f"{name} in {self.file.name}: shape {list(self.shape)}, expected {list(shape)}; "
                f"{CONVERT_AGAIN}."
            )
        if self.dtype not in dtypes:
            raise CheckpointError(
                f"{name} in {self.file.name}: dtype {self.dtype}, expected "
                f"{' or '.join(dtypes)}; {CONVERT_AGAIN}."
            )


def read_headers(folder: Path, *, shape_only: bool = False) -> dict[str, TensorInfo]:
    """Every tensor of a folder's safetensors files, by name, from their headers alone.

    shape_only: a file that ends behind its header, so that it holds shapes and no number, will do.
    """
    found: dict[str, TensorInfo] = {}
    for file in shard_files(folder):
        for name, info in _read_header(file, shape_only).items():
            if name in found:
                raise CheckpointError(
                    f"{name} is in both {found[name].file.name} and {file.name}; keep one."
                )
            found[name] = info
    return found


def shard_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those its index names, or all where it has none."""
    index = folder / "model.safetensors.index.json"
    if not is_there(index):
        # ._model.safetensors is what a Mac puts beside a file on a disk of another system's
        files = sorted(f for f in folder.glob("*.safetensors") if not f.name.startswith("."))
        if not files:
            raise CheckpointError(
                f"{folder}: no *.safetensors file; only safetensors checkpoints are read."
            )
        return files
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index}: no weight_map; {CONVERT_AGAIN}.")
    files = sorted({folder / str(name) for name in names.values()})
    for file in files:
        if not file.exists():
            raise CheckpointError(f"{file}: not found, but {index.name} names it; {CONVERT_AGAIN}.")
    return files


def _read_header(file: Path, shape_only: bool) -> dict[str, TensorInfo]:
    """The header of one safetensors file, checked against the file's size.

    Format: 8 bytes little-endian header length, JSON header, data (huggingface/safetensors).
    """
    try:
        size = file.stat().st_size  # fails on a link into a Hub cache that was emptied
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size - 8:
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length), object_pairs_hook=_once)
        header.pop("__metadata__", None)
        start = 8 + length
        tensors = {name: _tensor_info(name, file, entry, start) for name, entry in header.items()}
        expected = _end(tensors, start)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        reason = one_line(error)
        raise CheckpointError(
            f"{file}: not a whole safetensors file ({reason}); {CONVERT_AGAIN}."
        ) from None
    if size != expected and not (shape_only and size == start):
        raise CheckpointError(
            f"{file}: {size:,} bytes, expected {expected:,}; the file is "
            f"{'cut short' if size < expected else 'too long'}, {CONVERT_AGAIN}."
        )
    return tensors


def _end(tensors: Mapping[str, TensorInfo], start: int) -> int:
    """The end of the last tensor; ValueError where two share bytes, which the format forbids."""
    end, last = start, ""
    for name, info in sorted(tensors.items(), key=lambda pair: pair[1].offset):
        if info.num_bytes and info.offset < end:
            raise ValueError(f"{last} and {name} overlap")
        end, last = max(end, info.offset + info.num_bytes), name
    return end


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError for a key that is there twice, of which json would keep one."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} is there twice")
        found[key] = value
    return found


def _tensor_info(name: str, file: Path, entry: Mapping[str, Any], start: int) -> TensorInfo:
    shape = tuple(int(n) for n in entry["shape"])
    first, last = entry["data_offsets"]
    if entry["dtype"] not in ITEM_BYTES:
        raise ValueError(f"dtype {entry['dtype']!r} is not supported")
    count = ITEM_BYTES[entry["dtype"]] * math.prod(shape)
    if last - first != count or first < 0:
        raise ValueError(f"{last - first} bytes for {entry['dtype']} {list(shape)}")
    return TensorInfo(name, file, entry["dtype"], shape, count, start + first)
