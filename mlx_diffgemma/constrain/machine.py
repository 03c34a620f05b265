"""The automaton of a whole answer, on token classes: a thought, the text, its end, and filling.

States 0 .. Q - 1 are the text's; then DONE, and THOUGHT and OPENING where thoughts are allowed.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..errors import ConstraintError
from .classes import token_classes
from .dfa import Dfa
from .vocabulary import Vocabulary

FAR = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Channel:
    """Ids that open and close a thought; needed: the answer begins with one."""

    opening: int
    closing: int
    needed: bool = False


@dataclass(frozen=True)
class Machine:
    """Edges source --class--> target [E each]; of [V] int32: a token's class, 0 for none.

    distance [S]: tokens that are needed from a state until the answer has ended, end included.
    """

    of: np.ndarray
    num_classes: int
    source: np.ndarray
    label: np.ndarray
    target: np.ndarray
    num_states: int
    start: int
    done: int
    distance: np.ndarray

    def advance(self, state: int, tokens: Collection[int]) -> int:
        """Where tokens lead; ConstraintError at the first that leads nowhere."""
        for index, token in enumerate(tokens):
            found = np.flatnonzero((self.source == state) & (self.label == self.of[token]))
            if not found.size:
                raise ConstraintError(f"token {token} at {index} is not allowed in state {state}.")
            state = int(self.target[found[0]])
        return state


def machine(
    vocab: Vocabulary,
    dfa: Dfa,
    stops: Collection[int],
    fillers: Collection[int],
    channel: Channel | None = None,
) -> Machine:
    """stops: ids that end the answer; fillers: ids allowed behind it, the same or others."""
    if clash := [i for i in {*stops, *fillers} if vocab.texts[i] is not None]:
        raise ConstraintError(
            f"ids {clash} write text, expected control tokens to end and to fill."
        )
    found = token_classes(vocab, dfa)
    Q, done, thought, opening = (
        dfa.num_states,
        dfa.num_states,
        dfa.num_states + 1,
        dfa.num_states + 2,
    )
    of = np.where(np.array([text is not None for text in vocab.texts]), found.of + 1, 0).astype(
        np.int32
    )
    count = len(found.rows) + 1  # 0: control tokens, 1: text that fits nowhere
    live = np.argwhere(found.rows != Q)
    live = live[live[:, 1] < Q]
    edges = [np.stack([live[:, 1], live[:, 0] + 1, found.rows[live[:, 0], live[:, 1]]], axis=1)]

    def single(token: int) -> int:
        nonlocal count
        if of[token] == 0:
            of[token] = count
            count += 1
        return int(of[token])

    texts = np.unique(of[of > 0])
    ends = np.flatnonzero(dfa.accepts[:Q])
    for token in stops:
        edges.append(_edges(ends, single(token), done))
    for token in fillers:
        edges.append(_edges([done], single(token), done))
    start, num_states = 0, Q + 1
    if channel:
        num_states, start = Q + 3, opening
        edges.append(
            np.stack([np.full(len(texts), thought), texts, np.full(len(texts), thought)], axis=1)
        )
        edges.append(_edges([opening], single(channel.opening), thought))
        edges.append(_edges([thought], single(channel.closing), 0))
        if not channel.needed:
            first = edges[0][edges[0][:, 0] == 0]
            edges.append(np.stack([np.full(len(first), opening), first[:, 1], first[:, 2]], axis=1))
    source, label, target = np.concatenate(edges).T.astype(np.int32)
    return Machine(
        of,
        count,
        source,
        label,
        target,
        num_states,
        start,
        done,
        _distances(source, target, num_states, done),
    )


def _edges(sources, label: int, target: int) -> np.ndarray:
    return np.array([(s, label, target) for s in sources]).reshape(-1, 3)


def _distances(source: np.ndarray, target: np.ndarray, num_states: int, done: int) -> np.ndarray:
    distance = np.full(num_states, FAR, np.int64)
    distance[done] = 0
    steps = 0
    while True:
        steps += 1
        near = np.unique(source[distance[target] == steps - 1])
        near = near[distance[near] == FAR]
        if not near.size:
            return distance
        distance[near] = steps
