"""A chat on several Macs: rank 0 has the user, and tells the others what its session is asked.

The other sessions are asked the same, and so hold the same conversation, each with its part of the
cache. Ctrl-C is looked for between two steps, on all of them alike.
"""

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...conversation.session import Session
from ...conversation.turn import Turn
from ...errors import DiffGemmaError, PromptError, ShareError
from ...generation.agreement import require_shareable, seeded
from ...generation.frame import Frame
from ...generation.settings import Settings
from ...images.pixels import Pixels
from ...images.video import Clip
from ...images.wire import media_from_json, media_to_json
from ...model.text import Progress
from ...share.jobs import END, TOKENS, Job, Jobs, Pulse
from ...text.chat import Message
from ...text.placeholders import Medium
from ..errors import ArgumentError, FileError
from ..terminal.signals import forget_interrupts

ASK, MORE, UNDO, RESET, RESTORE, SYSTEM = "ask", "more", "undo", "reset", "restore", "system"


class Halted(Exception):  # noqa: N818 - no error: the user has stopped it on rank 0
    """The end of an answer on another rank than 0."""


def never() -> bool:
    """The answer where nobody stops anything."""
    return False


@dataclass
class Others:
    """The other Macs of a chat; jobs: None where there are none, and nothing is told.

    interrupted: True once for each Ctrl-C; busy: they work on what was told last.
    """

    jobs: Jobs | None = None
    interrupted: Callable[[], bool] = never
    busy: bool = False

    def __post_init__(self) -> None:
        self.pulse = None if self.jobs is None else Pulse(self.jobs, _wake)

    @property
    def there(self) -> bool:
        """True where there are other Macs."""
        return self.jobs is not None

    def tell(self, do: str, **what: Any) -> None:
        """Let the others do what is done here next; ShareError where they are gone."""
        if self.jobs and self.pulse:
            self.pulse.stop()
            self.busy = True
            try:
                self.jobs.tell({"do": do, **what})
            except ValueError as error:
                self.busy = False
                raise PromptError(f"other Macs cannot be told of it: {error}.") from None

    def rest(self) -> None:
        """All is done; the user may think for hours. ShareError where the others are gone."""
        self.busy = False
        if self.pulse:
            self.pulse.start()

    def end(self) -> None:
        """Let the others end, too, where they wait for what is to be done."""
        if self.jobs and self.pulse and not self.busy and self.pulse.error is None:
            self.pulse.stop()
            self.jobs.tell(END)
        self.jobs = self.pulse = None

    def look(self) -> None:
        """KeyboardInterrupt, between two steps, once Ctrl-C has come; the others end here, too."""
        if self.jobs and self.jobs.wants_end(self.interrupted()):
            raise KeyboardInterrupt

    def look_behind(self, frame: Frame) -> None:
        """A look behind a frame, where one is due."""
        if self.jobs and due(frame):
            self.look()

    def looking(self, progress: Progress) -> Progress:
        """The progress of a prompt, with a look at each piece of it."""
        if self.jobs is None:
            return progress

        def told(done: int, total: int) -> None:
            progress(done, total)
            self.look()

        return told

    def seeded(self, settings: Settings) -> Settings:
        """The settings of a question, with a seed for all."""
        return seeded(settings) if self.jobs else settings

    def require_survived(self, error: BaseException) -> None:
        """Raise an error that the others do not share in the midst of what they do."""
        alike = isinstance(error, DiffGemmaError)
        alike = alike and not isinstance(error, ShareError | FileError | ArgumentError)
        if self.jobs and (isinstance(error, ShareError) or (self.busy and not alike)):
            raise error

    def require_there(self) -> None:
        """ShareError where the others are gone, which has woken the reader of lines."""
        if self.pulse and self.pulse.error:
            forget_interrupts()
            raise self.pulse.error

    def require_mode(self, session: Session, mode: str) -> None:
        """SettingsError for a mode that these Macs do not share."""
        if self.jobs:
            require_shareable(session.model.part, mode)

    def require_none(self, what: str) -> None:
        """ArgumentError for what one Mac alone can do."""
        if self.jobs:
            raise ArgumentError(
                f"{what} is for one Mac, and {self.jobs.share.size} answer here; start the chat "
                "again with --model."
            )


def _wake() -> None:
    """Let whoever waits for a line in the main thread look up."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def due(frame: Frame) -> bool:
    """True for a frame behind which all ranks look for Ctrl-C."""
    return frame.mode != "ar" or frame.step % TOKENS == 0


def question_told(
    text: str, media: Sequence[Medium], settings: Settings, form: Mapping[str, Any], **others: Any
) -> Job:
    """What a question takes, as the others are told of it."""
    told = {"text": text, "media": media_to_json(tuple(media)), "settings": vars(settings)}
    return {**told, "form": dict(form), **others}


def messages_told(messages: Sequence[Message]) -> list[Job]:
    """Messages as the others are told of them."""
    return [
        {"role": m.role, "content": m.content, "media": media_to_json(m.media)} for m in messages
    ]


def follow(session: Session, jobs: Jobs) -> None:
    """Ask a session what rank 0 asks its own, up to the end of the chat; every rank but 0.

    ShareError where rank 0 is gone; an error that rank 0 has as well changes nothing.
    """
    for job in jobs.hear():
        try:
            _do(session, jobs, job)
        except Halted:
            pass
        except ShareError:
            raise
        except DiffGemmaError:
            pass


def _do(session: Session, jobs: Jobs, job: Job) -> None:
    if job["do"] == ASK:
        _take(_asked(session, jobs, job), jobs)
    elif job["do"] == MORE:
        settings = Settings(**job["settings"])
        _take(session.more_turn(settings=settings, progress=_progress(jobs)), jobs)
    elif job["do"] == UNDO:
        session.undo()
    elif job["do"] == RESET:
        session.reset()
    elif job["do"] == SYSTEM:
        session.system = job["text"]
    elif job["do"] == RESTORE:
        session.restore([_message(each) for each in job["messages"]], job["system"])


def _asked(session: Session, jobs: Jobs, job: Job) -> Turn:
    media = media_from_json(job["media"])
    return session.turn(
        job["text"],
        settings=Settings(**job["settings"]),
        think=job["think"],
        progress=_progress(jobs),
        images=[each for each in media if isinstance(each, Pixels)],
        video=next((each for each in media if isinstance(each, Clip)), None),
        instead=job["instead"],
        **job["form"],
    )


def _take(turn: Turn, jobs: Jobs) -> None:
    for frame in turn:
        if due(frame):
            _look(jobs)


def _progress(jobs: Jobs) -> Progress:
    return lambda done, total: _look(jobs)


def _look(jobs: Jobs) -> None:
    if jobs.wants_end():
        raise Halted


def _message(told: Job) -> Message:
    return Message(told["role"], told["content"], media_from_json(told["media"]))
