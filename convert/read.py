"""A source checkpoint: its headers, and rows of its tensors, read a block at a time.

A tensor is never in memory as a whole, and nothing but safetensors is read. A block is checked for
NaN and Inf on its bits, which costs a hundredth of converting the block.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import read_config
from ..checkpoint.files import read_object, require_no_lost_file
from ..checkpoint.shards import CONVERT_AGAIN, TensorInfo
from ..checkpoint.tensors import StoredTensors
from ..errors import CheckpointError
from ..machine.dtypes import ITEM_BYTES

CACHED_ITEMS = 1 << 16
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# By dtype: an unsigned integer as wide, the mask of a magnitude, the least that is not finite.
BITS: Mapping[str, tuple[str, int, int]] = {
    "BF16": ("u2", 0x7FFF, 0x7F80),
    "F16": ("u2", 0x7FFF, 0x7C00),
    "F32": ("u4", 0x7FFFFFFF, 0x7F800000),
}

Block = NDArray[np.uint8]  # rows of bytes, [rows, bytes a row]


@dataclass
class SourceCheckpoint(StoredTensors):
    """The small files and headers of a checkpoint to convert."""

    name: str  # in the manifest: a repository id, or the folder's name
    revision: str | None
    raw_config: Mapping[str, Any]

    @property
    def files(self) -> list[Path]:
        """The shards, in order of name."""
        return sorted({info.file for info in self.headers.values()})


def open_checkpoint(
    folder: Path, *, name: str | None = None, revision: str | None = None, shape_only: bool = False
) -> SourceCheckpoint:
    """Read config and headers of `folder`; CheckpointError says what is wrong with them."""
    config = read_config(folder)
    refuse_pickles(folder)
    require_no_lost_file(folder)
    name, raw = name or folder.resolve().name, read_object(folder / "config.json")
    return SourceCheckpoint(folder, config, name, revision, raw, shape_only=shape_only)


def refuse_pickles(folder: Path) -> None:
    """CheckpointError, by name, for a folder with pickled weights in place of safetensors."""
    if any(folder.glob("*.safetensors")):
        return
    found = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if found:
        raise CheckpointError(
            f"{folder / found[0]}: a {Path(found[0]).suffix} file can run code and is not read, "
            "expected *.safetensors; save the checkpoint again with save_pretrained."
        )


@dataclass
class RowReader:
    """A reader of source tensors' rows, for one thread at a time: open files have one position."""

    source: SourceCheckpoint
    streams: dict[Path, BinaryIO] = field(default_factory=dict)

    def rows(self, names: Sequence[str], first: int, count: int) -> Block:
        """`count` rows from `first` on, of the tensors `names` laid one behind the other.

        The tensors' rows, their last axis, have one length. CheckpointError for NaN and Inf.
        """
        infos = [self.source.info(name) for name in names]
        width = infos[0].shape[-1] * ITEM_BYTES[infos[0].dtype]
        block = np.empty((count, width), np.uint8)
        begin = 0
        for info in infos:
            end = begin + math.prod(info.shape[:-1])
            a, b = max(first, begin), min(first + count, end)
            if a < b:
                rows = block[a - first : b - first]
                self._read(info.file, info.offset + (a - begin) * width, rows)
                self._refuse_non_finite(rows, a - begin, info)
            begin = end
        return block

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()

    def _read(self, file: Path, offset: int, rows: Block) -> None:
        try:
            if file not in self.streams:
                self.streams[file] = file.open("rb", buffering=0)
            stream = self.streams[file]
            stream.seek(offset)
            view, got = rows.data.cast("B"), 0
            while got < len(view):
                count = stream.readinto(view[got:])  # type: ignore[attr-defined]
                if not count:
                    raise CheckpointError(
                        f"{file}: ends at byte {offset + got:,}, in the middle of a tensor; "
                        f"{CONVERT_AGAIN}."
                    )
                got += count
        except OSError as error:
            raise CheckpointError(f"{file}: {error.strerror}; {CONVERT_AGAIN}.") from None

    def _refuse_non_finite(self, rows: Block, first: int, info: TensorInfo) -> None:
        """CheckpointError with the tensor's name and the index of the first NaN or Inf."""
        if info.dtype not in BITS:
            return
        kind, mask, limit = BITS[info.dtype]
        bits: NDArray[Any] = rows.view(kind)
        if _largest(bits.reshape(-1), mask) < limit:
            return
        magnitudes = bits & mask
        row, column = (int(i) for i in np.argwhere(magnitudes >= limit)[0])
        what = "Inf" if magnitudes[row, column] == limit else "NaN"
        index = [*(int(i) for i in np.unravel_index(first + row, info.shape[:-1])), column]
        raise CheckpointError(
            f"{info.name} in {info.file.name}: {what} at {index}, expected finite numbers; "
            "download the checkpoint again."
        )


def _largest(bits: NDArray[Any], mask: int) -> int:
    """max(bits & mask), piece by piece: a whole copy costs ten times as much in page faults."""
    buffer = np.empty(min(CACHED_ITEMS, bits.size), bits.dtype)
    largest = 0
    for first in range(0, bits.size, CACHED_ITEMS):
        piece = bits[first : first + CACHED_ITEMS]
        largest = max(largest, int(np.bitwise_and(piece, mask, out=buffer[: piece.size]).max()))
    return largest
