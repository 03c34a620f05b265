"""Holes that have forms: what a canvas sees of them, and how far the text of each has come."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from ..constrain.holes import CommonClasses, Hole, HoleConstraints
from ..constrain.machine import Machine
from ..errors import ConstraintError, counted
from .classes import ClassOrder, class_order
from .held import Held
from .pinned import OPEN, PinnedPositions
from .template import TemplateState


@dataclass(frozen=True)
class FormedHoles:
    """The forms of a template's holes, None for a hole without; lengths: positions of each.

    ConstraintError for another number of forms than holes, or a hole too short for its form.
    """

    machines: tuple[Machine | None, ...]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.machines) != len(self.lengths):
            raise ConstraintError(
                f"{counted(len(self.machines), 'form')} for {counted(len(self.lengths), 'hole')}, "
                "expected one each, or None."
            )
        for number, (machine, length) in enumerate(zip(self.machines, self.lengths, strict=True)):
            if machine and (needed := int(machine.distance[machine.start])) > length:
                raise ConstraintError(
                    f"hole {number + 1} has {counted(length, 'position')}, its form takes "
                    f"{counted(needed, 'token')} at least; make it longer."
                )

    def held(self, positions: PinnedPositions, state: TemplateState) -> PinnedPositions:
        """The positions of a canvas, held to the forms of the holes in it."""
        holes = list(self._in_view(positions, state))
        if not holes:
            return positions
        common, order = self._common_of(tuple(dict.fromkeys(hole.machine for hole in holes)))
        return replace(positions, held=Held(HoleConstraints(holes, common), order))

    @cached_property
    def _common_of(self) -> Callable[[tuple[Machine, ...]], tuple[CommonClasses, ClassOrder]]:
        """The common classes of machines, and their order: those of the last canvas are kept."""

        @lru_cache(maxsize=1)
        def common_of(machines: tuple[Machine, ...]) -> tuple[CommonClasses, ClassOrder]:
            common = CommonClasses(machines)
            return common, class_order(common.of, common.num_classes)

        return common_of

    def _in_view(self, positions: PinnedPositions, state: TemplateState) -> Iterator[Hole]:
        """The open holes of a canvas that have forms, each behind what is settled of its text."""
        owners = np.array(positions.holes)[~positions.pinned]
        settled, hole_of = np.array(state.tokens), np.array(state.holes)
        for number in np.unique(owners).tolist():
            if (machine := self.machines[number]) is not None:
                tokens = settled[hole_of == number]
                done = tokens[tokens != OPEN].tolist()
                yield Hole(
                    machine,
                    rows=np.flatnonzero(owners == number).tolist(),
                    left=len(tokens) - len(done),
                    state=machine.advance(machine.start, done),
                )
