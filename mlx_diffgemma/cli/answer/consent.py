"""The one question before a download, with its size, the free disk and the memory it needs."""

import sys
from functools import partial

from ...checkpoint.hub import TRY_NOW, Consent, Download
from ...checkpoint.remote import remote_headers
from ...errors import HubError
from ...machine.device import on_gpu
from ...machine.dtypes import FloatName
from ...machine.memory import available_memory
from ...model.memory import WORKSPACE_BYTES, MemoryPlan, plan_memory, raising, sized
from ..errors import FileError
from ..terminal.streams import is_terminal, say


def ask_on_terminal(dtype: FloatName | None = None, *, foreign: bool = False) -> Consent | None:
    """Consent that asks, where somebody is there to answer; else None, and nothing is fetched.

    dtype: what activations are to be computed in, None for the checkpoint's own; foreign: the
    model is one that another program runs.
    """
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return None
    return partial(_ask, dtype, foreign)


def _ask(dtype: FloatName | None, foreign: bool, download: Download) -> bool:
    if download.missing_bytes > download.free_bytes:
        raise FileError(
            f"{download.repo_id} is {sized(download.missing_bytes)} more to fetch, the disk has "
            f"{sized(download.free_bytes)} free; make room first, or {TRY_NOW}."
        )
    plan = None if foreign else _planned(download, dtype)
    lines, fits = describe(download, plan, available_memory(), dtype)
    for line in lines:
        say(line)
    print(f"Download it now? [{'Y/n' if fits else 'y/N'}] ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:  # Ctrl-D
        say("")
        return False
    answer = line.strip().lower()
    return answer in ("y", "yes") or (fits and not answer)


def _planned(download: Download, dtype: FloatName | None) -> MemoryPlan | None:
    """The plan of a repository; None where its headers cannot be had.

    CheckpointError for a repository that would not load: better now than after the download.
    """
    try:
        with remote_headers(download.repo_id, download.revision) as source:
            return plan_memory(source.folder, dtype, shape_only=True)
    except HubError:
        return None


def describe(
    download: Download, plan: MemoryPlan | None, available: int | None, dtype: FloatName | None
) -> tuple[list[str], bool]:
    """The facts before the question, size, room on disk and memory, and whether it fits.

    With no plan the memory is bounded by the sizes of the files.
    """
    lines = [
        f"{download.repo_id} is not on this machine yet.",
        f"Download: {sized(download.missing_bytes)}; free disk: {sized(download.free_bytes)}.",
    ]
    said, fits = _bound(download, available, dtype) if plan is None else _need(plan, available)
    return [*lines, *said], fits


def _need(plan: MemoryPlan, available: int | None) -> tuple[list[str], bool]:
    """The memory for one canvas, as `info` has it, and the longest context there is room for."""
    need = plan.footprint(plan.config.canvas_length, available)
    needed = f"Memory it needs: {sized(need.needed_bytes)}, and more for a long context"
    if available is None:
        return [f"{needed}."], True
    there = f"{needed}; this machine can give {sized(available)}"
    if need.fits:
        largest = plan.largest_context(available)
        return [f"{there}: fits, with a context of up to {largest:,}."], True
    command = raising(need)
    return [f"{there}: DOES NOT FIT.", *([f"But {command}."] if command else [])], False


def _bound(
    download: Download, available: int | None, dtype: FloatName | None
) -> tuple[list[str], bool]:
    """An upper bound: images' part included, and numbers of 16 bits widened where they may be."""
    widened = dtype == "float32" or not on_gpu()
    most = download.num_bytes * (2 if widened else 1) + WORKSPACE_BYTES
    needed = f"Memory it needs: at most {sized(most)}, by the size of its files"
    if available is None:
        return [f"{needed}."], True
    fits = most <= available
    verdict = "fits" if fits else "MAY NOT FIT"
    return [f"{needed}; this machine can give {sized(available)}: {verdict}."], fits
