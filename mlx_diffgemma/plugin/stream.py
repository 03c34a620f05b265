"""An answer as llm takes it: thoughts, and text that stays, whatever comes behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm.parts import StreamEvent

from ..errors import PromptError

if TYPE_CHECKING:
    from ..conversation.turn import Turn
    from ..generation.frame import Frame


def answered(turn: "Turn") -> Iterator[StreamEvent]:
    """The answer in pieces: of a canvas when it is finished, in mode ar token by token.

    Ctrl-C ends the answer where something of it has come. JSON by a schema comes as a whole, and so
    does a puzzle's solution, or a PromptError: digits that are wrong are no answer.
    """
    told = Told(turn)
    try:
        for frame in turn:
            if not turn.comes_whole:
                yield from told.new(frame)
    except KeyboardInterrupt:
        if not turn.kept:
            raise
    if problem := turn.problem():
        raise PromptError(f"not a valid solution: {problem}; try another seed.")
    yield from told.rest()


@dataclass
class Told:
    """The text and the thoughts that llm has been given."""

    turn: "Turn"
    text: str = ""
    thinking: str = ""

    def new(self, frame: "Frame") -> Iterator[StreamEvent]:
        """The pieces that a frame adds: what is certain, thoughts first."""
        if frame.committed or frame.mode == "ar":
            fresh = self.turn.fresh()
            yield from self._events(fresh.thought, fresh.text)

    def rest(self) -> Iterator[StreamEvent]:
        """What has waited for more to come, such as blanks that a thought may follow."""
        reply = self.turn.reply()
        thought = (reply.thinking or "")[len(self.thinking) :]
        yield from self._events(thought, reply.text[len(self.text) :])

    def _events(self, thought: str, text: str) -> Iterator[StreamEvent]:
        self.thinking += thought
        self.text += text
        if thought:
            yield StreamEvent("reasoning", thought)
        if text:
            yield StreamEvent("text", text)
