"""Holes that have forms: what a canvas sees of them, and how far the text of each has come."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..constrain.machine import Machine
from .held import Held
from .pinned import OPEN, PinnedPositions
from .template import TemplateState

if TYPE_CHECKING:
    from ..constrain.holes import Hole


@dataclass(frozen=True)
class FormedHoles:
    """The forms of a template's holes, None for a hole without; lengths: positions of each."""

    machines: tuple[Machine | None, ...]
    lengths: tuple[int, ...]

    def held(self, positions: PinnedPositions, state: TemplateState) -> PinnedPositions:
        """The positions of a canvas, held to the forms of the holes in it."""
        from ..constrain.holes import HoleConstraints

        holes = list(self._in_view(positions, state))
        return replace(positions, held=Held.to(HoleConstraints(holes))) if holes else positions

    def _in_view(self, positions: PinnedPositions, state: TemplateState) -> "Iterator[Hole]":
        """The open holes of a canvas that have forms, each behind what is settled of its text."""
        from ..constrain.holes import Hole

        owners = np.array(positions.holes)[~positions.pinned]
        for number in np.unique(owners).tolist():
            if (machine := self.machines[number]) is None:
                continue
            inside = [
                t for t, hole in zip(state.tokens, state.holes, strict=True) if hole == number
            ]
            settled = [token for token in inside if token != OPEN]
            yield Hole(
                machine,
                rows=np.flatnonzero(owners == number),
                left=len(inside) - len(settled),
                state=machine.advance(machine.start, settled),
            )
