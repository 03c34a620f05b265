"""Reads of decisions, timed in turn: behind a state that is kept, and with a new question on it.

A read is one decoder pass over small canvases and the head of a few labels. Its time hangs on rows
and not on tokens, so that the state is a prompt of the workload and the canvases hold tokens of it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, cycle, islice, product
from pathlib import Path
from typing import Any

from ..conversation.session import Session
from ..decide.reader import Prompt, ReadOptions, Sheet, Slot
from ..diffusion.kept import KeptPrefixes
from ..diffusion.reading import ModelReader
from ..machine.chips import chip_of
from ..machine.identity import Machine
from ..model.bits import stored_bits
from ..model.roofline import bound
from ..model.text import Progress
from ..model.work import read_work, total
from .race import ROUNDS, WARM_UP, Work, race
from .statistics import percentiles

WIDTHS = {1: 16, 3: 16, 10: 48}
"""Questions -> rows of a canvas with their answers: in Gemma's vocabulary 8, 16 and 45, rounded up
to a multiple of 16."""
SAMPLES = (1, 4)
LABELS = 4  # of a question
QUESTION_TOKENS = 48  # of a question behind a state
ROOM = QUESTION_TOKENS + max(WIDTHS.values())


@dataclass(frozen=True)
class ReadTimes:
    """The times of one kind of read, and its work: arithmetic, with the experts of a text."""

    questions: int
    samples: int
    width: int
    ms: dict[str, float]
    gflop: float
    bytes: float
    bound_ms: float | None
    ms_samples: tuple[float, ...]


@dataclass(frozen=True)
class DecideTimes:
    """The times of decisions: of a state, of reads behind it, of a new question on it, read too."""

    state_tokens: int
    state_ms: dict[str, float]
    reads: tuple[ReadTimes, ...]
    question_tokens: int
    question_ms: dict[str, float]
    questions_per_second: float


Kind = tuple[int, int]  # questions, samples


def measure_reads(
    session: Session,
    machine: Machine,
    tokens: Sequence[int],
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """The report of `profile --decide`; tokens: the state, as many as leave room behind it.

    Kinds of reads that a canvas of this checkpoint has no place for are left out. progress: called
    for each work that is done.
    """
    config = session.model.config
    state = tuple(tokens)[: config.text.max_position_embeddings - ROOM]
    sheets = {
        questions: _sheet(state, questions, min(width, config.canvas_length))
        for questions, width in WIDTHS.items()
        if 2 * questions <= config.canvas_length
    }
    works = _works(session, state, sheets)
    samples = race(_counted(works, progress), clock)
    ms = {name: tuple(1e3 * seconds for seconds in samples[name]) for name in works}
    row = partial(_row, session, machine, len(state))
    question = percentiles(ms["question"])
    times = DecideTimes(
        len(state),
        percentiles(ms["state"]),
        tuple(row(sheets[kind[0]], kind, ms[kind]) for kind in product(sheets, SAMPLES)),
        QUESTION_TOKENS,
        question,
        1e3 / question["p50"],
    )
    return asdict(times)


def _sheet(state: Sequence[int], questions: int, width: int) -> Sheet:
    """A canvas with so many slots, evenly apart."""
    places = [(number + 1) * width // (questions + 1) for number in range(questions)]
    slots = tuple(Slot(place, tuple(range(LABELS))) for place in places)
    return Sheet(tuple(islice(cycle(state), width)), slots)


def _works(
    session: Session, state: tuple[int, ...], sheets: Mapping[int, Sheet]
) -> dict[Any, Work]:
    """The works to time: the state encoded anew, each kind of read, and a new question."""
    model = session.model
    reader = ModelReader(model, KeptPrefixes(model))
    first = tuple(islice(cycle(state), QUESTION_TOKENS))
    other = ((first[0] + 1) % model.config.text.vocab_size, *first[1:])
    questions = cycle([first, other])  # neither is what the last prompt ended with

    def read(behind: tuple[int, ...], number: int, samples: int) -> None:
        prompt = Prompt((*state, *behind), shared=(len(state),))
        reader.read(prompt, [sheets[number]], ReadOptions(tuple(range(samples))))

    reads = {kind: partial(read, (), *kind) for kind in product(sheets, SAMPLES)}
    return {
        "state": lambda: model.encode(state),
        **reads,
        "question": lambda: read(next(questions), 1, SAMPLES[-1]),
    }


def _counted(works: Mapping[Any, Work], progress: Progress) -> dict[Any, Work]:
    """The same works, each of which tells that it is done."""
    done, total = count(1), len(works) * (WARM_UP + ROUNDS)

    def counted(work: Work) -> None:
        work()
        progress(next(done), total)

    return {name: partial(counted, work) for name, work in works.items()}


def _row(
    session: Session,
    machine: Machine,
    prefix: int,
    sheet: Sheet,
    kind: Kind,
    ms: tuple[float, ...],
) -> ReadTimes:
    """The times of a kind of read beside its work, and the bound of the chip where it is known."""
    config, item_bytes = session.model.config, session.model.dtype.size
    (questions, samples), width = kind, len(sheet.tokens)
    work = total(
        read_work(
            config,
            prefix,
            stored_bits(Path(session.info.path), config, item_bytes),
            canvases=samples,
            width=width,
            slots=questions,
            labels=LABELS,
            item_bytes=item_bytes,
        )
    )
    chip = chip_of(machine)
    least = bound(work, chip).ms if chip else None
    figures = percentiles(ms), work.flops / 1e9, work.bytes, least, ms
    return ReadTimes(questions, samples, width, *figures)
