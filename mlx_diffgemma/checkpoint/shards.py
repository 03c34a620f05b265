"""Safetensors files of a checkpoint folder, and the tensors that their headers promise.

Headers alone are read here, without MLX, so that a broken download is found before any weight is
touched and a folder can be described without loading it.
"""

import math
import os
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, brief, one_line, shown
from ..machine.dtypes import ITEM_BYTES
from ..machine.files import parse_json
from .files import is_there, leads_nowhere, read_object, whole
from .vision import VISION

CONVERT_AGAIN = "download it again, or convert the bf16 checkpoint"
SIDE_FILE = "optiq/optiq_vision.safetensors"  # the vision tower of a folder that OptiQ packed
MOST_HEADER_BYTES = 100_000_000  # huggingface/safetensors, MAX_HEADER_SIZE
NUMBERED = re.compile(r"(.*-)(\d+)(-of-)(\d+)(\.safetensors)", re.DOTALL)  # a shard's name


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
        for name, info in read_header(file, shape_only).items():
            if name in found:
                raise CheckpointError(
                    f"{name} is in both {found[name].file.name} and {file.name}; keep one."
                )
            found[name] = info
            if file == folder / SIDE_FILE and not VISION.match(name):
                raise CheckpointError(
                    f"{file}: holds {shown(name)}, expected tensors of the vision tower alone; "
                    f"{CONVERT_AGAIN}."
                )
    return found


def shard_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those its index names, or all where it has none.

    Last comes the side file that holds the vision tower of some folders.
    """
    files, named_by = named_shards(folder)
    for file in files:
        if not os.path.exists(file):  # Path.exists raises for names that are too long
            why = (
                "it is a link to nothing"
                if leads_nowhere(file)
                else f"but {shown(named_by)} names it"
            )
            raise CheckpointError(f"{shown(str(file), 300)}: not found, {why}; {CONVERT_AGAIN}.")
    side = folder / SIDE_FILE
    return [*files, side] if is_there(side) and side not in files else files


def named_shards(folder: Path) -> tuple[list[Path], str]:
    """The safetensors files that a folder should have, and the name of the file that says so.

    Without an index they are those that are there, and the rest of those that are numbered:
    `model-00001-of-00002.safetensors` is one of two.
    """
    index = folder / "model.safetensors.index.json"
    if not is_there(index):
        return _numbered_shards(folder)
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index}: no weight_map; {CONVERT_AGAIN}.")
    for name in names.values():
        if not isinstance(name, str) or not name or "\0" in name or _leads_out(name):
            raise CheckpointError(
                f"{index}: {brief(name)} is no name of a file in here; {CONVERT_AGAIN}."
            )
    return sorted({folder / name for name in names.values()}), index.name


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")


def _numbered_shards(folder: Path) -> tuple[list[Path], str]:
    # ._model.safetensors is what a Mac puts beside a file on a disk of another system's
    files = sorted(f for f in folder.glob("*.safetensors") if not f.name.startswith("."))
    if not files:
        raise CheckpointError(
            f"{folder}: no *.safetensors file; only safetensors checkpoints are read."
        )
    for file in files:
        if found := NUMBERED.fullmatch(file.name):
            before, number, of, count, after = found.groups()
            if len(count) < 6 and 1 <= int(number) <= int(count):
                names = (
                    f"{before}{n:0{len(number)}}{of}{count}{after}"
                    for n in range(1, int(count) + 1)
                )
                return sorted({*files, *(folder / name for name in names)}), file.name
    return files, files[0].name


def read_header(
    file: Path, shape_only: bool = False, remedy: str = CONVERT_AGAIN
) -> dict[str, TensorInfo]:
    """The header of one safetensors file, checked against the file's size.

    remedy: the end of the error about a file that is not whole. Format: 8 bytes little-endian
    header length, JSON header, data (huggingface/safetensors).
    """
    try:
        size = file.stat().st_size  # fails on a link into a Hub cache that was emptied
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, MOST_HEADER_BYTES):
                raise ValueError(f"header of {length:,} bytes in a file of {size:,}")
            header = parse_json(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("the header is no object")
        header.pop("__metadata__", None)
        start = 8 + length
        tensors = {name: _tensor_info(name, file, entry, start) for name, entry in header.items()}
        expected = _end(tensors, start)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        reason = one_line(error)
        raise CheckpointError(
            f"{file}: not a whole safetensors file ({reason}); {remedy}."
        ) from None
    if size != expected and not (shape_only and size == start):
        raise CheckpointError(
            f"{file}: {size:,} bytes, expected {expected:,}; the file is "
            f"{'cut short' if size < expected else 'too long'}, {remedy}."
        )
    return tensors


def _end(tensors: Mapping[str, TensorInfo], start: int) -> int:
    """The end of the last tensor; ValueError where two share bytes, which the format forbids."""
    end, last = start, ""
    for name, info in sorted(tensors.items(), key=lambda pair: pair[1].offset):
        if info.num_bytes and info.offset < end:
            raise ValueError(f"{shown(last)} and {shown(name)} overlap")
        end, last = max(end, info.offset + info.num_bytes), name
    return end


def _tensor_info(name: str, file: Path, entry: Mapping[str, Any], start: int) -> TensorInfo:
    shape = tuple(whole(size, "a size", least=0) for size in entry["shape"])
    first, last = (whole(offset, "an offset", least=0) for offset in entry["data_offsets"])
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"dtype {brief(dtype)} is not supported")
    count = ITEM_BYTES[dtype] * math.prod(shape)
    if last - first != count:
        raise ValueError(f"{last - first} bytes for {dtype} {shown(str(list(shape)))}")
    return TensorInfo(name, file, dtype, shape, count, start + first)
