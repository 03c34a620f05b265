"""The state of a chat: questions and answers so far, and settings for the next question."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from ...checkpoint.vision import require_vision
from ...conversation.reply import Reply
from ...conversation.scene import FAINT, FINISHED, Run
from ...conversation.session import Session
from ...conversation.turn import Turn
from ...errors import FitError, PromptError, counted
from ...generation.settings import OF_MODES, Settings
from ...images.pixels import Pixels
from ...images.video import Clip
from ...model.text import Progress
from ...text.chat import Message
from ...text.placeholders import Medium
from ..answer.form import GivenForm
from ..answer.media import name_of, read_video, show_media
from ..errors import ArgumentError
from ..options import ModelOptions
from .dropped import Dropped
from .together import (
    ASK,
    MORE,
    RESET,
    RESTORE,
    SYSTEM,
    UNDO,
    Others,
    messages_told,
    question_told,
)

TOO_LONG = (
    "The whole conversation is in the prompt: /save FILE keeps it, /reset begins another one."
)
CLIPBOARD = "from the clipboard"  # the name of a picture that is no file's
NONE = "-"  # behind a command: takes away what it sets or attaches
SHOWN_ABOVE = 20  # messages that the live view shows over an answer


@dataclass(frozen=True)
class Request:
    """Something to be answered: a new question, one in place of the last, or more of an answer."""

    text: str
    media: tuple[Medium, ...]
    settings: Settings
    instead: bool = False
    more: bool = False

    @property
    def replaces(self) -> bool:
        """True where the last question and its answer give way to this one and its own."""
        return self.instead or self.more


@dataclass
class Talk:
    """A session as chat's commands see it.

    options: those that the model was loaded with; attached: images and a video that go with the
    next question; pictures: they are drawn where the terminal can; form: what answers are held to;
    interruptible: a stretch in which Ctrl-C may come; resting: settings that were given and that
    the present mode does not have; others: the Macs that answer together with this one.
    """

    session: Session
    settings: Settings
    options: ModelOptions = field(default_factory=ModelOptions)
    think: bool = False
    image_tokens: int | None = None
    pictures: bool = True
    form: GivenForm = field(default_factory=GivenForm)
    attached: tuple[Medium, ...] = ()
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
    said: list[Message] = field(default_factory=list)
    last: Reply | None = None
    noted: set[str] = field(default_factory=set)  # what has been said of questions, once a chat
    resting: Mapping[str, Any] = field(default_factory=dict)
    others: Others = field(default_factory=Others)

    def prompt(self) -> str:
        """The share of the context that is used, the form and what is attached, before the place
        to type.
        """
        counts = ((len(self.images), "image"), (len(self.videos), "video"))
        more = "".join(f" + {each.kind}" for each in self.form.given)
        more += "".join(f" + {counted(count, noun)}" for count, noun in counts if count)
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
        self.others.require_mode(self.session, mode)
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

    def question(self, text: str) -> Request:
        """A new question, with what is attached."""
        return Request(text, self.attached, self.settings)

    def last_question(self) -> Message:
        """The last question; ArgumentError where there is none."""
        if not self.said:
            raise ArgumentError("nothing was asked yet, expected a question; ask one.")
        return self.said[-2]

    def again(self, seed: int | None) -> Request:
        """The last question once more; seed: None for a new one. SettingsError out of range."""
        question = self.last_question()
        settings = replace(self.settings, seed=seed)
        return Request(question.content, question.media, settings, instead=True)

    def instead(self, text: str) -> Request:
        """Another question in place of the last one, with what was attached to that."""
        return Request(text, self.last_question().media, self.settings, instead=True)

    def more(self) -> Request:
        """The last answer, which was cut, gone on with."""
        question = self.last_question()
        return Request(question.content, question.media, self.settings, more=True)

    def undo(self) -> Message:
        """Take the last question and its answer back."""
        question = self.last_question()
        if self.session.history:
            self.others.tell(UNDO)
            self.session.undo()
        del self.said[-2:]
        self.last = None
        return question

    def reset(self) -> None:
        """Begin another conversation."""
        self.others.tell(RESET)
        self.session.reset()
        self.said.clear()
        self.last = None

    def restore(self, messages: Sequence[Message], system: str | None) -> None:
        """Go on with another conversation."""
        self.others.tell(RESTORE, messages=messages_told(messages), system=system)
        self.session.restore(messages, system)
        self.said = list(messages)
        self.last = None

    def turn(self, request: Request, progress: Progress) -> Turn:
        """The turn that answers; an error says what to do with a long conversation.

        What is asked about without a word and cannot be answered is not attached any more.
        """
        settings = self.others.seeded(request.settings)
        progress = self.others.looking(progress)
        try:
            if request.more:
                self.others.tell(MORE, settings=vars(settings))
                return self.session.more_turn(settings=settings, progress=progress)
            return self._asked(request, settings, progress)
        except (PromptError, FitError) as error:
            if self.attached and not request.replaces and not request.text.strip():
                self.attached = ()
                raise type(error)(*error.args, " Nothing is attached any more.") from error
            if not self.session.history:
                raise
            raise type(error)(*error.args, " ", TOO_LONG) from error

    def _asked(self, request: Request, settings: Settings, progress: Progress) -> Turn:
        """The turn of a question, of which the other Macs are told."""
        instead = request.instead and bool(self.session.history)
        told = (request.text, request.media, settings, self.form.options)
        if self.others.there:
            self.others.tell(ASK, **question_told(*told, think=self.think, instead=instead))
        return self.session.turn(
            request.text,
            settings=settings,
            think=self.think,
            progress=progress,
            images=[medium for medium in request.media if isinstance(medium, Pixels)],
            video=next((each for each in request.media if isinstance(each, Clip)), None),
            instead=instead,
            **self.form.options,
        )

    def set_system(self, text: str | None) -> None:
        """Set the system text of the next question, or remove it."""
        self.others.tell(SYSTEM, text=text)
        self.session.system = text

    def new_notes(self, turn: Turn) -> list[str]:
        """The notes of a turn that none before it had."""
        new = [note for note in turn.notes if note not in self.noted]
        self.noted.update(new)
        return new

    def keep(self, request: Request, turn: Turn) -> None:
        """Keep the part of an answer that there is: finished canvases, and tokens of mode ar."""
        if not turn.kept:
            return
        if request.replaces:
            del self.said[-2:]
        else:
            self.attached = ()
        self.said += turn.messages()
        self.last = turn.reply()

    def above(self, request: Request) -> tuple[Run, ...]:
        """The conversation as it stands over the answer, the questions dim."""
        runs: list[Run] = []
        said = self.said[:-2] if request.replaces else self.said
        asked_now = Message("user", request.text, request.media)
        for message in [*said[-SHOWN_ABOVE:], asked_now]:
            asked = message.role == "user"
            media = "".join(f"[{name_of(medium, 'image')}] " for medium in message.media)
            text = f"{'> ' if asked else ''}{media}{message.content.rstrip()}\n"
            runs.append((text, FAINT if asked else FINISHED))
        if request.more:
            runs.append((self.said[-1].content, FINISHED))
        return tuple(runs)
