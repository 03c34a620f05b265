"""Frames: what a generation shows of itself, a step or a token at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import counted


@dataclass(frozen=True)
class Frame:
    """A segment of an answer after a step: a canvas or, in mode ar, the tokens written so far.

    canvas, step: numbers from 0, in mode ar of the segment and of its token; a committed frame
    carries its last step's. tokens [C] int32: the argmax canvas or the tokens so far; committed,
    those that the segment ends with, cut after the stop id and at max_tokens. entropies [C] float32
    nats; accepted [C] bool: kept for the next step; temperature of the step. seconds: from the
    step's submission until it was read, caller_seconds of them while the caller had the frame
    before; encode_seconds the encoder took before this segment. second_tier_rows: positions whose
    next soft embedding is gathered from more tokens than usual; dense_rows: those that take the
    whole product. finish_reason ("stop" or "length") is set on the last frame of all. text is
    filled where a tokenizer is known. mode: "diffusion" or "ar"; there entropies are NaN where
    nobody looks at them, and top_probability, the last token's, is None. strain: of an answer with
    a form, -log of what the form leaves of this step's distributions, in nats, in mode ar of all
    tokens so far; settled: of a committed canvas, False where the steps ran out before it was.
    """

    canvas: int
    step: int
    tokens: NDArray[np.int32]
    entropies: NDArray[np.float32]
    accepted: NDArray[np.bool_]
    committed: bool = False
    temperature: float = 0.0
    seconds: float = 0.0
    caller_seconds: float = 0.0
    encode_seconds: float = 0.0
    second_tier_rows: int = 0
    dense_rows: int = 0
    finish_reason: str | None = None
    text: str = ""
    mode: str = "diffusion"
    top_probability: float | None = None
    strain: float | None = None
    settled: bool | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._facts())})"

    def _facts(self) -> Iterator[str]:
        """Where it stands, and how far it has come."""
        yield f"canvas {self.canvas}" if self.mode == "diffusion" else f"segment {self.canvas}"
        yield f"{'step' if self.mode == 'diffusion' else 'token'} {self.step}"
        if self.committed:
            yield from (counted(len(self.tokens), "token"), "committed")
        elif self.mode == "diffusion":
            yield f"{self.num_accepted} of {self.num_denoised} accepted"
            yield f"{self.mean_entropy:.4f} nats"
        if self.finish_reason:
            yield self.finish_reason

    @property
    def mean_entropy(self) -> float:
        """Mean over the canvas, in nats: the confidence half of the stop test."""
        return float(self.entropies.mean())

    @property
    def num_denoised(self) -> int:
        """Positions that are denoised; committed: tokens that were."""
        return len(self.tokens)

    @property
    def num_accepted(self) -> int:
        """Accepted positions, of `num_denoised`."""
        return int(self.accepted.sum())


def ended(
    tokens: NDArray[np.int32], stop_ids: Sequence[int], *, is_last: bool
) -> tuple[NDArray[np.int32], str | None]:
    """A segment's tokens, cut after the first stop id, and the finish reason if it is one.

    is_last: no token may come behind these.
    """
    stops = np.flatnonzero(np.isin(tokens, stop_ids))
    if stops.size:
        return tokens[: stops[0] + 1], "stop"
    return tokens, "length" if is_last else None


Given = TypeVar("Given", bound=Frame)


def committed(
    last: Given, tokens: NDArray[np.int32], finish_reason: str | None, **changes: Any
) -> Given:
    """The committed frame of a canvas, made of its last one."""
    return replace(
        last,
        tokens=tokens,
        committed=True,
        finish_reason=finish_reason,
        seconds=0.0,
        **changes,
    )
