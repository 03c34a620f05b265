"""One answer on its way: the frames of a turn as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from ...conversation.dialogue import Prepared
from ...conversation.reply import Filled, Fresh, Reply
from ...conversation.session import Session
from ...conversation.turn import Turn
from ...generation.frame import Frame
from ...model.text import Progress
from ..asked import Asked, Chat, Infill
from ..events import Begun, Call, Done, Event, Finish, Text, Thought, Timings, Usage
from ..refusal import STOPPING, fresh
from .drafts import Drafts
from .engine import STOPPED, Stopping

Look = Callable[[], None]
"""A look between two steps; an error that it raises ends the answer there."""


@dataclass
class Answering:
    """An answer, and what has been computed for it.

    cached: tokens of the prompt that were encoded before; before: encodes some more, to be kept by
    themselves; encoded: those encoded since; steps: of canvases; tokens: that were generated; each:
    tokens of mode ar between two looks.
    """

    asked: Asked
    look: Look
    stopping: Stopping
    key: Callable[[], str]
    cached: int
    before: Callable[[Turn, Progress], None] | None = None
    seconds_before: float = 0.0
    prompt_tokens: int = 0
    encoded: int = 0
    steps: int = 0
    tokens: int = 0
    drafts: Drafts | None = None
    stopped: bool = False
    calls: int = 0
    each: int = 1
    _piece: int = 0  # positions of those that are being encoded

    def events(self, session: Session, question: Prepared) -> Iterator[Event]:
        """All events of the answer to a question, whose beginning the session has encoded."""
        turn = question.begin(session, self._encoded)
        if self.asked.drafts:
            self.drafts, turn.watched = Drafts(), True
        self.prompt_tokens = len(turn.prompt_ids)
        yield Begun(turn.settings.seed or 0, self.prompt_tokens, self._spared(turn))
        self._encode_before(turn)
        with closing(iter(turn)) as frames:
            for frame in frames:
                self._count(turn, frame)
                yield from self._of_frame(turn, frame)
                if frame.committed and not turn.finished and self.stopping():
                    self.stopped = True
                    break
                if frame.mode != "ar" or frame.step % self.each == 0:
                    self.look()
        reply = turn.reply()
        yield from self._rest(turn, reply)
        yield self._done(turn, reply, question)

    def _encode_before(self, turn: Turn) -> None:
        """Encode what is to be kept by itself."""
        if self.before is not None:
            began = time.perf_counter()
            self.before(turn, self._encoded)
            self.seconds_before = time.perf_counter() - began

    def _encoded(self, done: int, total: int) -> None:
        """Count a piece of the prompt in, and look; Refusal where the server stops long before the
        first canvas.
        """
        self.encoded += done - self._piece
        self._piece = done % total
        self.look()
        if done < total and not self.tokens and self.stopping():
            raise fresh(STOPPING)

    def _spared(self, turn: Turn) -> int:
        """The tokens of the prompt that are not encoded again; mode ar reads the last anyway."""
        most = self.prompt_tokens - (turn.settings.mode != "diffusion")
        return min(self.cached, most)

    def _count(self, turn: Turn, frame: Frame) -> None:
        if not frame.committed and frame.mode == "diffusion":
            self.steps += 1
        self.tokens = sum(len(kept.tokens) for kept in turn.kept)

    def _of_frame(self, turn: Turn, frame: Frame) -> Iterator[Event]:
        """The events of a frame: a draft, or what it makes certain."""
        if self.drafts and (draft := self.drafts.take(turn, frame)):
            yield draft
        if (frame.committed or frame.mode == "ar") and not self._comes_whole(turn):
            yield from self._told(turn.fresh())

    def _comes_whole(self, turn: Turn) -> bool:
        """True where nothing is told before the end: a solution, or a hole alone."""
        return turn.task is not None or self._hole_only

    def _rest(self, turn: Turn, reply: Reply) -> Iterator[Event]:
        """The events that the end of the answer makes certain."""
        fresh = turn.fresh(rest=True)
        if isinstance(reply, Filled) and self._hole_only:
            fresh = replace(fresh, text=reply.holes[0])
        yield from self._told(fresh)

    def _told(self, fresh: Fresh) -> Iterator[Event]:
        """A piece of an answer as events; of calls no more than are wanted."""
        if fresh.thought:
            yield Thought(fresh.thought)
        if fresh.text:
            yield Text(fresh.text)
        for call in fresh.calls:
            self.calls += 1
            if not self._one_call or self.calls == 1:
                yield Call(self.key(), call.name, dict(call.arguments))

    @property
    def _one_call(self) -> bool:
        return isinstance(self.asked, Chat) and self.asked.one_call

    @property
    def _hole_only(self) -> bool:
        return isinstance(self.asked, Infill) and self.asked.hole_only

    def _done(self, turn: Turn, reply: Reply, question: Prepared) -> Done:
        finish, stop = self._finish(turn, reply)
        return Done(
            finish,
            usage=Usage(
                reply.prompt_tokens,
                reply.generated_tokens,
                self._spared(turn),
                turn.thought_tokens,
            ),
            timings=Timings(
                self.seconds_before + reply.seconds.prefill,
                self.seconds_before + reply.seconds.total,
                sum(reply.steps),
                reply.tokens_per_step,
            ),
            seed=reply.seed,
            warnings=(*self.asked.warnings, *question.notes, *self._warnings(turn)),
            stop=stop,
            constraint=reply.constraint,
            holes=reply.holes if isinstance(reply, Filled) else None,
        )

    def _finish(self, turn: Turn, reply: Reply) -> tuple[Finish, str | None]:
        """The reason that the answer ended, and the stop text if it was one."""
        if self.stopped or reply.finish_reason != "stop":
            return "length", None
        if (stopped := turn.reader.stopped) is not None:
            return "stop_text", stopped.text
        return ("tool_calls" if self.calls else "stop"), None

    def _warnings(self, turn: Turn) -> Iterator[str]:
        """A line for each thing that is not as it was asked for, or should be."""
        yield from turn.notes
        yield from turn.remarks
        if wrong := turn.problem():
            yield f"the answer does not solve the puzzle: {wrong}"
        if self._one_call and self.calls > 1:
            yield f"the model made {self.calls} calls, one was wanted: the others are left out."
        if self.stopped:
            yield STOPPED
