"""Transfer of a shard's tensors from the source to the disk, a block of rows at a time.

Three threads hold one block each: one reads and checks ahead, the caller's packs, one writes.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import mlx.core as mx

from ..machine.dtypes import FLOATS, mlx_dtype
from .pack import pack, to_array, to_bytes
from .plan import BLOCK_BYTES
from .read import Block, RowReader
from .table import Added, Entry
from .write import ShardWriter

T = TypeVar("T")


def transfer(shard: tuple[Entry, ...], reader: RowReader, writer: ShardWriter) -> Iterator[int]:
    """Write the entries of one shard; yield the source bytes of each block that is done."""
    held: list[list[memoryview]] = []
    every = (block for entry in shard for block in read_entry(entry, reader))
    with ThreadPoolExecutor(1, "read") as thread:
        for entry, first, blocks in _ahead(every, thread):
            weight, *others = converted(entry, first, blocks)
            writer.write(weight)
            held.append(others)
            rows = len(blocks[0])
            if first + rows == entry.num_rows:  # scales and biases follow the whole weight
                for part in zip(*held, strict=True):
                    writer.write(memoryview(b"".join(part)))
                held.clear()
            yield rows * entry.row_bytes


def converted(entry: Entry, first: int, blocks: list[Block]) -> list[memoryview]:
    """The rows of each of the entry's outputs, from row `first` on, as bytes."""
    if entry.is_copied:
        return [block.data.cast("B") for block in blocks]
    numbers = read_numbers(entry, blocks)
    if entry.added:
        numbers = with_added(entry.added, first, numbers).astype(numbers.dtype)
    if entry.packing is None:
        mx.eval(numbers)
        return [to_bytes(numbers)]
    return [to_bytes(part) for part in pack(numbers, entry.packing)]


def with_added(added: Added, first: int, numbers: mx.array) -> mx.array:
    """Rows from `first` on with what is added to them, float32."""
    return numbers.astype(mx.float32) + added.rows(first, len(numbers))


def read_numbers(entry: Entry, blocks: list[Block]) -> mx.array:
    """The rows of an entry's inputs as plain numbers [rows, width] in the source's dtype."""
    dtypes = [dtype for _, dtype in entry.inputs]
    weight, *others = (to_array(block, dtype) for block, dtype in zip(blocks, dtypes, strict=True))
    if (packing := entry.unpacking) is None:
        return weight
    scales, *rest = others
    biases, dtype = rest[0] if rest else None, mlx_dtype(FLOATS[entry.dtype])
    return mx.dequantize(
        weight, scales, biases, packing.group_size, packing.bits, packing.mode, dtype=dtype
    )


def read_entry(
    entry: Entry, reader: RowReader, rows_at_once: int | None = None
) -> Iterator[tuple[Entry, int, list[Block]]]:
    """Blocks of an entry's rows, in order: entry, first row, and the bytes of its inputs."""
    step = rows_at_once or block_rows(entry)
    for first in range(0, entry.num_rows, step):
        count = min(step, entry.num_rows - first)
        yield entry, first, [reader.rows(names, first, count) for names, _ in entry.inputs]


def block_rows(entry: Entry) -> int:
    """The number of an entry's rows in a block."""
    return max(1, BLOCK_BYTES // entry.row_bytes)


@contextmanager
def small_cache() -> Iterator[None]:
    """Keep MLX from holding on to more freed memory than two blocks."""
    before = mx.set_cache_limit(2 * BLOCK_BYTES)
    try:
        yield
    finally:
        mx.set_cache_limit(before)
        mx.clear_cache()


def _ahead(items: Iterator[T], thread: ThreadPoolExecutor) -> Iterator[T]:
    """`items`, each made by `thread` while the one before is worked on."""
    coming: Future[T | None] = thread.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = thread.submit(next, items, None)
        yield item
