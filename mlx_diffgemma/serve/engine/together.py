"""The engine of several Macs: rank 0 tells the others what it was asked, and all answer it.

Every rank has a LoadedEngine. What depends on one Mac alone, a client that goes or a server that
stops, is rank 0's word at the places where the engine looks for it. An error that all ranks find
alike ends the answer; any other one ends the server, since the ranks are not at the same step any
more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ...decide.decision import Decision
from ...decide.request import Request
from ...errors import DiffGemmaError, ShareError
from ...generation.agreement import require_shareable
from ...share.jobs import END, Job, Jobs
from ...share.part import Part
from ..asked import Asked
from ..events import Event, Failed
from ..refusal import STOPPING, Refusal, fresh, refusal_of
from .engine import Cancellation, Cancelled, Counters, Facts, Stopping, going_on
from .loaded import LoadedEngine, Ready
from .told import (
    ANSWER,
    DECIDE,
    LOAD,
    UNLOAD,
    asked_of,
    request_of,
    require_tellable,
    told_question,
    told_request,
)

Lost = Callable[[BaseException], None]
"""Takes the error after which the ranks are not together any more; called once."""


@dataclass
class Leading:
    """The Engine of rank 0. lost: hears why it can answer no more."""

    inner: LoadedEngine
    part: Part
    jobs: Jobs
    lost: Lost
    over: BaseException | None = field(default=None, init=False)

    @property
    def facts(self) -> Facts:
        """The facts of the model."""
        return self.inner.facts

    @property
    def counters(self) -> Counters:
        """The sums of what rank 0 has done, and what it keeps."""
        return self.inner.counters

    def prepare(self, asked: Asked) -> Ready:
        """The question checked; Refusal also for a mode that Macs do not share."""
        try:
            require_shareable(self.part, asked.settings.mode)
        except DiffGemmaError as error:
            raise refusal_of(error) from error
        ready = self.inner.prepare(asked)
        require_tellable(told_question(ready))
        return ready

    def count(self, asked: Asked) -> int:
        """The tokens of a question's prompt."""
        return self.inner.count(asked)

    def answer(
        self, prepared: Ready, cancelled: Cancelled, stopping: Stopping = going_on
    ) -> Iterator[Event]:
        """The events of an answer that all ranks compute; see Engine.

        Whoever gives it up here has it ended on all of them, at the next step.
        """
        given_up = False

        def gone() -> bool:
            return given_up or cancelled()

        agreed = self.jobs.agreed
        with self._together(told_question(prepared)):
            events = self.inner.answer(prepared, agreed(gone), agreed(stopping))
            try:
                for event in events:
                    yield event
                    if isinstance(event, Failed):
                        require_alike(event.refusal)
            except GeneratorExit:
                given_up = True
                with suppress(Cancellation):
                    for _ in events:
                        pass
                raise

    def decide(self, request: Request, cancelled: Cancelled) -> Decision:
        """A decision that all ranks compute; see Engine."""
        request = self._seen(request)
        job = require_tellable(told_request(request))
        with self._together(job):
            return self.inner.decide(request, self.jobs.agreed(cancelled))

    def load(self) -> None:
        """Load the weights on all Macs where they are not there."""
        with self._together({"do": LOAD}, lambda error: False):
            self.inner.load()

    def unload(self) -> None:
        """Free the weights of all Macs."""
        with self._together({"do": UNLOAD}):
            self.inner.unload()

    def beat(self) -> None:
        """Tell the others that rank 0 is still there, and find out whether they are."""
        with self._together(None):
            pass

    def end(self) -> None:
        """Let the others end, too; nothing where they are gone."""
        if self.over is None:
            self.jobs.tell(END)

    @contextmanager
    def _together(
        self, job: Job | None, alike: Callable[[BaseException], bool] | None = None
    ) -> Iterator[None]:
        """For the time of a job, None for a sign of life.

        An error that the others do not share is the last one.
        """
        if self.over is not None:
            raise fresh(STOPPING)
        try:
            if job is None:
                self.jobs.beat()
            else:
                self.jobs.tell(job)
            yield
        except (GeneratorExit, Cancellation):
            raise
        except BaseException as error:
            if not (alike or is_alike)(error):
                self.over = cause_of(error)
                self.lost(self.over)
            raise

    def _seen(self, request: Request) -> Request:
        """The request with its images prepared, which the others take as they are.

        One with images that cannot be is left alone: it is refused before anything is computed.
        """
        prepare: Any = self.inner.prepared_image
        try:
            assets = [replace(each, content=prepare(each.content)) for each in request.assets]
            images = tuple(prepare(each) for each in request.images)
        except DiffGemmaError:
            return request
        return replace(request, assets=tuple(assets), images=images)


def follow(engine: LoadedEngine, jobs: Jobs) -> None:
    """Do what rank 0 tells, up to its end; every rank but 0.

    ShareError where rank 0 is gone, and the error that rank 0 does not share.
    """
    for job in jobs.hear():
        try:
            _do(engine, jobs, job)
        except Cancellation:
            pass
        except _OwnError as own:
            raise (own.__cause__ or own) from None
        except DiffGemmaError as error:
            require_alike(error)


def _do(engine: LoadedEngine, jobs: Jobs, job: Job) -> None:
    if job["do"] == LOAD:
        with _own():  # each Mac reads files of its own
            engine.load()
    elif job["do"] == UNLOAD:
        engine.unload()
    elif job["do"] == DECIDE:
        engine.decide(request_of(job), jobs.wants_end)
    elif job["do"] == ANSWER:
        with _own():  # rank 0 has told of it, so there it could be prepared
            prepared = engine.prepare(asked_of(job))
        for event in engine.answer(prepared, jobs.wants_end, jobs.wants_end):
            if isinstance(event, Failed):
                raise event.refusal


class _OwnError(Exception):
    """Around the error of this Mac alone, its cause: the others are going on."""


@contextmanager
def _own() -> Iterator[None]:
    try:
        yield
    except DiffGemmaError as error:
        raise _OwnError from cause_of(error)


def cause_of(error: BaseException) -> BaseException:
    """The error behind a refusal, else the error itself."""
    cause = error.__cause__ if isinstance(error, Refusal) else None
    return error if cause is None else cause


def is_alike(error: BaseException) -> bool:
    """True for an error that all ranks find at the same place: about what was asked."""
    cause = cause_of(error)
    return isinstance(cause, DiffGemmaError) and not isinstance(cause, ShareError)


def require_alike(error: BaseException) -> None:
    """Raise what is behind an error that the other ranks do not share."""
    if not is_alike(error):
        raise cause_of(error)
