"""The one question before a download, with its size, the free disk and the memory it needs."""

import sys

from ...checkpoint.hub import TRY_NOW, Consent, Download
from ...machine.memory import available_memory
from ...model.memory import WORKSPACE_BYTES, sized
from ..errors import FileError
from ..terminal.streams import is_terminal, say


def ask_on_terminal() -> Consent | None:
    """Consent that asks, where somebody is there to answer; else None, and nothing is fetched."""
    return _ask if is_terminal(sys.stdin) and is_terminal(sys.stderr) else None


def _ask(download: Download) -> bool:
    if download.missing_bytes > download.free_bytes:
        raise FileError(
            f"{download.repo_id} is {sized(download.missing_bytes)} more to fetch, the disk has "
            f"{sized(download.free_bytes)} free; make room first, or {TRY_NOW}."
        )
    available = available_memory()
    fits = available is None or needed_bytes(download) <= available
    for line in describe(download, available):
        say(line)
    print(f"Download it now? [{'Y/n' if fits else 'y/N'}] ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:  # Ctrl-D
        say("")
        return False
    answer = line.strip().lower()
    return answer in ("y", "yes") or (fits and not answer)


def describe(download: Download, available: int | None) -> list[str]:
    """The facts before the question: size, room on disk, memory."""
    lines = [
        f"{download.repo_id} is not on this machine yet.",
        f"Download: {sized(download.missing_bytes)}; free disk: {sized(download.free_bytes)}.",
    ]
    if available is None:
        return [*lines, f"Memory it needs: {sized(needed_bytes(download))}."]
    verdict = "fits" if needed_bytes(download) <= available else "DOES NOT FIT"
    needed = f"Memory it needs: {sized(needed_bytes(download))} and the context's"
    return [*lines, f"{needed}; this machine can give {sized(available)}: {verdict}."]


def needed_bytes(download: Download) -> int:
    """Memory for the weights and the work on them, before any context."""
    return download.num_bytes + WORKSPACE_BYTES
