"""The link between Macs in a step: each message timed apart in the fenced repetition.

Before a message every rank waits for all others, by a sum of four bytes that is counted nowhere:
that is its wait, one latency of the link included. The message itself follows, which nobody is
late for: that is its transfer. In a plain step both lie behind each other and beside other work, so
the link takes no more of it than their sum.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import mlx.core as mx

from ..model.text import Model
from ..share.guard import told_by_all
from ..share.share import Share
from ..share.traffic import BETWEEN_STEPS, IN_LAYERS
from .samples import MessageTime, StepParts

Collective = Callable[[Share, mx.array, str], mx.array]


def is_timed(share: Share, name: str) -> bool:
    """True for the messages of a step; others, before and behind it, are the host's."""
    return not share.alone and name not in BETWEEN_STEPS


def timed(
    call: Collective,
    times: Callable[[MessageTime], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Collective:
    """A collective that waits for all ranks, and then for its result; `times` gets both times.

    What computes the array that is sent has to be done before the call.
    """

    def run(share: Share, x: mx.array, name: str) -> mx.array:
        began, sent = clock(), share.sent[name]
        mx.eval(mx.distributed.all_sum(mx.zeros((1,)), group=share.group))
        there = clock()
        result = call(share, x, name)
        mx.eval(result)
        times(MessageTime(name, share.sent[name] - sent, there - began, clock() - there))
        return result

    return run


@dataclass(frozen=True)
class MessageRow:
    """The messages of one name in a step: their number, bytes that this rank sends, and times."""

    name: str
    calls: int
    bytes: int
    wait_ms: float
    transfer_ms: float


@dataclass(frozen=True)
class LinkRow:
    """A rank's share of a step, and what the link took of it.

    rows: of the canvas that it computes; layers: that it holds; layer_wait_ms, layer_transfer_ms:
    of the messages between layers, over the layers of the network.
    """

    mac: str
    rows: int
    layers: int
    layer_wait_ms: float
    layer_transfer_ms: float
    messages: tuple[MessageRow, ...]


def link_rows(model: Model, steps: Sequence[StepParts]) -> list[dict[str, Any]]:
    """The LinkRow of each rank, by rank; every rank has to call this, with steps of its own."""
    own = list(message_rows(steps))
    part, between = model.part, [row for row in own if row.name in IN_LAYERS]
    count = len(model.config.text.layers)
    row = LinkRow(
        part.share.mac(part.share.rank),
        part.rows(model.config.canvas_length).count(model.config.canvas_length),
        len(model.layers),
        sum(row.wait_ms for row in between) / count,
        sum(row.transfer_ms for row in between) / count,
        tuple(own),
    )
    return told_by_all(part.share, asdict(row))


def message_rows(steps: Sequence[StepParts]) -> Iterator[MessageRow]:
    """Messages by name, with the medians over steps of what they come to in one."""
    found: defaultdict[str, list[list[MessageTime]]] = defaultdict(list)
    for step in steps:
        names = dict.fromkeys(message.name for message in step.messages)
        for name in names:
            found[name].append([each for each in step.messages if each.name == name])
    for name, each in found.items():
        yield MessageRow(
            name,
            round(median(len(times) for times in each)),
            round(median(sum(time.bytes for time in times) for times in each)),
            1e3 * median(sum(time.wait_seconds for time in times) for times in each),
            1e3 * median(sum(time.transfer_seconds for time in times) for times in each),
        )
