"""Frames of a turn as texts: for each token the text it shows, and its role in the answer."""

from collections.abc import Callable

from ..generation.frame import Frame
from ..text.pieces import Parts
from ..text.reader import AnswerReader
from .turn import Turn

Reader = Callable[[Frame], Parts]
"""Texts and roles of a frame's tokens; frames come in order."""


def turn_reader(turn: Turn) -> Reader:
    """The reader of a turn's frames, with the session's tokenizer."""
    answer = AnswerReader(turn.session.tokenizer, turn.stop_ids)
    answer.begin(turn.begun)

    def read(frame: Frame) -> Parts:
        ids = frame.tokens.tolist()
        if frame.committed:
            return answer.finish(ids, last=frame.finish_reason is not None)
        return answer.read(ids, settled=len(ids) if frame.mode == "ar" else 0)

    return read
