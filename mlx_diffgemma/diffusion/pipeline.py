"""The steps of one canvas, where a device has the next one before the last is handed out.

While a step runs, the decoder of the one behind it is built. Once the step's summary is read and
the canvas goes on, that next step is submitted, and only then does the caller get the frame: the
device works while the caller draws. A canvas that ends has built a graph that is thrown away; a
caller who stops has had one step too many computed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..machine.device import on_gpu
from ..model.given import Ids, Unread
from ..model.prefix import Buffers, Prefix
from ..model.text import Model
from .positions import Positions
from .soft import joined
from .state import Outcome, State, StepInputs
from .step import Step, Submitted, decoded, read, submit


def runs_ahead() -> bool:
    """True where steps are submitted ahead; a CPU computes parts of them while they are built."""
    return on_gpu()


@dataclass
class Pipeline:
    """The steps of a canvas, one after the other: `begin`, then `read` and `go_on` in turn.

    inputs: a step's number -> its inputs. number: of the step that runs, or was read last, and its
    seconds from its submission until it was read. ahead: steps are submitted before frames are
    handed out, by whoever calls; never of a model with pauses, whose layers are computed while they
    are built, or where Macs share a canvas: then the host decides what the next step sees.
    """

    model: Model
    prefix: Prefix
    positions: Positions[Any]
    inputs: Callable[[int], StepInputs]
    ahead: bool = field(default_factory=lambda: runs_ahead())
    own: Positions[Any] = field(init=False)  # those that are computed here
    number: int = -1
    seconds: float = 0.0
    _began: float = 0.0
    _running: Submitted | None = None
    _done: Step | None = None
    _ahead: mx.array | None = None  # hidden [F, H] of the next step, if no row waits for a product
    _held: Buffers | None = None  # the prefix's buffers without it

    def __post_init__(self) -> None:
        alone = self.model.part.share.alone
        self.ahead = self.ahead and self.model.pauses is None and alone
        C = self.model.config.canvas_length
        self.own = self.positions.within(self.model.part.rows(C).own)

    def begin(self, state: State) -> None:
        """Submit the first step."""
        self._began = time.perf_counter()
        self._submit(self._decoded(state.tokens, state.soft), state.best)

    def read(self, *, is_last: bool) -> Outcome:
        """Wait for the step that runs; unless it is the last one, with the next decoder built."""
        if self._running is None:
            raise RuntimeError("begin or go_on comes before read")
        if self.ahead and not is_last and self._running.readers.take_the_canvas:
            self._build_ahead(self._running)
        self._done = read(self._running)
        self.seconds = time.perf_counter() - self._began
        return self._done.outcome

    def go_on(self) -> None:
        """Submit the step behind the one that was read; rows that wait take their product here."""
        if self._done is None:
            raise RuntimeError("read comes before go_on")
        self._began, done = time.perf_counter(), self._done
        if self._ahead is not None and done.soft.is_complete:
            hidden, self._held = self._ahead, None
        else:
            self.put_back()
            soft = self.own.soft(self.model, done.soft.completed(self.model))
            hidden = self._decoded(self.positions.canvas(done.next_canvas), soft)
        best = done.best
        self._ahead = self._running = self._done = None
        del done  # its logits, before there are new ones
        self._submit(hidden, best)

    def tokens(self) -> NDArray[np.int32]:
        """The tokens [F] that the canvas ends with at the step that was read.

        The argmax or, where a form holds the rows, the likeliest way: the form's state moves on.
        """
        if self._done is None:
            raise RuntimeError("read comes before tokens")
        masses = self._done.masses
        return self._done.outcome.best if masses is None else masses.commit()

    def put_back(self) -> None:
        """Take out of the prefix's buffers what was built and never submitted."""
        if self._held is not None:
            self.prefix.put_back(self._held)
        self._ahead = self._held = None

    def _build_ahead(self, running: Submitted) -> None:
        """Build the decoder behind the step that runs, of arrays that nobody has read."""
        built = running.built
        if any(part.tier is None for part in built.parts):
            return  # all rows wait for a product
        self._held = self.prefix.buffers()
        soft = self.positions.soft(self.model, joined(built.parts))
        self._ahead = self._decoded(Unread(self.positions.canvas(built.next_canvas)), soft)

    def _decoded(self, tokens: Ids | Unread, soft: mx.array | None) -> mx.array:
        return decoded(tokens, soft, self.own.rows, self.model, self.prefix)

    def _submit(self, hidden: mx.array, best: mx.array | None) -> None:
        self.number += 1
        self._running = submit(hidden, best, self.inputs(self.number), self.model)
