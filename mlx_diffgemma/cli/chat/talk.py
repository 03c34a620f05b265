"""The state of a chat: questions and answers so far, and settings for the next question."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from ...checkpoint.vision import require_vision
from ...conversation.reply import Reply
from ...conversation.session import Session
from ...conversation.turn import Turn
from ...errors import FitError, PromptError, counted
from ...generation.settings import OF_MODES, Settings
from ...images.pixels import Pixels
from ...images.video import Clip
from ...model.text import Progress
from ...text.chat import Message
from ...text.pieces import ANSWER, THINKING
from ...text.placeholders import Medium
from ..answer.media import name_of, read_video, show_media
from ..errors import ArgumentError
from ..terminal.picture import Run
from .dropped import Dropped

TOO_LONG = (
    "The whole conversation is in the prompt: /save FILE keeps it, /reset begins another one."
)
CLIPBOARD = "from the clipboard"  # the name of a picture that is no file's
SHOWN_ABOVE = 20  # messages that the live view shows over an answer


@dataclass
class Talk:
    """A session as chat's commands see it.

    attached: images and a video that go with the next question; pictures: they are drawn where the
    terminal can; interruptible: a stretch in which Ctrl-C may come; resting: settings that were
    given and that the present mode does not have.
    """

    session: Session
    settings: Settings
    think: bool = False
    image_tokens: int | None = None
    pictures: bool = True
    attached: tuple[Medium, ...] = ()
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
    said: list[Message] = field(default_factory=list)
    last: Reply | None = None
    noted: set[str] = field(default_factory=set)  # what has been said of questions, once a chat
    resting: Mapping[str, Any] = field(default_factory=dict)

    def prompt(self) -> str:
        """The share of the context that is used, and what is attached, before the place to type."""
        counts = ((len(self.images), "image"), (len(self.videos), "video"))
        more = "".join(f" + {counted(count, noun)}" for count, noun in counts if count)
        return f"{self.session.context_used / self.session.context_length:.0%}{more} > "

    @property
    def images(self) -> list[Pixels]:
        """The images that are attached."""
        return [medium for medium in self.attached if isinstance(medium, Pixels)]

    @property
    def videos(self) -> list[Clip]:
        """The video that is attached, or none."""
        return [medium for medium in self.attached if isinstance(medium, Clip)]

    def set_mode(self, mode: str) -> None:
        """Ask in this mode from the next question on; what it does not have of the settings rests.

        The conversation and its cache go on. SettingsError where the checkpoint cannot.
        """
        unset = vars(Settings())
        mine = {name: getattr(self.settings, name) for name in OF_MODES}
        given = {**self.resting, **{n: value for n, value in mine.items() if value != unset[n]}}
        used = {name: value for name, value in given.items() if mode in OF_MODES[name]}
        fields = {name: used.get(name, unset[name]) for name in OF_MODES}
        settings = replace(self.settings, mode=mode, **fields)
        settings.require_trained(self.session.model.config, self.session.name)
        self.settings = settings
        self.resting = {name: value for name, value in given.items() if name not in used}

    def attach(self, images: Sequence[Any] = (), video: Any = None) -> None:
        """Decode images and a video for the next question; a line says each."""
        if not images and video is None:
            return
        if video is not None and self.videos:
            raise ArgumentError("a video is attached already, expected one; /video - removes it.")
        with self.interruptible():
            require_vision(self.session.model.config.vision)
            clip = None if video is None else read_video(video)
            tokens = self.image_tokens if images else None
            media = self.session.prepared(list(images), clip, tokens)
        new = [medium for medium in media if isinstance(medium, Pixels)]
        self.attached = (*self.images, *new, *self.videos, *media[len(new) :])
        show_media(media, CLIPBOARD, ", for the next question.", pictures=self.pictures)

    def attach_dropped(self, dropped: Dropped) -> None:
        """Attach what was dropped into a line; ArgumentError for a second video."""
        if len(dropped.videos) > 1:
            raise ArgumentError(
                f"{counted(len(dropped.videos), 'video')} in one line, expected one at a time."
            )
        self.attach(dropped.images, next(iter(dropped.videos), None))

    def detach(self, kind: type[Pixels] | type[Clip]) -> int:
        """Take attached images or videos away; their number."""
        kept = tuple(medium for medium in self.attached if not isinstance(medium, kind))
        removed = len(self.attached) - len(kept)
        self.attached = kept
        return removed

    def turn(self, question: str, progress: Progress) -> Turn:
        """The turn that answers a question; an error says what to do with a long conversation.

        What is asked about without a word and cannot be answered is not attached any more.
        """
        try:
            return self.session.turn(
                question,
                settings=self.settings,
                think=self.think,
                progress=progress,
                images=self.images,
                video=next(iter(self.videos), None),
            )
        except (PromptError, FitError) as error:
            if self.attached and not question.strip():
                self.attached = ()
                raise type(error)(*error.args, " Nothing is attached any more.") from error
            if not self.session.history:
                raise
            raise type(error)(*error.args, " ", TOO_LONG) from error

    def new_notes(self, turn: Turn) -> list[str]:
        """The notes of a turn that none before it had."""
        new = [note for note in turn.notes if note not in self.noted]
        self.noted.update(new)
        return new

    def keep(self, turn: Turn) -> None:
        """Keep the part of an answer that there is: finished canvases, and tokens of mode ar."""
        if turn.kept:
            self.said += turn.messages()
            self.last = turn.reply()
            self.attached = ()

    def above(self, question: str) -> tuple[Run, ...]:
        """The conversation as it stands over the answer, the questions dim."""
        runs: list[Run] = []
        for message in [*self.said[-SHOWN_ABOVE:], Message("user", question, self.attached)]:
            asked = message.role == "user"
            media = "".join(f"[{name_of(medium, 'image')}] " for medium in message.media)
            text = f"{'> ' if asked else ''}{media}{message.content.rstrip()}\n"
            runs.append((text, THINKING if asked else ANSWER))
        return tuple(runs)
