"""What the link between Macs takes of a step, from messages that are timed apart."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from ranks import results, run_ranks

from mlx_diffgemma.profile.linked import is_timed, message_rows, timed
from mlx_diffgemma.profile.samples import MessageTime, StepParts
from mlx_diffgemma.share.share import ALONE, Share


def step(*messages: MessageTime) -> StepParts:
    return StepParts({}, {}, messages=messages)


def test_messages_are_summed_by_name_and_their_steps_ranked() -> None:
    steps = [
        step(
            MessageTime("keys", 100, 0.001 * n, 0.002),
            MessageTime("keys", 50, 0.0, 0.003),
            MessageTime("outcome", 12, 0.5, 0.25),
        )
        for n in (1, 9, 2)
    ]
    keys, outcome = message_rows(steps)
    assert (keys.name, keys.calls, keys.bytes) == ("keys", 2, 150)
    assert (keys.wait_ms, keys.transfer_ms) == pytest.approx((2, 5))
    assert (outcome.calls, outcome.bytes, outcome.wait_ms) == (1, 12, 500)
    assert list(message_rows([step()])) == []


def test_waiting_ends_when_all_are_there_and_is_counted_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SimpleNamespace(seconds=0.0)

    def passes(seconds: float, x: mx.array) -> mx.array:
        now.seconds += seconds
        return x

    def slowest(x: mx.array, group: Any) -> mx.array:
        return passes(3.0, x)

    def call(share: Share, x: mx.array, name: str) -> mx.array:
        share.sent[name] += x.nbytes
        return passes(2.0, x)

    monkeypatch.setattr(mx.distributed, "all_sum", slowest)
    share, times = Share(0, 2), list[MessageTime]()
    timed(call, times.append, lambda: now.seconds)(share, mx.zeros((5,)), "keys")
    assert times == [MessageTime("keys", 20, 3.0, 2.0)]
    assert share.sent == {"keys": 20}


def test_only_messages_of_a_step_are_timed() -> None:
    assert is_timed(Share(0, 2), "keys and values")
    assert not is_timed(Share(0, 2), "digest")
    assert not is_timed(ALONE, "keys and values")


@pytest.mark.slow
def test_two_time_their_messages(shallow_folder: Path) -> None:
    """By layers and by tensor; the command line's own test has rows."""
    cuts = ["layers", "tensor"]
    first, second = results(run_ranks(2, "timed_link", folder=str(shallow_folder), cuts=cuts))
    assert first == second
    for cut, link in first.items():
        assert link["share"] == cut
        for rank in link["ranks"]:
            assert rank["rows"] == 8
            assert rank["layers"] == (1 if cut == "layers" else 2)
            assert rank["layer_wait_ms"] > 0
            assert rank["layer_transfer_ms"] > 0
    calls = {each["name"]: each["calls"] for each in first["tensor"]["ranks"][0]["messages"]}
    assert calls["attention"] == calls["feed-forward"] == 2
    calls = {each["name"]: each["calls"] for each in first["layers"]["ranks"][1]["messages"]}
    assert calls == {"hidden states": 2, "outcome": 1}
