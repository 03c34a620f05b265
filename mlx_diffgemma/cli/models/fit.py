"""What a model takes of this machine, its disk and its memory, in the words of every command.

`info` has them in its table, `pull` says them first, and so does the question before a download.
"""

from ...checkpoint.download import Download
from ...checkpoint.remote import remote_headers
from ...errors import HubError
from ...machine.device import on_gpu
from ...machine.dtypes import FloatName
from ...model.memory import WORKSPACE_BYTES, MemoryPlan, plan_memory, raising, sized
from ..errors import FileError


def download_size(download: Download) -> str:
    """The size of a download, what is missing of it, and the room there is."""
    missing = f", {sized(download.missing_bytes)} of it missing" if download.cached_bytes else ""
    return f"{sized(download.num_bytes)}{missing}; free disk {sized(download.free_bytes)}"


def verdict(fits: bool | None) -> str:
    """A word on whether memory suffices; None where the machine does not say what it has."""
    known = {True: "fits", False: "does not fit", None: "this machine does not say what it has"}
    return known[fits]


def longest(context: int | None) -> str:
    """The longest context that there is memory for."""
    return f"enough for a context of {context:,}" if context else "not enough for the weights"


def require_disk(download: Download) -> None:
    """FileError where the disk has no room for what is to be fetched."""
    if download.missing_bytes > download.free_bytes:
        raise FileError(
            f"{download.repo_id} is {sized(download.missing_bytes)} more to fetch, the disk of the "
            f"local cache has {sized(download.free_bytes)} free; make room, or set HF_HOME to "
            "another disk."
        )


def planned(download: Download, dtype: FloatName | None = None) -> MemoryPlan | None:
    """The plan of a repository; None where its headers cannot be had.

    CheckpointError for a repository that would not load: better now than after the download.
    """
    try:
        with remote_headers(download.repo_id, download.revision) as source:
            return plan_memory(source.folder, dtype, shape_only=True)
    except HubError:
        return None


def describe(
    download: Download,
    plan: MemoryPlan | None,
    available: int | None,
    dtype: FloatName | None = None,
) -> tuple[list[str], bool]:
    """The facts before a download, size, room on disk and memory, and whether it fits.

    With no plan the memory is bounded by the sizes of the files.
    """
    there = "only in part" if download.cached_bytes else "not"
    lines = [
        f"{download.repo_id} is {there} on this machine yet.",
        f"Download: {download_size(download)}.",
    ]
    said, fits = _bound(download, available, dtype) if plan is None else _need(plan, available)
    return [*lines, *said], fits


def _need(plan: MemoryPlan, available: int | None) -> tuple[list[str], bool]:
    """The memory for one canvas, as `info` has it, and the longest context there is room for."""
    need = plan.footprint(plan.config.canvas_length, available)
    needed = f"Memory it needs: {sized(need.needed_bytes)}, and more for a long context"
    if available is None:
        return [f"{needed}; {verdict(need.fits)}."], True
    there = f"{needed}; this machine can give {sized(available)}"
    if need.fits:
        return [f"{there}: {verdict(True)}, {longest(plan.largest_context(available))}."], True
    lines = [f"{there}: {verdict(False).upper()}."]
    if command := raising(need):
        lines.append(f"But {command}.")
    if plan.config.quantization is None:
        lines.append("A quantised one may fit: `mlx-diffgemma info` lists what `convert` makes.")
    return lines, False


def _bound(
    download: Download, available: int | None, dtype: FloatName | None
) -> tuple[list[str], bool]:
    """An upper bound: images' part included, and numbers of 16 bits widened where they may be."""
    widened = dtype == "float32" or not on_gpu()
    most = download.num_bytes * (2 if widened else 1) + WORKSPACE_BYTES
    needed = f"Memory it needs: at most {sized(most)}, by the size of its files"
    if available is None:
        return [f"{needed}; {verdict(None)}."], True
    fits = most <= available
    said = verdict(True) if fits else "MAY NOT FIT"
    return [f"{needed}; this machine can give {sized(available)}: {said}."], fits
