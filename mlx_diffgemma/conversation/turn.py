"""One question on its way to an answer: frames out, and a Reply at any time."""

import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

import mlx.core as mx

from ..assets import Task
from ..autoregressive.generate import generate
from ..autoregressive.lookup import Lookup, left_off
from ..autoregressive.router import Router
from ..constrain.constraint import Constraint
from ..errors import TurnError, brief, counted
from ..generation.frame import Frame, committed
from ..generation.settings import Settings
from ..model.prefix import Prefix
from ..model.text import Progress
from ..text.answer import Answer
from ..text.chat import Message
from ..text.reader import AnswerReader
from .conversation import Cut
from .form import AnswerForm, Tool, info_of, remarks_of
from .formed import FormReader
from .prompt import Prompt
from .reply import ConstraintInfo, Fresh, ImageInfo, Reply, RouterInfo, SamplerInfo, VideoInfo
from .segments import Begun, Segments
from .state import SessionState
from .told import images_of, loops, reply_of, router_info, videos_of


@dataclass
class Turn:
    """One question being answered. Iterate it once for its frames; ask it for the Reply any time.

    An iteration given up early leaves a Reply with the finished canvases, in mode ar with every
    token that was shown, and the finish reason "interrupted"; they also enter the conversation. So
    does one that another question, a reset or a restore ends: going on with it is a TurnError, as a
    second iteration is. A Reply costs as much as the answer is long; `reader` has what is new.
    puzzle: the problem that the session's task can check an answer to, as it was typed or read in a
    picture. replaced: the question whose place this one and its answer take. begun: ids of the
    answer that the prompt ends with, where this turn goes on with it; the Reply's text, thinking
    and tool calls are those of the whole answer, all else is of what comes behind.
    """

    session: SessionState
    question: Message
    asked: Prompt
    settings: Settings
    sampler: SamplerInfo
    raw: bool
    progress: Progress | None
    puzzle: str | None
    thinking: bool = False
    replaced: Message | None = None
    begun: tuple[int, ...] = ()
    remembered: bool = True  # by the conversation, whose later questions see it
    watched: bool = False  # frames of mode ar tell entropies
    lookup: Lookup | None = None  # of modes ar and auto, where it was asked for and pays
    tools: Sequence[Tool] = ()  # that the model was told of
    form: AnswerForm | None = None  # that the answer is held to
    constraint: Constraint | None = None  # the form on its way, behind the tokens so far
    router: Router | None = None  # of mode auto, from the first step on
    segments: Segments = field(default_factory=Segments)
    ended: str | None = None  # the reason that the conversation has no step left for it
    _iterations: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.reader = self._new_reader()  # has read every token that was shown
        self.reader.begin(self.begun)

    def __repr__(self) -> str:
        settings, come = self.settings, counted(len(self.segments.ids), "token")
        state = f"{come}, {self.segments.finish_reason or 'not finished'}"
        facts = (brief(self.prompt), f"mode {settings.mode}", f"seed {settings.seed}")
        return f"{type(self).__name__}({', '.join(facts)}, {state})"

    def __iter__(self) -> Generator[Frame, None, None]:
        if next(self._iterations):
            raise TurnError(
                "this answer has been iterated before, which works once; its reply() tells of it, "
                "and session.turn() asks again."
            )
        return self._steps()

    def _steps(self) -> Generator[Frame, None, None]:
        """Each frame, computed and counted in while the conversation is this turn's."""
        conversation, began = self.session.conversation, time.perf_counter()
        try:
            frames = conversation.step(self, self._first)
            while not self.finished:
                yield conversation.step(self, partial(self._next, frames, began))
        finally:
            if not self.ended:
                self.segments.total = time.perf_counter() - began
                conversation.leave(self)
            self.session.clock.saw(self._timed())

    def _first(self) -> Iterator[Frame]:
        mx.reset_peak_memory()
        session = self.session
        runs = self.asked.runs(session.model.config.image_ids)
        return self._frames(session.conversation.rewind(session.model, self.prompt_ids, runs))

    def _next(self, frames: Iterator[Frame], began: float) -> Frame:
        frame = self._cut_short() or self._read(next(frames))
        self.segments.take(frame, time.perf_counter() - began)
        if self.finished:
            self.session.conversation.leave(self)
        return frame

    def _frames(self, prefix: Prefix) -> Iterator[Frame]:
        if self.settings.mode == "auto":
            self.router = self.session.router(self.settings, self.thinking)
        return generate(
            self.session.model,
            self.prompt_ids,
            self.settings,
            images=self.asked.images,
            prefix=prefix,
            progress=self.progress,
            router=self.router,
            watched=self.watched,
            lookup=self.lookup,
            constraint=self.constraint,
        )

    def reply(self) -> Reply:
        """The answer as far as it has come."""
        ids = self.segments.ids
        return reply_of(self, self._answer(ids), self._count(ids))

    @property
    def committed(self) -> list[Frame]:
        """The finished segments."""
        return self.segments.committed

    @property
    def kept(self) -> list[Frame]:
        """The finished segments, and of mode ar also the one in work."""
        return self.segments.kept

    @property
    def prompt(self) -> str:
        """The text of the question."""
        return self.question.content

    @property
    def images(self) -> tuple[ImageInfo, ...]:
        """The images of the question; frames of its video are none."""
        return images_of(self.question.media)

    @property
    def videos(self) -> tuple[VideoInfo, ...]:
        """The videos of the question."""
        return videos_of(self.question.media)

    @property
    def prompt_ids(self) -> list[int]:
        """The token ids of the whole prompt."""
        return self.asked.ids

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each thing that was asked for and is not done as it should be."""
        off = left_off(self.settings, self.session.mode_times)
        return (*self.asked.notes, *([off] if off else ()))

    @property
    def remarks(self) -> tuple[str, ...]:
        """A line for each thing to be said behind the answer: of its form, of calls, of a loop."""
        of_calls = self._answer(self.segments.ids).remarks
        return (*remarks_of(self.constraint_info), *of_calls, *loops(self))

    def fresh(self, *, rest: bool = False) -> Fresh:
        """The part of the answer that has come since the last call, and stays whatever follows.

        All pieces together are the text, the thought and the calls of the finished answer's Reply;
        of an answer that goes on those behind its beginning. In mode diffusion there is something
        new after a finished canvas. rest: nothing follows, as of an answer that is given up.
        """
        reader = self.reader
        if rest:
            reader.end()
        return Fresh(reader.fresh(), reader.fresh_thought(), reader.fresh_calls())

    @property
    def thought_tokens(self) -> int:
        """The number of tokens in thoughts, names of channels among them, their markers not."""
        return self.reader.thought_tokens

    @property
    def finished(self) -> bool:
        """True where the answer has come to its end."""
        return self.segments.finish_reason is not None

    @property
    def task(self) -> Task | None:
        """The kind of problem that the checkpoint solves; None for a prompt as it is."""
        return None if self.raw else self.session.task

    @property
    def comes_whole(self) -> bool:
        """True where no part of the text is certain before its end.

        A puzzle's solution is checked then, and around JSON by a schema a fence may close.
        """
        return self.task is not None or (self.form is not None and self.form.form.kind == "schema")

    @property
    def stop_ids(self) -> Collection[int]:
        """Ids that end an answer; tokens behind one are no part of it."""
        return self.session.model.config.stop_ids

    def messages(self) -> list[Message]:
        """Question and answer as a conversation holds them: without thoughts."""
        return [self.question, Message("assistant", self.reply().text)]

    def problem(self) -> str | None:
        """The reason that the answer does not solve the puzzle of the session's task, or None."""
        task = self.task
        return task.problem(self.puzzle, self.reply().text) if task and self.puzzle else None

    @property
    def constraint_info(self) -> ConstraintInfo | None:
        """The form of the answer and its strain so far; None without a form."""
        if self.form is None:
            return None
        return info_of(self.form.form.kind, self.kept, self.settings.mode)

    @property
    def router_info(self) -> RouterInfo | None:
        """The times and decisions of mode auto so far; None in other modes."""
        return router_info(self.router)

    def _timed(self) -> Sequence[Begun]:
        """The segments that tell how long steps and tokens take here."""
        return self.segments.begun

    def _count(self, ids: list[int]) -> int:
        """The number of generated tokens, the stop id among them."""
        return len(ids)

    def _cut_short(self) -> Frame | None:
        """The end of an answer by mode ar of which the last token has completed a stop text."""
        last = self.segments.unfinished
        if last is None or self.reader.stopped is None:
            return None
        return committed(last, last.tokens, "stop")

    def _read(self, frame: Frame) -> Frame:
        """The frame with its text; a committed one is cut behind the first stop text."""
        ids = frame.tokens.tolist()
        if frame.committed:
            frame = self._finished(frame, ids)
        elif frame.mode == "ar":
            return replace(frame, text=self.reader.read(ids, settled=len(ids)).text)
        return replace(frame, text=self.session.tokenizer.decode(frame.tokens.tolist()))

    def _finished(self, frame: Frame, ids: list[int]) -> Frame:
        """A committed frame, cut after the token that completes the first stop text, if any."""
        self.reader.finish(ids, last=frame.finish_reason is not None)
        if (stop := self.reader.stopped) is None:
            return frame
        count = stop.tokens - len(self.begun) - sum(len(done.tokens) for done in self.committed)
        return replace(frame, tokens=frame.tokens[:count], finish_reason="stop")

    def _new_reader(self) -> AnswerReader:
        tokenizer, stop = self.session.tokenizer, self.settings.stop
        if self.form:
            return FormReader(tokenizer, self.form, self.stop_ids, self.tools)
        return AnswerReader(tokenizer, self.stop_ids, stop, raw=self.raw, tools=self.tools)

    def _answer(self, ids: list[int]) -> Answer:
        reader = self._new_reader()
        reader.finish([*self.begun, *ids])
        return reader.answer()

    def said(self) -> Sequence[Message]:
        """The messages that later questions see of it: none without a finished canvas."""
        seen = self.remembered and not self.raw and self.task is None
        return self.messages() if seen and self.segments.kept else ()

    def cut(self) -> Cut | None:
        """The answer as another turn can go on with it; None where it has come to its own end."""
        if self.segments.finish_reason == "stop":
            return None
        ids = self.segments.ids
        prompt = Prompt([*self.prompt_ids, *ids], images=self.asked.images)
        return Cut(self.question, prompt, (*self.begun, *ids), self.thinking, self.form, self.tools)
