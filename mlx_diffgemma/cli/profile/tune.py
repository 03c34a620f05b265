"""`profile --tune`: a table of the candidates; the fastest are kept for generate and chat."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ...conversation.loading import place_of
from ...generation.settings import Settings
from ...machine.choices import Choices
from ...machine.tuning import require_storable, store, unreadable_entries
from ...profile import tune as search
from ...profile.tune import Row, Tuned
from ..answer.loading import load_session
from ..options import ModelOptions
from ..terminal.output import write_lines
from ..terminal.progress import Bar
from ..terminal.streams import say


def tune(model: ModelOptions, *, tune_dtype: bool) -> int:
    """Measure, print, and write the choices that won; an interrupt writes nothing."""
    file = require_storable()
    _tell_unreadable(file)
    session = load_session(model, Settings())
    place = place_of(Path(session.info.path), session.info.revision, model.dtype)
    with Bar("tuning") as bar:
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
        store(file, place, tuned.choices)
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
    yield from _kept(tuned.choices, file)


def _line(row: Row) -> str:
    times = " " * 28
    if row.ms is not None and row.spread is not None and row.share is not None:
        times = f"{row.ms:>11.4g}{row.spread:>9.1%}{row.share:>8.3f}"
    note = f": {row.note}" if row.note else ""
    return f"{row.name:<22}{row.value!s:>14}{times}  {row.outcome}{note}"


def _kept(choices: Choices, file: Path) -> Iterator[str]:
    own = asdict(Choices())
    won = {name: value for name, value in asdict(choices).items() if value != own[name]}
    if not won:
        yield "nothing is faster by 2% than the engine's own choices: nothing is kept"
        return
    yield f"kept: {', '.join(f'{name} {value}' for name, value in won.items())}"
    yield f"in {file}; generate and chat use it from now on, --no-tune leaves it out"
