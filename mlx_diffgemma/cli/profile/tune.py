"""`profile --tune`: a table of the candidates; the fastest are kept for generate and chat."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ...conversation.loading import place_of
from ...generation.settings import Settings
from ...machine.awake import awake
from ...machine.choices import Choices
from ...machine.tuning import require_storable, store, unreadable_entries
from ...profile import tune as search
from ...profile.tune import Row, Tuned
from ..answer.loading import load_session
from ..options import ModelOptions
from ..terminal.output import write_lines
from ..terminal.progress import Bar
from ..terminal.streams import say

SLOWER = 1.05  # a token as tuned over one that is not: worth a warning from here on


def tune(model: ModelOptions, *, tune_dtype: bool) -> int:
    """Measure, print, and write the choices that won; an interrupt writes nothing."""
    file = require_storable()
    _tell_unreadable(file)
    session = load_session(model, Settings())
    place = place_of(Path(session.info.path), session.info.revision, model.dtype)
    with awake(), Bar("tuning") as bar:
        tuned = search.tune(
            session,
            tune_dtype=tune_dtype,
            dtype_given=model.dtype is not None,
            force=model.force,
            progress=bar,
        )
    try:
        write_lines(lines(tuned, file))
    finally:  # nobody may be reading what is printed: what was found is kept all the same
        store(file, place, replace(tuned.choices, times=tuned.times))
    return 0


def _tell_unreadable(file: Path) -> None:
    """One line on entries that count as none: said here alone, where tuning again mends them."""
    if entries := unreadable_entries(file):
        say(
            f"warning: {file}: entries that cannot be read, so are not used, and are replaced when "
            f"their place is tuned again: {len(entries)}, the first {entries[0]}"
        )


def lines(tuned: Tuned, file: Path) -> Iterator[str]:
    """The table, then what is kept."""
    yield f"{'choice':<22}{'value':>14}{'ms':>11}{'spread':>9}{'time':>8}  outcome"
    for row in tuned.rows:
        yield _line(row).rstrip()
    yield ""
    if tuned.dtype_left:
        yield (
            "float16 is faster and not kept: it rounds otherwise, so texts may change; "
            "--tune-dtype keeps it"
        )
    yield from _times(tuned)
    yield from _kept(tuned, file)


def _line(row: Row) -> str:
    times = " " * 28
    if row.ms is not None and row.spread is not None and row.share is not None:
        times = f"{row.ms:>11.4g}{row.spread:>9.1%}{row.share:>8.3f}"
    note = f": {row.note}" if row.note else ""
    return f"{row.name:<22}{row.value!s:>14}{times}  {row.outcome}{note}"


def _times(tuned: Tuned) -> Iterator[str]:
    """The times of both modes, and a token's where tuning for steps has made it slower."""
    times, before = tuned.times, tuned.untuned_token_ms
    if times is None or before is None:
        yield "mode ar: not timed, this checkpoint was trained without the next-token loss"
        return
    commit = "" if times.commit_ms is None else f", a commit {times.commit_ms:.4g} ms"
    yield f"a step {times.step_ms:.4g} ms, a token of mode ar {times.token_ms:.4g} ms{commit}"
    rows = ", ".join(f"{rows}: {ms:.4g} ms" for rows, ms in times.rows_ms)
    yield f"rows at once {rows}"
    if times.token_ms > SLOWER * before:
        yield (
            f"warning: as tuned a token of mode ar takes {times.token_ms:.4g} ms, untuned "
            f"{before:.4g} ms: what makes steps faster makes tokens slower; --no-tune for mode ar"
        )


def _kept(tuned: Tuned, file: Path) -> Iterator[str]:
    own = asdict(Choices())
    won = [f"{name} {value}" for name, value in asdict(tuned.choices).items() if value != own[name]]
    if not won:
        yield "nothing is faster by 2% than the engine's own choices"
    kept = [*won, *(["the times of both modes"] if tuned.times else [])]
    if not kept:
        yield "nothing is kept"
        return
    yield f"kept: {', '.join(kept)}"
    yield f"in {file}; generate and chat use it from now on, --no-tune leaves it out"
