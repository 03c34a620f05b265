"""A rank's share: spans, counted collectives of one process, and what the environment says."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from replayed import CountedShare

from mlx_diffgemma.diffusion.agreed import nothing_seen
from mlx_diffgemma.errors import ShareError
from mlx_diffgemma.share.part import WHOLE, Part, Rows
from mlx_diffgemma.share.share import ALONE, Share, announced, cuts


def test_spans_follow_each_other_and_are_as_even_as_can_be() -> None:
    for total in range(12):
        for size in range(1, 6):
            spans = cuts(total, size)
            lengths = [b - a for a, b in spans]
            assert [a for a, _ in spans] == [0, *(b for _, b in spans[:-1])]
            assert spans[-1][1] == total
            assert lengths == sorted(lengths, reverse=True)
            assert max(lengths) - min(lengths) <= 1


def test_one_process_is_the_identity_and_counts_nothing() -> None:
    x = mx.ones((2, 3))
    assert ALONE.sum(x, "x") is x
    assert ALONE.of_rank_0(x, "x") is x
    assert ALONE.gathered(x, [2], 0, "x") is x
    assert WHOLE.through(x, lambda y: y) is x
    assert WHOLE.rows(8).gathered(x, 0, "x") is x
    assert WHOLE.rows(8).agreed(x, "x") is x
    assert WHOLE.least(7) == 7
    assert not ALONE.sent
    assert not ALONE.calls


def test_the_work_of_all_ranks_together_is_the_whole() -> None:
    parts = [Part(Share(rank, 3), "layers") for rank in range(3)]
    assert [n for part in parts for n in part.layers(7)] == list(range(7))
    assert not any(part.rows(8).divided for part in parts)
    rows = [Part(Share(rank, 3), "rows").rows(8) for rank in range(3)]
    assert [row for each in rows for row in range(8)[each.own]] == list(range(8))
    assert [Part(Share(rank, 3), "rows").layers(7) for rank in range(3)] == [range(7)] * 3


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_piece_of_few_rows_is_computed_by_all(ranks: int) -> None:
    part = Part(Share(1, ranks), "rows")
    assert not part.piece_rows(16 * ranks - 1).divided
    divided = part.piece_rows(16 * ranks)
    assert divided.own == slice(16, 32)
    assert not any(
        Part(Share(1, ranks), cut).piece_rows(99).divided for cut in ("layers", "tensor")
    )


def test_chosen_rows_are_divided_as_all_rows_are() -> None:
    chosen = np.array([1, 2, 6])
    rows = Rows(Share(1, 3), ((0, 3), (3, 6), (6, 8)))
    among = rows.among(lambda row: int((chosen < row).sum()))
    assert among.spans == ((0, 2), (2, 2), (2, 3))
    assert among.count(3) == 0
    assert among.first == 2


@pytest.mark.parametrize(("cut", "what"), [("rows", "8 rows"), ("layers", "3 layers")])
def test_more_ranks_than_there_is_to_divide_are_refused(cut, what) -> None:  # type: ignore[no-untyped-def]
    Part(Share(0, 3), cut).require_divisible(3, 8)
    with pytest.raises(ShareError, match=rf"9 Macs share by {cut}, .* the model has {what}"):
        Part(Share(0, 9), cut).require_divisible(3, 8)


def test_the_environment_tells_the_rank_and_the_addresses(tmp_path: Path) -> None:
    assert announced({}) is ALONE
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([["10.0.0.1:1"], ["10.0.0.2:1", "10.0.1.2:1"]]))
    share = announced({"MLX_RANK": "1", "MLX_HOSTFILE": str(hosts)})
    assert (share.rank, share.size) == (1, 2)
    assert share.mac(1) == "rank 1 (10.0.0.2)"
    devices = tmp_path / "devices.json"
    devices.write_text(json.dumps([[None, "rdma_en2"], ["rdma_en2", None]]))
    assert announced({"MLX_RANK": "0", "MLX_IBV_DEVICES": str(devices)}).size == 2


@pytest.mark.parametrize(
    ("content", "rank", "said"),
    [
        ("[]", "0", "MLX_RANK is '0', expected 0 to -1"),
        ('[["a:1"]]', "1", "MLX_RANK is '1', expected 0 to 0"),
        ('[["a:1"]]', "x", "MLX_RANK is 'x'"),
        ("no json", "0", "MLX_HOSTFILE cannot be read"),
        ("3", "0", "MLX_HOSTFILE cannot be read"),
        ("[[]]", "0", "MLX_HOSTFILE cannot be read"),
        (None, "0", "MLX_HOSTFILE cannot be read"),
    ],
)
def test_an_environment_that_cannot_be_is_one_line(
    tmp_path: Path, content: str | None, rank: str, said: str
) -> None:
    hosts = tmp_path / "hosts.json"
    if content is not None:
        hosts.write_text(content)
    with pytest.raises(ShareError, match=said) as found:
        announced({"MLX_RANK": rank, "MLX_HOSTFILE": str(hosts)})
    assert "\n" not in str(found.value)
    with pytest.raises(ShareError, match="MLX_RANK is set, but neither"):
        announced({"MLX_RANK": rank})


def test_a_ring_of_one_process_is_one_process(tmp_path: Path) -> None:
    """As `mlx.launch -n 1` starts it."""
    hosts = tmp_path / "hosts.json"
    hosts.write_text("")
    assert announced({"MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)}) is ALONE
    with pytest.raises(ShareError, match="MLX_HOSTFILE cannot be read"):
        announced({"MLX_RANK": "1", "MLX_HOSTFILE": str(hosts)})


def test_findings_of_no_row_wait_for_the_hidden_states(tmp_path: Path) -> None:
    hidden = mx.ones((3, 4))[mx.array([], mx.int32)]
    seen = nothing_seen(hidden)
    mx.export_to_dot(str(tmp_path / "graph.dot"), seen.best, seen.entropy, seen.drawn)
    assert "Depends" in (tmp_path / "graph.dot").read_text()
    assert (seen.best.shape, seen.parts[0].rows.shape) == ((0,), (0, 4))  # type: ignore[union-attr]


def test_calls_in_another_order_have_another_number() -> None:
    x, orders = mx.ones((4,)), []
    for names in ("ab", "ab", "ba"):
        share = CountedShare(0, 2)
        for name in names:
            share.sum(x, name)
        orders.append(share.order)
    assert orders[0] == orders[1] != orders[2]
