"""Writing of one shard from front to back, hashed on the way: tensors come in the plan's order.

Shapes are known before any number is, so that the header goes first and nothing waits in memory.
Format: 8 bytes little-endian header length, JSON header, data (huggingface/safetensors).
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from ..machine.files import WholeFile
from .hashing import FileRecord
from .table import Output


@dataclass
class ShardWriter:
    """A shard that a thread of its own writes, while the caller packs the next block."""

    file: Path
    outputs: Sequence[Output]
    stream: BinaryIO = field(init=False)
    thread: ThreadPoolExecutor = field(init=False)
    pending: Future[None] | None = None
    written: int = 0

    def __post_init__(self) -> None:
        self.stream = self.file.open("wb", buffering=0)
        self.thread = ThreadPoolExecutor(1, "write")
        self.digest = hashlib.sha256()
        self.write(memoryview(shard_header(self.outputs)))

    def close(self) -> None:
        """Close the file, whole or not, once the thread is done with it."""
        self.thread.shutdown()
        self.stream.close()

    def write(self, data: memoryview) -> None:
        """Append bytes; return when those given before are on their way to the disk."""
        self._settle()
        self.pending = self.thread.submit(self._append, data)

    def finish(self) -> FileRecord:
        """Wait until all is on the disk."""
        self._settle()
        os.fsync(self.stream.fileno())
        expected = len(shard_header(self.outputs)) + sum(out.num_bytes for out in self.outputs)
        if self.written != expected:
            raise RuntimeError(f"{self.file}: {self.written} bytes written, {expected} planned")
        return FileRecord(self.written, self.digest.hexdigest())

    def _settle(self) -> None:
        if self.pending is not None:
            self.pending.result()

    def _append(self, data: memoryview) -> None:
        try:
            rest = data
            while rest:
                rest = rest[self.stream.write(rest) :]
        except OSError as error:
            error.filename = error.filename or str(self.file)
            raise
        self.digest.update(data)
        self.written += len(data)


def shard_header(outputs: Sequence[Output]) -> bytes:
    """The header of a shard that holds `outputs` in this order, padded to whole 8 bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for output in outputs:
        begin, end = end, end + output.num_bytes
        entries[output.name] = {
            "dtype": output.dtype,
            "shape": list(output.shape),
            "data_offsets": [begin, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header


def write_synced(file: Path, content: bytes) -> FileRecord:
    """Write a small file, whole or not at all."""
    with WholeFile(file) as out:
        out.write(content)
    return FileRecord(len(content), hashlib.sha256(content).hexdigest())


def write_arrays(file: Path, arrays: Mapping[str, mx.array]) -> None:
    """Write float32 arrays, whole or not at all; OSError where the disk is full.

    mx.save_safetensors says nothing on a full disk and leaves a part of the file.
    """
    outputs = [Output(name, "F32", array.shape, 32) for name, array in arrays.items()]
    with WholeFile(file) as out:
        out.append(shard_header(outputs))
        for array in arrays.values():
            out.append(np.asarray(mx.contiguous(array.astype(mx.float32))).tobytes())
        out.finish()
