"""One question on its way to an answer: frames out, and a Reply at any time."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import mlx.core as mx

from ..assets import Task
from ..autoregressive.generate import generate
from ..autoregressive.router import Router
from ..errors import TurnError
from ..generation.frame import Frame
from ..generation.noise import fresh_seed
from ..generation.settings import Settings
from ..images.pixels import Pixels
from ..images.video import Clip
from ..kernels import dispatch
from ..model.cache import Prefix
from ..model.text import Progress
from ..text.answer import Answer
from ..text.chat import Message
from ..text.reader import parse_answer
from ..version import __version__
from .prompt import Prompt
from .reply import ImageInfo, Reply, RouterInfo, SamplerInfo, Seconds, Segment, VideoInfo

if TYPE_CHECKING:
    from .session import Session


@dataclass
class Turn:
    """One question being answered. Iterate it once for its frames; ask it for the Reply any time.

    An iteration given up early leaves a Reply with the finished canvases and the finish reason
    "interrupted"; they also enter the conversation. So does one that another question, a reset or a
    restore ends: going on with it is a TurnError, as a second iteration is. puzzle: the problem
    that the session's task can check an answer to, as it was typed or read in a picture.
    """

    session: "Session"
    question: Message
    asked: Prompt
    settings: Settings
    sampler: SamplerInfo
    raw: bool
    progress: Progress | None
    puzzle: str | None
    router: Router | None = None  # of mode auto
    watched: bool = False  # frames of mode ar tell entropies
    committed: list[Frame] = field(default_factory=list)
    unfinished: Frame | None = None  # of mode ar: tokens that were shown and stay
    text_end: int | None = None  # where a stop text cuts the answer
    modes: list[str] = field(default_factory=list)  # of each segment
    seconds: list[float] = field(default_factory=list)  # as many
    encode_seconds: list[float] = field(default_factory=list)
    first_canvas: float | None = None
    total: float = 0.0
    ended: str | None = None  # the reason that the conversation has no step left for it
    _iterations: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    def __iter__(self) -> Iterator[Frame]:
        if next(self._iterations):
            raise TurnError(
                "this answer has been iterated before, which works once; its reply() tells of it, "
                "and session.turn() asks again."
            )
        return self._steps()

    def _steps(self) -> Iterator[Frame]:
        """Each frame, computed and counted in while the conversation is this turn's."""
        conversation, began = self.session.conversation, time.perf_counter()
        try:
            frames = conversation.step(self, self._first)
            while not self.finished:
                yield conversation.step(self, partial(self._next, frames, began))
        finally:
            if not self.ended:
                self.total = time.perf_counter() - began
                conversation.leave(self)

    def _first(self) -> Iterator[Frame]:
        mx.reset_peak_memory()
        session = self.session
        runs = self.asked.runs(session.model.config.image_ids)
        return self._frames(session.conversation.rewind(session.model, self.prompt_ids, runs))

    def _next(self, frames: Iterator[Frame], began: float) -> Frame:
        frame = self._seen(next(frames), began)
        if self.finished:
            self.session.conversation.leave(self)
        return frame

    def _frames(self, prefix: Prefix) -> Iterator[Frame]:
        return generate(
            self.session.model,
            self.prompt_ids,
            self.settings,
            images=self.asked.images,
            prefix=prefix,
            progress=self.progress,
            router=self.router,
            watched=self.watched,
        )

    def reply(self) -> Reply:
        """The answer as far as it has come."""
        ids = [int(token) for frame in self.kept for token in frame.tokens]
        answer = self._answer(ids)
        denoised = [frame for frame in self.kept if frame.mode == "diffusion"]
        steps = [frame.step + 1 for frame in denoised]
        count = self._count(ids)
        by_canvas = len(denoised) == len(self.kept)
        tokens = count if by_canvas else sum(len(frame.tokens) for frame in denoised)
        canvas_length = self.session.model.config.canvas_length
        return Reply(
            text=answer.text[: self.text_end],
            thinking=answer.thinking,
            tool_calls=answer.tool_calls,
            token_ids=tuple(ids),
            finish_reason=self._finish_reason() or "interrupted",
            seed=self.settings.seed or 0,
            prompt_tokens=len(self.prompt_ids),
            images=self.images,
            videos=self.videos,
            puzzle=self.puzzle,
            mode=self.settings.mode,
            segments=self._segments(),
            router=self._router_info(),
            lookup=None,
            generated_tokens=count,
            canvases=len(steps),
            steps=tuple(steps),
            tokens_per_step=_ratio(tokens, sum(steps)),
            seconds=self._seconds(),
            tokens_per_second=_ratio(count, self.total),
            positions_per_second=(
                _ratio(canvas_length * len(steps), self.total) if by_canvas else None
            ),
            peak_memory_bytes=mx.get_peak_memory(),
            sampler=self.sampler,
            model=self.session.info,
            tuned=self.session.tuned,
            kernels="metal" if dispatch.running() else "ops",
            version=__version__,
        )

    @property
    def kept(self) -> list[Frame]:
        """The finished segments, and of mode ar also the one in work."""
        return [*self.committed, *([self.unfinished] if self.unfinished else ())]

    @property
    def prompt(self) -> str:
        """The text of the question."""
        return self.question.content

    @property
    def images(self) -> tuple[ImageInfo, ...]:
        """The images of the question; frames of its video are none."""
        media = self.question.media
        return tuple(
            ImageInfo(m.soft_tokens, m.width, m.height) for m in media if isinstance(m, Pixels)
        )

    @property
    def videos(self) -> tuple[VideoInfo, ...]:
        """The videos of the question."""
        media = self.question.media
        return tuple(
            VideoInfo(len(m.frames), m.soft_tokens, m.seconds) for m in media if isinstance(m, Clip)
        )

    @property
    def prompt_ids(self) -> list[int]:
        """The token ids of the whole prompt."""
        return self.asked.ids

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each thing that was asked for and does not reach the model as it should."""
        return self.asked.notes

    @property
    def finished(self) -> bool:
        """True where the answer has come to its end."""
        return self._finish_reason() is not None

    @property
    def task(self) -> Task | None:
        """The kind of problem that the checkpoint solves; None for a prompt as it is."""
        return None if self.raw else self.session.task

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

    def _seconds(self) -> Seconds:
        return Seconds(
            load=self.session.load_seconds,
            prefill=self.encode_seconds[0] if self.encode_seconds else 0.0,
            denoise=self._seconds_of("diffusion"),
            commit=sum(self.encode_seconds[1:], 0.0),
            write=self._seconds_of("ar"),
            first_canvas=self.first_canvas,
            total=self.total,
        )

    def _seconds_of(self, mode: str) -> float:
        """The time of all steps, or tokens, of a mode."""
        both = zip(self.modes, self.seconds, strict=True)
        return sum((seconds for of, seconds in both if of == mode), 0.0)

    def _segments(self) -> tuple[Segment, ...]:
        return tuple(
            Segment(
                frame.mode,
                len(frame.tokens),
                frame.step + 1 if frame.mode == "diffusion" else None,
                self.seconds[frame.canvas],
            )
            for frame in self.kept
        )

    def _router_info(self) -> RouterInfo | None:
        if self.router is None:
            return None
        times = self.router.times
        return RouterInfo(
            step_ms=1e3 * times.step,
            token_ms=1e3 * times.token,
            commit_ms=1e3 * times.commit_seconds,
            length_factor=self.router.length_factor,
            source=times.source,
            decisions=tuple(self.router.decisions),
        )

    def _count(self, ids: list[int]) -> int:
        """The number of generated tokens, the stop id among them."""
        return len(ids)

    def _finish_reason(self) -> str | None:
        return self.committed[-1].finish_reason if self.committed else None

    def _seen(self, frame: Frame, began: float) -> Frame:
        """Counts a frame in, gives it its text, and applies the stop texts to a committed one."""
        self.total = time.perf_counter() - began
        if frame.canvas == len(self.encode_seconds):
            self.encode_seconds.append(frame.encode_seconds)
            self.modes.append(frame.mode)
            self.seconds.append(0.0)
        self.seconds[frame.canvas] += frame.seconds
        if frame.mode == "ar" and not frame.committed:
            self.unfinished = frame
        if frame.committed:
            frame = self._stopped(frame)
            self.unfinished = None
            self.committed.append(frame)
            if self.first_canvas is None:
                self.first_canvas = self.total
        return replace(frame, text=self.session.tokenizer.decode(frame.tokens.tolist()))

    def _stopped(self, frame: Frame) -> Frame:
        """The frame, cut after the token that completes the first stop text, if there is one."""
        before = [int(token) for done in self.committed for token in done.tokens]
        tokens = frame.tokens.tolist()
        if not self._stop_positions([*before, *tokens]):
            return frame
        count, found = next(
            (n, found)
            for n in range(len(tokens) + 1)
            if (found := self._stop_positions([*before, *tokens[:n]]))
        )
        self.text_end = min(found)
        return replace(frame, tokens=frame.tokens[:count], finish_reason="stop")

    def _stop_positions(self, ids: list[int]) -> list[int]:
        """Indices in the answer's text at which stop texts begin."""
        text = self._answer(ids).text if self.settings.stop else ""
        return [at for stop in self.settings.stop if (at := text.find(stop)) >= 0]

    def _answer(self, ids: list[int]) -> Answer:
        if not self.raw:
            return parse_answer(self.session.tokenizer, ids, self.stop_ids)
        kept = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        return Answer(self.session.tokenizer.decode(kept, special=True), None, ())

    def said(self) -> Sequence[Message]:
        """The messages that later questions see of it: none without a finished canvas."""
        return self.messages() if self.kept and not self.raw and self.task is None else ()


def seeded(settings: Settings | None) -> Settings:
    """The settings, with a fresh seed where none was chosen."""
    settings = settings or Settings()
    return settings if settings.seed is not None else replace(settings, seed=fresh_seed())


def _ratio(count: float, by: float) -> float | None:
    """A rate; None where nothing was measured."""
    return count / by if by else None
