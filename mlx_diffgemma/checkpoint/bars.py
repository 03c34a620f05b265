"""The bars of a download that a Python program asks for: tqdm's, as huggingface_hub shows them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .fetch import Progress, unheard


@contextmanager
def library_bars() -> Iterator[Progress]:
    """A progress with a bar for each thing that is told of; none where the Hub's own are off."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    if are_progress_bars_disabled():
        yield unheard
        return
    from tqdm.auto import tqdm  # comes with huggingface_hub

    bars: dict[str, Any] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(desc=what, total=total, unit="B", unit_scale=True)
        bars[what].update(done - bars[what].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()
