"""Runs a compiled kernel over a grid."""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from .buffers import Buffer
from .compiler import Sanitizer, kernel_library, runtime_library
from .errors import SimError
from .reports import digest, report_file, reported

Order = Literal["forward", "reverse", "random"]
ORDERS: tuple[Order, ...] = ("forward", "reverse", "random")
Size = tuple[int, int, int]
STACK_BYTES = 256 * 1024  # private memory of a thread
MAX_THREADS = 1024  # in a threadgroup
ONE_AT_A_TIME = Lock()  # the scheduler's state is global
NEAR = 2 << 14  # bytes: so far a buffer's guards reach


class Region(ctypes.Structure):
    """`struct Region` of runtime/thread.h."""

    _fields_ = [("begin", ctypes.c_uint64), ("end", ctypes.c_uint64)]


class Dispatch(ctypes.Structure):
    """`struct Dispatch` of runtime/thread.h."""

    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("threadgroup", ctypes.c_uint32 * 3),
        ("order", ctypes.c_uint32),
        ("seed", ctypes.c_uint32),
        ("stack_bytes", ctypes.c_uint64),
        ("reports", ctypes.c_char_p),
        ("device", ctypes.POINTER(Region)),
        ("device_buffers", ctypes.c_uint64),
        ("threadgroups", ctypes.c_uint64),
        ("threads", ctypes.c_uint64),
        ("barriers", ctypes.c_uint64),
        ("collectives", ctypes.c_uint64),
        ("matrix_products", ctypes.c_uint64),
        ("simdgroup_products", ctypes.c_uint64),
        ("device_loads", ctypes.c_uint64),
        ("lane_loads", ctypes.c_uint64),
        ("shared_bytes", ctypes.c_uint64),
        ("fault", ctypes.c_uint64),
        ("error", ctypes.c_char * 512),
    ]


@dataclass(frozen=True)
class Schedule:
    """How threads run: in which order, with how much private memory, with their loads counted."""

    order: Order = "forward"
    seed: int = 0
    stack_bytes: int = STACK_BYTES
    count_loads: bool = False


@cache
def scheduler(sanitizer: Sanitizer | None) -> Any:
    """The scheduler's library, loaded."""
    library = ctypes.CDLL(str(runtime_library(sanitizer)))
    library.metal_sim_runtime.restype = ctypes.c_void_p
    library.metal_sim_allocate.restype = ctypes.c_void_p
    library.metal_sim_allocate.argtypes = [ctypes.c_size_t]
    library.metal_sim_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.metal_sim_dispatch.argtypes = [ctypes.c_void_p] * 3
    return library


@cache
def loaded(library: Path, sanitizer: Sanitizer | None) -> Any:
    """A kernel's library, loaded and connected to the scheduler."""
    kernel = ctypes.CDLL(str(library))
    kernel.metal_sim_connect(ctypes.c_void_p(scheduler(sanitizer).metal_sim_runtime()))
    return kernel


def run(
    text: str,
    buffers: Sequence[Buffer],
    grid: Size,
    threadgroup: Size,
    schedule: Schedule,
    sanitizer: Sanitizer | None,
) -> Dispatch:
    """Compiles and runs a lowered kernel; buffers that are written are written in place."""
    check_sizes(grid, threadgroup)
    compiled = kernel_library(text, sanitizer, count_loads=schedule.count_loads)
    kernel = loaded(compiled, sanitizer)
    library = scheduler(sanitizer)
    reports = report_file()
    dispatch = Dispatch(
        grid=(ctypes.c_uint32 * 3)(*grid),
        threadgroup=(ctypes.c_uint32 * 3)(*threadgroup),
        order=ORDERS.index(schedule.order),
        seed=schedule.seed,
        stack_bytes=schedule.stack_bytes,
        reports=os.fsencode(reports) if reports else None,
    )
    written = len(reported(reports))
    with ONE_AT_A_TIME, in_memory(library, buffers) as addresses:
        counted = regions(addresses, buffers)
        dispatch.device, dispatch.device_buffers = counted, len(counted)
        failed = library.metal_sim_dispatch(
            ctypes.byref(dispatch),
            ctypes.cast(kernel.metal_sim_kernel, ctypes.c_void_p),
            (ctypes.c_void_p * len(addresses))(*addresses),
        )
        if failed:
            where = place(dispatch.fault, addresses, buffers)
            raise SimError(
                dispatch.error.decode().replace("to memory that is no buffer's", where)
                + digest(reported(reports)[written:])
            )
    return dispatch


@contextmanager
def in_memory(library: Any, buffers: Sequence[Buffer]) -> Iterator[list[int]]:
    """Copies of the buffers, each with guards around it; what is written is copied back."""
    sizes = [buffer.values.nbytes for buffer in buffers]
    addresses = [library.metal_sim_allocate(size) for size in sizes]
    try:
        for address, buffer, size in zip(addresses, buffers, sizes, strict=True):
            ctypes.memmove(address, buffer.values.ctypes.data, size)
        yield addresses
        for address, buffer, size in zip(addresses, buffers, sizes, strict=True):
            if buffer.written:
                ctypes.memmove(buffer.values.ctypes.data, address, size)
    finally:
        for address, size in zip(addresses, sizes, strict=True):
            library.metal_sim_free(address, size)


def regions(addresses: Sequence[int], buffers: Sequence[Buffer]) -> "ctypes.Array[Region]":
    """Where the buffers in device memory lie."""
    found = [
        Region(address, address + buffer.values.nbytes)
        for address, buffer in zip(addresses, buffers, strict=True)
        if buffer.in_device
    ]
    return (Region * len(found))(*found)


def check_sizes(grid: Size, threadgroup: Size) -> None:
    """SimError for what Metal refuses."""
    if min(*grid, *threadgroup) < 1:
        raise SimError(f"grid {grid} in threadgroups of {threadgroup}: every size must be positive")
    threads = int(np.prod(threadgroup))
    if threads > MAX_THREADS:
        raise SimError(f"{threads} threads in a threadgroup, Metal has {MAX_THREADS} at most")


def place(fault: int, addresses: Sequence[int], buffers: Sequence[Buffer]) -> str:
    """Which buffer an access missed, and by how much: the nearest one."""
    misses = []
    for address, buffer in zip(addresses, buffers, strict=True):
        end = address + buffer.values.nbytes
        misses.append((abs(fault - end), f"{fault - end} bytes past the end of {buffer.name}"))
        misses.append((abs(address - fault), f"{address - fault} bytes before {buffer.name}"))
    distance, words = min(misses, default=(NEAR, ""))
    return words if distance < NEAR else "far from any buffer"
