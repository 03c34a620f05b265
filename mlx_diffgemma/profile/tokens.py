"""Mode ar measured: seconds of each token, and of causal passes over several rows."""

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, pairwise

import mlx.core as mx

from ..autoregressive.write import write
from ..generation.frame import Frame
from ..generation.settings import Settings
from ..model.prefix import Prefix
from ..model.roofline import ROWS
from ..model.text import Model
from .race import Work, race

TOKENS = 64  # written at a time, or a canvas's where that has fewer: each costs about the same


@dataclass(frozen=True)
class TokenRecord:
    """The tokens written behind one prompt: seconds of each but the first.

    began: on the clock that measured, when the first was there.
    """

    prompt_tokens: int
    began: float
    seconds: tuple[float, ...]


class Writing:
    """Tokens of mode ar behind a prompt, which stays encoded; no token ends them."""

    def __init__(self, model: Model, tokens: Sequence[int]) -> None:
        self.model, self.tokens = _endless(model), list(tokens)
        self.count = max(2, min(TOKENS, model.config.canvas_length))
        self.prefix = self.model.new_prefix()

    def __call__(self, seed: int = 0, on_frame: Callable[[Frame], None] | None = None) -> None:
        """Write `count` tokens; on_frame is told of each when it is read."""
        settings = Settings(mode="ar", seed=seed, max_tokens=self.count)
        self.prefix.roll_back(len(self.tokens) - 1)
        for frame in write(self.model, self.tokens, settings, prefix=self.prefix):
            if on_frame and not frame.committed:
                on_frame(frame)


@dataclass
class Written:
    """The tokens measured of one model so far, and seconds of passes by their number of rows."""

    model: Model
    clock: Callable[[], float] = time.perf_counter
    records: list[TokenRecord] = field(default_factory=list)
    rows: dict[int, list[float]] = field(default_factory=dict)
    _writing: Writing | None = field(default=None, init=False, repr=False)

    def answer(self, tokens: Sequence[int], seed: int) -> TokenRecord:
        """Time tokens behind a prompt, which is encoded anew where it is another than the last."""
        if self._writing is None or self._writing.tokens != list(tokens):
            self._writing = Writing(self.model, tokens)
        stamps: list[float] = []
        self._writing(seed, lambda frame: stamps.append(self.clock()))
        seconds = tuple(later - earlier for earlier, later in pairwise(stamps))
        return TokenRecord(len(tokens), stamps[0], seconds)

    def race_rows(self, tokens: Sequence[int]) -> None:
        """Time passes over each of ROWS behind a prompt, in turn."""
        self.rows = race(row_works(self.model, tokens), self.clock)


def row_works(model: Model, tokens: Sequence[int]) -> dict[int, Work]:
    """Passes over each of ROWS that the context holds, which read the prompt again behind it."""
    prefix = model.encode(tokens)
    most = min(ROWS[-1], model.config.text.max_position_embeddings - prefix.length)
    prefix.reserve(prefix.length + most)
    ids = list(islice(cycle(tokens), most))
    return {rows: _pass(model, prefix, ids[:rows]) for rows in ROWS if rows <= most}


def _pass(model: Model, prefix: Prefix, ids: Sequence[int]) -> Work:
    """One pass with the likeliest token behind each row, taken off the prefix again."""
    length = prefix.length

    def run() -> None:
        if len(ids) == 1:
            logits = model.step(ids[0], prefix)
        else:
            logits = model.logits(model.encode_hidden(ids, prefix, images=None))
        mx.eval(mx.argmax(logits, axis=-1))
        prefix.roll_back(length)

    return run


def _endless(model: Model) -> Model:
    """The same network, for which no token is a stop id: what is timed has a length of its own."""
    endless = copy(model)
    endless.config = replace(model.config, stop_ids=())
    return endless
