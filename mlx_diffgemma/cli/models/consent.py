"""The one question before a download, and a download that is seen and keeps a Mac awake."""

import sys
from contextlib import ExitStack
from functools import partial

from ...checkpoint.cache import cache_folder
from ...checkpoint.download import Download
from ...checkpoint.hub import Consent, Source, find_model
from ...machine.awake import awake
from ...machine.dtypes import FloatName
from ...machine.memory import available_memory
from ...model.memory import sized
from ..terminal.progress import Bars
from ..terminal.streams import is_terminal, say
from .fit import describe, planned, require_disk


def find(
    name: str,
    *,
    offline: bool = False,
    consent: Consent | None = None,
    revision: str | None = None,
) -> Source:
    """`find_model` for a command: a download has bars, is announced, and keeps a Mac awake."""
    with ExitStack() as stack:
        bars = stack.enter_context(Bars())

        def agreed(ask: Consent, download: Download) -> bool:
            if not ask(download):
                return False
            announce(download)
            stack.enter_context(awake())
            return True

        asked = consent and partial(agreed, consent)
        return find_model(name, offline=offline, consent=asked, revision=revision, progress=bars)


def announce(download: Download) -> None:
    """Say what is fetched, and to where."""
    say(
        f"downloading {download.repo_id}, {sized(download.missing_bytes)}, to {cache_folder()}; "
        "Ctrl-C keeps what is there, and the same command goes on."
    )


def can_ask() -> bool:
    """True where somebody is there to read a question and to answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def ask_on_terminal(dtype: FloatName | None = None, *, foreign: bool = False) -> Consent | None:
    """Consent that asks, where somebody is there to answer; else None, and nothing is fetched.

    dtype: what activations are to be computed in, None for the checkpoint's own; foreign: the
    model is one that another program runs.
    """
    return partial(_ask, dtype, foreign) if can_ask() else None


def _ask(dtype: FloatName | None, foreign: bool, download: Download) -> bool:
    require_disk(download)
    plan = None if foreign else planned(download, dtype)
    lines, fits = describe(download, plan, available_memory(), dtype)
    for line in lines:
        say(line)
    return confirmed("Download it now?", usual=fits)


def confirmed(question: str, *, usual: bool) -> bool:
    """The answer to a question on the terminal; usual: that of an empty line. Ctrl-D is no."""
    print(f"{question} [{'Y/n' if usual else 'y/N'}] ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        say("")
        return False
    answer = line.strip().lower()
    return answer in ("y", "yes") or (usual and not answer)
