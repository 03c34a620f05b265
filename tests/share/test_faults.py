"""A rank that is killed, stops or fails ends the others, and none of them says anything wrong."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from shutil import copytree
from typing import Any, cast

import pytest
from rank_tasks import asked
from ranks import Ended, results, run_ranks
from rendered import puzzles

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.shards import read_headers
from mlx_diffgemma.share.part import CUTS
from mlx_diffgemma.share.share import ALONE

SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))
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
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_rank_ends_the_others(harm: str, cut: str, ranks: int) -> None:
    """A stopped rank is seen by the watch alone; else the ring tells, or the digests.

    The ring does not where a second message was under way, and so the watch ends these, too.
    """
    given: dict[str, Any] = {"model": "tiny-chat", "step": 0, "cut": cut, "harm": harm}

    def harmed(at: int) -> list[Ended]:
        stops = at if harm == "stopped" else None
        return run_ranks(ranks, "harmed", stops=stops, watch=5.0, rank=at, **given)

    with ThreadPoolExecutor(ranks) as groups:  # they wait for most of their time
        for at, ended in enumerate(groups.map(harmed, range(ranks))):
            ended_well(ended, at, "17 + 25 = 42.")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "absent"), [(2, 0), (2, 1), (3, 1)])
def test_a_rank_that_never_comes_ends_the_others(ranks: int, absent: int) -> None:
    """Without the command line: MLX keeps Python's lock while the ranks meet."""
    ended = run_ranks(ranks, "fenced", absent=absent, meeting=2.0)
    for rank, each in enumerate(ended):
        if rank != absent:
            assert (each.code, each.result) == (5, None)
            (line,) = each.errors
            assert line.startswith(f"error: rank {rank} (127.0.0.1) waited 2 s for ")
            assert f"rank {absent} (127.0.0.1)" in line


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_what_differs_is_named_with_its_mac(ranks: int, tmp_path: Path) -> None:
    """Rank 0 is who all others are compared with: where it differs, rank 1 is named with it."""
    found = results(run_ranks(ranks, "differing", other=str(with_other_weights(tmp_path))))
    for rank, said in enumerate(found):
        for fact, lines in said.items():
            for at, line in enumerate(lines):
                if "can give" in fact and rank:
                    assert line == "0"  # rank 0 alone speaks, and none ends it
                else:
                    named = at if "can give" in fact else max(at, 1)
                    assert line.startswith(f"rank {named} (127.0.0.1) "), (fact, line)
                    assert ("seed" if fact == "another seed" else fact) in line
                    assert "\n" not in line


def with_other_weights(folder: Path) -> Path:
    """A copy of tiny-sudoku, of the same headers, in which a single tensor is another."""
    copy = Path(copytree(SUDOKU, folder / "other"))
    info = read_headers(copy)["model.decoder.norm.weight"]
    with info.file.open("r+b") as file:
        file.seek(info.offset)
        file.write(bytes(info.num_bytes))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
def test_a_rank_killed_at_any_time_leaves_no_wrong_answer(cut: str) -> None:
    """From before the ranks meet until behind the answer, whose time the second run tells."""
    turns = [["ask", puzzle, {"seed": n}] for n, puzzle in enumerate(puzzles()[::80])]
    right = json.loads(json.dumps(asked(ALONE, "tiny-sudoku", "rows", turns, "float32")))
    given: dict[str, Any] = {"model": "tiny-sudoku", "cut": cut, "turns": turns}
    given["dtype"] = "float32"  # tensor rounds 16 bits otherwise
    assert results(run_ranks(2, "asked", **given)) == [right, right]  # and what is forked is there
    began, random = time.monotonic(), Random(cut)
    assert results(run_ranks(2, "asked", **given)) == [right, right]
    whole = time.monotonic() - began
    kills = [(n % 2, random.uniform(0, whole)) for n in range(-(-50 // len(CUTS)))]

    def killed(kill: tuple[int, float]) -> Ended:
        ended = run_ranks(2, "asked", kill=kill, meeting=6.0, watch=10.0, **given)
        return ended[1 - kill[0]]

    with ThreadPoolExecutor(2) as groups:
        others = list(groups.map(killed, kills))
    for other in others:
        assert other.code in (0, 5), other
        assert other.result == (right if other.code == 0 else None)
        assert len(other.errors) == (other.code == 5), other
    assert any(other.code == 5 for other in others)  # most, unless the machine has become faster
