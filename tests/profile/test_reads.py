"""The reads of `profile --decide`: which are timed, and what each of them encodes."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Sizes, write_checkpoint

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.reply import ModelInfo
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.diffusion.reading import ModelReader
from mlx_diffgemma.machine.chips import Chip
from mlx_diffgemma.machine.identity import this_machine
from mlx_diffgemma.profile import race, reads
from mlx_diffgemma.profile.schema import PROFILE, problems

STATE = [3, 1, 4, 1, 5, 9, 2, 6] * 3
ROUNDS = 2


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every work is timed twice, behind one that warms up."""
    for module in (race, reads):
        monkeypatch.setattr(module, "ROUNDS", ROUNDS)


@pytest.fixture
def wide(shallow: Session, tmp_path: Path) -> Session:
    """A model with room for ten questions on a canvas, and for little behind a long state."""
    sizes = Sizes("sf", canvas_length=64, max_position_embeddings=128)
    folder = write_checkpoint(tmp_path, sizes)
    info = ModelInfo(str(folder), None, None, 2, 0)
    return Session(dg.load_model(folder), shallow.tokenizer, info)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, int]]:
    """The reads to come: questions, samples, width, and prompt positions that were encoded."""
    seen: list[tuple[int, int, int, int]] = []
    read = ModelReader.read

    def counted(self: ModelReader, prompt: Any, sheets: Any, options: Any) -> Any:
        before = self.encoded()
        found = read(self, prompt, sheets, options)
        (sheet,) = sheets
        sizes = len(sheet.slots), len(options.seeds), len(sheet.tokens)
        seen.append((*sizes, self.encoded() - before))
        return found

    monkeypatch.setattr(ModelReader, "read", counted)
    return seen


def test_each_kind_is_timed_on_a_state_that_is_kept(
    wide: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, told = watched(monkeypatch), list[tuple[int, int]]()
    found = reads.measure_reads(
        wide, this_machine(), STATE, progress=lambda *done: told.append(done)
    )
    kinds = [(q, s, w) for q, w in ((1, 16), (3, 16), (10, 48)) for s in (1, 4)]
    assert [(r["questions"], r["samples"], r["width"]) for r in found["reads"]] == kinds
    rounds, (_, *later) = race.WARM_UP + ROUNDS, seen  # the first read of all encodes the state
    for kind in kinds:
        behind = [encoded for *sizes, encoded in later if tuple(sizes) == kind]
        assert behind.count(0) >= rounds - 1
    asked = [encoded for *sizes, encoded in later if sizes == [1, 4, 16] and encoded]
    assert asked == [reads.QUESTION_TOKENS] * rounds
    assert all(len(row["ms_samples"]) == ROUNDS for row in found["reads"])
    assert told[-1] == (8 * rounds, 8 * rounds)
    assert (found["state_tokens"], found["question_tokens"]) == (24, 48)
    assert found["questions_per_second"] == pytest.approx(1e3 / found["question_ms"]["p50"])


def test_a_small_canvas_has_fewer_kinds(shallow: Session) -> None:
    """Of 8 positions: one question, and three."""
    found = reads.measure_reads(shallow, this_machine(), STATE)
    assert [(r["questions"], r["width"]) for r in found["reads"]] == [(1, 8)] * 2 + [(3, 8)] * 2


def test_a_state_leaves_room_for_a_question(wide: Session) -> None:
    assert reads.measure_reads(wide, this_machine(), STATE * 5)["state_tokens"] == 128 - 96


def test_the_bound_is_that_of_a_chip_that_is_known(
    shallow: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chip in (None, Chip("slow", 1, 1e-3, 1.0)):
        monkeypatch.setattr(reads, "chip_of", lambda _, chip=chip: chip)
        for row in reads.measure_reads(shallow, this_machine(), STATE)["reads"]:
            least = max(1e3 * row["gflop"], row["bytes"] / 1e6)  # ms at 1 GFLOPS and 1 GB/s
            assert row["bound_ms"] == (chip and pytest.approx(least))


def test_the_figures_have_the_form_of_the_schema(shallow: Session) -> None:
    found = json.loads(json.dumps(reads.measure_reads(shallow, this_machine(), STATE)))
    assert list(problems(found, PROFILE["decide"])) == []
