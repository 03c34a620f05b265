"""The automaton of a whole answer, on token classes: a thought, the text, its end, and what fills.

States 0 .. Q - 1 are the text's, then comes DONE, then THOUGHT and OPENING where thoughts are
allowed. Axes: V vocabulary, K classes, S states, E edges.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import ConstraintError, counted
from .classes import TokenClasses
from .dfa import Dfa
from .vocabulary import Vocabulary

FAR = np.iinfo(np.int32).max  # the distance of a state from which an answer never ends
CONTROL, UNFITTING = 0, 1  # classes: no text, or a control token not in use; text that fits nowhere


@dataclass(frozen=True)
class Channel:
    """Ids that open and close a thought; needed: the answer begins with one."""

    opening: int
    closing: int
    needed: bool = False


@dataclass(frozen=True)
class Controls:
    """Control tokens that take part in an answer.

    stops end it; where there are none it ends with its place, as a hole's text does. fillers stand
    behind its end. channel: of thoughts, None where none is allowed. marks: the ids of a pattern's
    marks.
    """

    stops: tuple[int, ...]
    fillers: tuple[int, ...]
    channel: Channel | None = None
    marks: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = [*dict.fromkeys(self.stops), *self.marks.values(), *self._ends]
        if twice := sorted({token for token in own if own.count(token) > 1}):
            raise ConstraintError(f"the ids {twice} have two uses in one form; give others.")

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them."""
        return (*self.stops, *self.fillers, *self._ends, *self.marks.values())

    @property
    def _ends(self) -> tuple[int, ...]:
        channel = self.channel
        return () if channel is None else (channel.opening, channel.closing)


@dataclass(frozen=True, eq=False)
class Machine:
    """Edges: source --label--> target, each [E] int32, the label a class.

    of [V] int32: a token's class; distance [S] int64: the tokens that are needed from a state until
    the answer has ended, its end included.
    """

    of: NDArray[np.int32]
    num_classes: int
    source: NDArray[np.int32]
    label: NDArray[np.int32]
    target: NDArray[np.int32]
    num_states: int
    start: int
    done: int
    distance: NDArray[np.int64]

    def advance(self, state: int, tokens: Collection[int]) -> int:
        """The state behind tokens; ConstraintError at the first that leads nowhere."""
        for index, token in enumerate(tokens):
            known = 0 <= token < len(self.of)
            label = self.of[token] if known else CONTROL
            found = np.flatnonzero((self.source == state) & (self.label == label))
            if not found.size:
                raise ConstraintError(
                    f"token {token} at {index} is not allowed by the form; give text that fits it."
                )
            state = int(self.target[found[0]])
        return state


def machine(vocab: Vocabulary, dfa: Dfa, found: TokenClasses, controls: Controls) -> Machine:
    """The machine of answers whose text an automaton accepts; found: its token classes.

    ConstraintError where a control token writes text, or its id is not in the vocabulary.
    """
    require_control(controls.ids, vocab)
    edges = _Edges(np.where(vocab.writes, found.of + 1, CONTROL).astype(np.int32), len(found.rows))
    text = edges.of_rows(found.rows)
    done = thought = dfa.num_states
    accepting = np.flatnonzero(dfa.accepts[:done])
    for token in dict.fromkeys(controls.stops or controls.fillers):
        edges.single(accepting, token, done)
    for token in dict.fromkeys(controls.fillers):
        edges.single([done], token, done)
    for name in dfa.marks:
        text = np.concatenate([text, edges.mark(dfa.after(name), controls.marks[name])])
    start = 0
    if channel := controls.channel:
        thought, start = done + 1, done + 2
        edges.add(thought, np.arange(UNFITTING, len(found.rows) + 1), thought)
        edges.single([start], channel.opening, thought)
        edges.single([thought], channel.closing, 0)
        if not channel.needed:
            first = text[text[:, 0] == 0]
            edges.add(start, first[:, 1], first[:, 2])
    ends = [done] if controls.stops else [done, *accepting.tolist()]
    return edges.machine(start, done, ends, num_states=max(start, done) + 1)


def require_control(ids: Collection[int], vocab: Vocabulary) -> None:
    """ConstraintError for ids that write text, or that the vocabulary has not."""
    if unknown := sorted({i for i in ids if not 0 <= i < len(vocab)}):
        raise ConstraintError(
            f"the ids {unknown} are not in a vocabulary of {counted(len(vocab), 'token')}."
        )
    if clash := sorted({i for i in ids if vocab.texts[i] is not None}):
        raise ConstraintError(
            f"the ids {clash} write text, expected control tokens; see eos_token_id in config.json."
        )


class _Edges:
    """Rows (source, label, target); a control token gets a class of its own when it is used."""

    def __init__(self, of: NDArray[np.int32], num_rows: int) -> None:
        self.of = of
        self.count = num_rows + 1
        self.parts: list[NDArray[np.int64]] = []

    def of_rows(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Add the edges of text: those of each class to where its row leads."""
        dead = rows.shape[1] - 1
        label, source = np.nonzero(rows[:, :dead] != dead)
        return self._append(source, label + 1, rows[label, source])

    def mark(self, leads: NDArray[np.int32], token: int) -> NDArray[np.int64]:
        """Add the edges of a mark, which leads [Q + 1] from each state somewhere or to Q."""
        sources = np.flatnonzero(leads[:-1] != len(leads) - 1)
        return self._append(sources, self._class_of(token), leads[sources])

    def single(self, sources: Collection[int] | NDArray[np.int64], token: int, target: int) -> None:
        """Add edges of one control token."""
        self._append(np.array(list(sources), np.int64), self._class_of(token), target)

    def add(self, source: int, labels: NDArray[np.int64], target: int | NDArray[np.int64]) -> None:
        """Add edges out of one state."""
        self._append(np.full(len(labels), source), labels, target)

    def machine(self, start: int, done: int, ends: list[int], num_states: int) -> Machine:
        """The machine of all edges; ends: states in which an answer may be over."""
        source, label, target = np.concatenate(self.parts).T.astype(np.int32)
        distance = _distances(source, target, num_states, ends)
        return Machine(
            self.of, self.count, source, label, target, num_states, start, done, distance
        )

    def _append(
        self,
        source: NDArray[np.int64],
        label: int | NDArray[np.int64],
        target: int | NDArray[np.integer],
    ) -> NDArray[np.int64]:
        made = np.empty((len(source), 3), np.int64)
        made[:, 0], made[:, 1], made[:, 2] = source, label, target
        self.parts.append(made)
        return made

    def _class_of(self, token: int) -> int:
        if self.of[token] == CONTROL:
            self.of[token] = self.count
            self.count += 1
        return int(self.of[token])


def _distances(
    source: NDArray[np.int32], target: NDArray[np.int32], num_states: int, ends: list[int]
) -> NDArray[np.int64]:
    """Edges [S] from each state to the nearest end, FAR where there is no way."""
    distance = np.full(num_states, FAR, np.int64)
    distance[ends] = 0
    steps = 0
    while True:
        steps += 1
        near = np.unique(source[distance[target] == steps - 1])
        near = near[distance[near] == FAR]
        if not near.size:
            return distance
        distance[near] = steps
