"""The work of `decide`: a model loaded, its questions asked of one state or of many."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...conversation.reply import share_info
from ...conversation.session import Session
from ...decide.answers import DECIMALS
from ...decide.calibration import Calibration
from ...decide.decide import decide
from ...decide.decision import Decision
from ...decide.options import Options
from ...decide.questions import Noul
from ...decide.request import Request
from ...errors import DiffGemmaError, RequestError, ShareError, brief, counted
from ...generation.settings import Settings
from ...machine.files import decode_utf8, parse_json
from ...text.placeholders import Medium
from ..answer.loading import load_session
from ..answer.media import Media
from ..answer.prompt import read_given_bytes
from ..errors import FAILED, ArgumentError, exit_code
from ..macs.group import Group
from ..macs.loading import digested, load_together
from ..options import ModelOptions
from ..terminal.output import write_json
from ..terminal.progress import Bar
from ..terminal.signals import raise_lost, signals_held
from ..terminal.streams import is_terminal, say, tell
from .given import UNREAD, with_state
from .options import AnswerOptions
from .text import show_answers, summary

YES, NO, UNSURE = 0, 3, 4  # exit codes of --if
BOM = b"\xef\xbb\xbf"
JSON_BEGINS = ("{", "[", '"')
CARRIED = "latin-1"  # bytes of a line, which JSON takes from Mac to Mac as they are


class Loading:
    """The model and the images of a command, on every Mac of a group.

    read: reads the images; a Mac alone does so at once, before anything is looked for.
    """

    def __init__(self, group: Group, model: ModelOptions, read: Callable[[], Media]) -> None:
        self.group, self.model, self.read = group, model, read
        self.media = read() if group.share.alone else None

    def load(self, facts: Mapping[str, object]) -> tuple[Session, Media]:
        """The session, and the images; facts: see `load_together`."""
        if self.media is not None:
            return load_session(self.model, Settings(), self.media), self.media
        return load_together(self.group, self.model, Settings(), self.read, facts)


@dataclass(frozen=True)
class Job:
    """Questions to be asked.

    body: a request without a state; of_options: the ids of the questions that options ask; typed:
    settings of options.
    """

    loading: Loading
    body: Mapping[str, Any]
    of_options: Collection[str]
    typed: Mapping[str, Any]
    answer: AnswerOptions
    calibration: Calibration | None

    @property
    def session(self) -> Session:
        """The model, loaded; DataError for a calibration that was made for something else."""
        return self._loaded[0]

    @cached_property
    def _loaded(self) -> tuple[Session, Media]:
        session, media = self.loading.load(digested(self.typed, self.calibration))
        if self.calibration is not None:
            options = self.options(with_state(self.body, UNREAD))
            name = str(self.answer.calibration)
            self.calibration.require_for(session.decider, options, name)
        return session, media

    @cached_property
    def images(self) -> Sequence[Medium]:
        """The images in front of every state, as the network takes them."""
        session, media = self._loaded
        return session.prepared(media.images, image_tokens=media.image_tokens)

    def options(self, request: Request) -> Options:
        """The settings: those of options before those of the request."""
        return request.options(**self.typed)

    def check(self) -> None:
        """SettingsError and ArgumentError for what can be found before a model is loaded."""
        request = with_state(self.body, UNREAD)
        self.options(request)
        name = self.answer.condition
        if name is None:
            return
        if name not in request.questions:
            known = ", ".join(map(brief, list(request.questions)[:8]))
            raise ArgumentError(f"--if is {brief(name)}, expected the id of a question: {known}.")
        if not isinstance(request.questions[name], Noul):
            raise ArgumentError(
                f"--if is {brief(name)}, a {request.questions[name].kind}; name a noul, which yes "
                "or no answers."
            )

    def decided(self, state: Any) -> Decision:
        """The answers about a state; ArgumentError for an option that the model cannot follow."""
        request = with_state(self.body, state, self.images)
        try:
            return decide(request, self.session.decider, self.options(request), self.calibration)
        except RequestError as error:
            match error.location:
                case ("think",) if self.typed.get("think"):
                    raise ArgumentError(f"--think {error.said}") from error
                case ("questions", name, *_) if name in self.of_options:
                    raise ArgumentError(str(error)) from error
            raise

    def to_json(self, decision: Decision) -> dict[str, Any]:
        """What --json prints; x_share: where several Macs have decided together."""
        if self.loading.group.share.alone:
            return decision.to_json()
        return {**decision.to_json(), "x_share": vars(share_info(self.session.model.part))}


def answer_one(job: Job, state: Any) -> int:
    """The answers about one state, shown; with --if its exit code."""
    decision = job.decided(state)
    name = job.answer.condition
    if job.answer.as_json:
        write_json(job.to_json(decision))
    elif name is None:
        show_answers(with_state(job.body, state).questions, decision)
        tell(summary(decision), dim=is_terminal(sys.stderr))
    return 0 if name is None else _verdict(decision.answers[name], job.answer.least)


def _verdict(answer: Mapping[str, Any], sure: float) -> int:
    """The exit code of an answer; one that was not asked is not sure."""
    p = answer.get("noul", 0.5)
    if p >= sure:
        return YES
    return NO if round(1 - p, DECIMALS) >= sure else UNSURE


def answer_lines(job: Job, lines: Sequence[tuple[int, str]]) -> int:
    """An answer a line for every line of `lines_of`; a wrong one is said, and the others go on."""
    done = wrong = 0
    with Bar("deciding", timed=True) as bar:
        bar.wanted = bar.wanted and not is_terminal(sys.stdout)
        try:
            job.session  # noqa: B018 - an error of the model is none of a line
            for number, text in lines:
                try:
                    answered = job.to_json(job.decided(_state(text.encode(CARRIED))))
                except DiffGemmaError as error:
                    if _is_of_every_line(error) or isinstance(error, ShareError):
                        raise
                    say(f"error: line {number:,}: {error}")
                    wrong += 1
                else:
                    with signals_held():
                        write_json({**answered, "x_line": number})
                done += 1
                bar(done, len(lines))
                raise_lost()
        except KeyboardInterrupt as interrupt:
            bar.close()
            say(f"interrupted: {done:,} of {counted(len(lines), 'line')} finished.")
            return exit_code(interrupt)
    if wrong:
        say(f"{counted(wrong, 'line')} of {len(lines):,} could not be answered.")
    return FAILED if wrong else 0


def _is_of_every_line(error: DiffGemmaError) -> bool:
    """True for what is wrong with the questions or the options, whatever a line says."""
    at = error.location[:1] if isinstance(error, RequestError) else ()
    return isinstance(error, ArgumentError) or at in (("questions",), ("think",))


def lines_of(file: Path) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers, each byte as a character.

    FileError: it cannot be read.
    """
    content = read_given_bytes(file, "the states")
    numbered = enumerate(content.removeprefix(BOM).splitlines(), 1)
    return [(number, line.strip().decode(CARRIED)) for number, line in numbered if line.strip()]


def _state(line: bytes) -> Any:
    """The state of a line: what begins like JSON and is some, else the text as it is.

    RequestError for an object that is broken, and for what is not UTF-8.
    """
    try:
        text = decode_utf8(line)
    except ValueError as error:
        raise RequestError(("state",), f"{error}.", "json_invalid") from None
    if not text.startswith(JSON_BEGINS):
        return text
    try:
        return parse_json(line)
    except ValueError as error:
        if text.startswith("{"):
            raise RequestError(("state",), f"no JSON: {error}.", "json_invalid") from None
        return text
