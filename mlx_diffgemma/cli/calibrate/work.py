"""The work of `calibrate`: rows read once, temperatures fitted to them, and a file written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...conversation.session import Session
from ...decide.calibration import Bound, is_calibration
from ...decide.decide import decide
from ...decide.fit import FEW, FEWEST
from ...decide.labelled import Case, Labelled, read_labelled
from ...decide.options import Options
from ...errors import DataError, RequestError, counted
from ...finetune.data.lines import Lines
from ...generation.settings import Settings
from ..answer.loading import load_session
from ..errors import exit_code
from ..options import ModelOptions
from ..record.outfile import Kind, OutFile, json_object
from ..terminal.output import show
from ..terminal.progress import Bar
from ..terminal.signals import raise_lost, signals_held
from ..terminal.streams import say
from .kept import Read, kept_reads, line_of, reads_file, row_key
from .options import LabelledOptions
from .report import Report
from .text import lines

LEAST_P = 1e-300  # of an option: its logarithm stays a number
CALIBRATION = Kind("calibration", lambda file: is_calibration(json_object(file)))


@dataclass(frozen=True)
class Job:
    """A calibration to make; typed: settings of options."""

    model: ModelOptions
    given: LabelledOptions
    typed: Mapping[str, Any]

    @cached_property
    def options(self) -> Options:
        """The settings of every read."""
        return Options(**{name: value for name, value in self.typed.items() if value is not None})

    @cached_property
    def session(self) -> Session:
        """The model, loaded."""
        return load_session(self.model, Settings())

    def rows(self) -> list[Labelled]:
        """All rows, checked; DataError for a wrong one, and for too few answers of a type."""
        found = list[Labelled]()
        for line in Lines(self.given.labelled):
            with line.read():
                row = read_labelled(line.values)
                for name in row.request.given:
                    raise RequestError((name,), "a setting, which all rows share; leave it out.")
                found.append(row)
        _require_enough(found)
        self.options  # noqa: B018 - SettingsError before a model is loaded
        return found


def calibrate(job: Job, rows: Sequence[Labelled], out: OutFile, reads: OutFile) -> int:
    """The whole calibration, or after an interrupt what was read so far."""
    bound = Bound.to(job.session.decider, job.options)
    keys = [row_key(bound, job.options.seed, row) for row in rows]
    known = kept_reads(reads_file(job.given.file))
    try:
        found = list(_read_all(job, rows, keys, known, reads))
    except (KeyboardInterrupt, Exception) as error:
        reads.finish()
        if not isinstance(error, KeyboardInterrupt):
            raise
        say("interrupted: what was read is kept, and the same command goes on from there.")
        return exit_code(error)
    reads.finish()
    cases = [case for row, read in zip(rows, found, strict=True) for case in _cases(row, read)]
    report = Report.of(cases, bound, job.given.wanted)
    out.write_line(report.calibration.to_json())
    out.finish()
    for kind, count in report.calibration.rows.items():
        if count < FEW:
            say(f"warning: {counted(count, f'{kind} answer')}, and {FEW} are better.")
    show(report.to_json(), lines(report, out.file), job.given.as_json)
    return 0


def _read_all(
    job: Job,
    rows: Sequence[Labelled],
    keys: Sequence[str],
    known: Mapping[str, Read],
    out: OutFile,
) -> Iterator[Read]:
    """What is read of each row, from the file or from the model; the file gets all of it."""
    pairs = [(row, key, known.get(key)) for row, key in zip(rows, keys, strict=True)]
    known = {key: read for row, key, read in pairs if read is not None and _fits(row, read)}
    for key, read in known.items():
        out.write_line(line_of(key, read))
    with Bar("reading rows", timed=True) as bar:
        bar(0, len(rows))
        for done, (row, key) in enumerate(zip(rows, keys, strict=True), 1):
            if key not in known:
                read = decide(row.request, job.session.decider, job.options).read
                with signals_held():
                    out.write_line(line_of(key, read))
                known[key] = read
            yield known[key]
            bar(done, len(rows))
            raise_lost()


def _fits(row: Labelled, read: Read) -> bool:
    """True for a kept read that has every option of every question."""
    questions = row.request.questions
    wanted = {n: len(each.options) for n, each in questions.items() if len(each.options) > 1}
    return {name: len(p) for name, p in read.items()} == wanted


def _cases(row: Labelled, read: Read) -> Iterator[Case]:
    for name, p in read.items():
        log_p = np.log(np.maximum(np.array(p), LEAST_P))
        yield Case(row.request.questions[name].kind, log_p, row.gold[name], row.group)


def _require_enough(rows: Sequence[Labelled]) -> None:
    """DataError where a type has some answers, but too few to fit anything to."""
    counts: dict[str, int] = {}
    for row in rows:
        for question in row.request.questions.values():
            if len(question.options) > 1:
                counts[question.kind] = counts.get(question.kind, 0) + 1
    for kind, count in counts.items():
        if count < FEWEST:
            raise DataError(
                f"{counted(count, f'{kind} answer')}, expected {FEWEST} or more of a type; add "
                "rows, or leave these questions out of gold."
            )
    if not counts:
        raise DataError("no question with several answers, expected some to fit to.")
