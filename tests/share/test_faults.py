"""A rank that is killed, stops or fails ends the others, and none of them says anything wrong."""

import json
import time
from random import Random
from typing import Any

import pytest
from rank_tasks import asked
from ranks import Ended, results, run_ranks
from rendered import puzzles

from mlx_diffgemma.share.part import CUTS
from mlx_diffgemma.share.share import ALONE

CUTS_THAT_RUN = [cut for cut in CUTS if cut != "tensor"]
HARMS = ("killed", "stopped", "exception", "gone", "another prompt")


def ended_well(ended: list[Ended], at: int, answer: str) -> None:
    """No rank waits, none says anything wrong, and each of the others has one line and code 5."""
    for rank, each in enumerate(ended):
        assert each.result in (None, answer)
        if rank != at:
            assert each.code == 5, ended
            assert len(each.errors) == 1, ended
            assert each.errors[0].startswith("error: ")
            assert "rank " in each.errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("cut", CUTS_THAT_RUN)
@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_rank_ends_the_others(harm: str, cut: str, ranks: int) -> None:
    """A stopped rank is seen by the watch alone, all else by the ring or the digests."""
    given: dict[str, Any] = {"model": "tiny-chat", "step": 0, "cut": cut, "harm": harm}
    for at in range(ranks):
        stops, watch = (at, 3.0) if harm == "stopped" else (None, 20.0)
        ended = run_ranks(ranks, "harmed", 40.0, stops=stops, watch=watch, rank=at, **given)
        ended_well(ended, at, "17 + 25 = 42.")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "absent"), [(2, 0), (2, 1), (3, 1)])
def test_a_rank_that_never_comes_ends_the_others(ranks: int, absent: int) -> None:
    """Without the command line: MLX keeps Python's lock while the ranks meet."""
    ended = run_ranks(ranks, "fenced", 20.0, absent=absent, meeting=2.0)
    for rank, each in enumerate(ended):
        if rank != absent:
            assert (each.code, each.result) == (5, None)
            (line,) = each.errors
            assert line.startswith(f"error: rank {rank} (127.0.0.1) waited 2 s for ")
            assert f"rank {absent} (127.0.0.1)" in line


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS_THAT_RUN)
def test_a_rank_killed_at_any_time_leaves_no_wrong_answer(cut: str) -> None:
    """From before the ranks meet until behind the answer, whose time the first run tells."""
    turns = [["ask", puzzle, {"seed": n}] for n, puzzle in enumerate(puzzles()[::80])]
    right = json.loads(json.dumps(asked(ALONE, "tiny-sudoku", "rows", turns)))
    given: dict[str, Any] = {"model": "tiny-sudoku", "cut": cut, "turns": turns}
    began, random, codes = time.monotonic(), Random(cut), []
    assert results(run_ranks(2, "asked", **given)) == [right, right]
    whole = time.monotonic() - began
    for _ in range(50 // len(CUTS_THAT_RUN)):
        kill = random.randrange(2), random.uniform(0, whole)
        ended = run_ranks(2, "asked", kill=kill, meeting=4.0, watch=10.0, **given)
        other = ended[1 - kill[0]]
        assert other.code in (0, 5), ended
        assert other.result == (right if other.code == 0 else None)
        assert len(other.errors) == (other.code == 5), ended
        codes.append(other.code)
    assert codes.count(5) > len(codes) // 2
