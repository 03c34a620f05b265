"""Planned messages, against the figures of docs/several-macs.md and their own definition."""

import json
from pathlib import Path

import pytest
from checkpoints import Sizes as NetworkSizes
from checkpoints import write_checkpoint
from ranks import ROOT, results, run_ranks

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.share.part import CUTS, Cut
from mlx_diffgemma.share.share import ALONE
from mlx_diffgemma.share.traffic import PUBLISHED, Message, Sizes, answer, counted, step

PROMPT = [3 + n % 17 for n in range(100)]  # two pieces that are shared by rows, one of few rows
SMALL = Sizes(canvas=10, hidden=8, row_numbers=(6, 4), vocabulary=9000, item_bytes=2)


@pytest.mark.parametrize(
    ("cut", "macs", "megabytes", "calls"),
    [
        ("rows", 2, 27.5, 31),
        ("rows", 4, 41.3, 31),
        ("layers", 2, 2.9, 3),
        ("tensor", 2, 134, 65),
        ("tensor", 3, 179, 65),
        ("tensor", 4, 201, 65),
    ],
)
def test_a_step_of_the_published_model(cut: Cut, macs: int, megabytes: float, calls: int) -> None:
    sent = counted(step(PUBLISHED, cut, macs), macs)
    assert sent.bytes.total() / 1e6 == pytest.approx(megabytes, rel=0.005)
    assert sent.calls.total() == calls


def test_a_rank_pads_to_the_longest_and_a_ring_sends_a_sum_twice() -> None:
    assert counted(step(SMALL, "rows", 3), 3).bytes == {
        "keys and values": 2 * 4 * (6 + 4) * 2,
        "outcome": 2 * 4 * 12,
    }
    assert Message("x", "sum", 10).sent(3) == 2 * 2 * 10 // 3
    assert Message("x", "gather", 10).sent(3) == 20


@pytest.mark.parametrize("cut", CUTS)
def test_an_answer_is_its_steps_and_its_prompt(cut: Cut) -> None:
    two = counted(answer(SMALL, cut, 2, [2, 3], prompt=7, chunk=4), 2)
    one = counted(answer(SMALL, cut, 2, [2], prompt=7, chunk=4), 2)
    assert two.calls["digest"] == 2 * one.calls["digest"] == 2
    assert two.calls["facts"] == one.calls["facts"] == 1
    if (
        cut == "layers"
    ):  # two chunks, two steps of two stages; a canvas of three chunks, three steps
        assert one.calls["hidden states"] == 2 + 2 * 2
        assert two.calls["hidden states"] == 2 + 2 * 2 + 3 + 3 * 2
    if cut == "tensor":  # a canvas's first step is conditioned by nothing
        assert two.calls["self-conditioning"] == 1 + 2


@pytest.mark.parametrize("cut", CUTS)
def test_one_process_sends_nothing(cut: Cut) -> None:
    assert counted(step(SMALL, cut, ALONE.size), ALONE.size).bytes.total() == 0


def test_an_interface_saw_what_was_counted() -> None:
    """The result that docs/several-macs.md tells: TCP has headers and acknowledgements besides."""
    file = ROOT / "scripts/bench/results/share-bytes-linux-2core.json"
    rows = json.loads(file.read_text())["rows"]
    assert {(row["share"], row["ranks"]) for row in rows} == {(c, n) for c in CUTS for n in (2, 3)}
    assert all(row["planned_bytes"] == row["counted_bytes"] for row in rows)
    assert all(1 < row["seen_bytes"] / row["counted_bytes"] < 1.1 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_count_what_was_planned(tmp_path: Path, ranks: int) -> None:
    """tiny-sudoku, whose vocabulary is whole on every rank, and a network with slices for each."""
    sliced = NetworkSizes(
        layers="ssfsf",
        canvas_length=11,
        num_attention_heads=6,
        num_key_value_heads=3,
        num_experts=5,
        vocab_size=2 * 4096 + 100,
        residual=0.3,
    )
    random = write_checkpoint(tmp_path / "random", sliced, shards=2)
    given = {"cuts": CUTS, "prompt": PROMPT}
    tasks = [["counts", {**given, "folder": str(random), "canvases": 2, "dtype": "float32"}]]
    if ranks == 2:
        sudoku = str(embedded_folder("tiny-sudoku"))
        tasks.append(["counts", {**given, "folder": sudoku, "canvases": 1, "dtype": "bfloat16"}])
    for found in results(run_ranks(ranks, "several", tasks=tasks)):
        for each in found:
            for cut, (counts, planned, steps) in each.items():
                assert counts == planned, cut
                assert min(steps) > 1, cut
