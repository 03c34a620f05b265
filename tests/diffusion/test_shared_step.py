"""Steps of a network that ranks cut by tensor, run in one process, against those of one rank."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from compare import assert_close
from forms import held_to
from replayed import CountedShare, together

from mlx_diffgemma.decide.reader import Prompt, ReadOptions, Sheet, Slot
from mlx_diffgemma.diffusion import records, sampler, soft, step
from mlx_diffgemma.diffusion.classes import class_order
from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.diffusion.held import Held
from mlx_diffgemma.diffusion.kept import KeptPrefixes
from mlx_diffgemma.diffusion.pinned import OPEN, TEXT, PinnedPositions
from mlx_diffgemma.diffusion.positions import AllPositions, Positions
from mlx_diffgemma.diffusion.reading import ModelReader
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.diffusion.state import State, StepInputs
from mlx_diffgemma.diffusion.step import Step, advance
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.kernels.denoise.launch import Slices
from mlx_diffgemma.model import vocabulary
from mlx_diffgemma.model.weights import load_network
from mlx_diffgemma.share.part import WHOLE, Part
from mlx_diffgemma.share.share import Share

V, C, H, UNIT, BOUND = 40, 8, 32, 8, 2.0
SIZES = Sizes("f", vocab_size=V, canvas_length=C, hidden_size=H, sharpness=4.0)
SAME = 1e-4  # float32, sums in another order


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of eight ids; logits read, and products taken, of three rows at a time."""
    for module in (vocabulary, sampler):
        monkeypatch.setattr(module, "SLICE", UNIT)
    for device in ("CPU", "GPU"):
        monkeypatch.setattr(step, f"{device}_CHUNK_LOGITS", 3 * V)
    monkeypatch.setattr(soft, "PRODUCT_ROWS", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("step"), SIZES)


def everywhere() -> AllPositions:
    return AllPositions()


def pinned() -> PinnedPositions:
    tokens = [5, OPEN, OPEN, 7, OPEN, 9, OPEN, OPEN]
    return PinnedPositions(tokens, [TEXT] * C)


def formed() -> AllPositions:
    constraint = held_to("[0-9]{2}[a-m]+", C)
    return AllPositions(Held(constraint, class_order(constraint.classes, constraint.num_classes)))


def two_steps(
    folder: Path, positions: Positions[Any], part: Part = WHOLE
) -> tuple[list[Step], mx.array, list[dict[str, int]]]:
    """Two steps, the soft embeddings behind them, and what was sent in front of and in each."""
    model = load_network(folder, part=part).model
    prefix, noise, sent = model.encode([3, 1, 4]), CounterNoise(2), [dict(part.share.sent)]
    count = C if positions.rows is None else positions.rows.size
    state, steps = State(positions.canvas(mx.arange(count, dtype=mx.int32) + 11)), list[Step]()
    for number in range(2):
        given = StepInputs(
            0.7,
            BOUND,
            positions.of(noise.uniforms(0, number, C)),
            mx.arange(count, dtype=mx.int32),
            positions.rows,
            held=positions.held,
            own=part.rows(C),
        )
        steps.append(advance(state, given, model, prefix))
        embedded = positions.soft(model, steps[-1].soft.completed(model))
        mx.eval(embedded)
        state = State(positions.canvas(steps[-1].next_canvas), embedded, steps[-1].best)
        sent.append(dict(part.share.sent))
    assert state.soft is not None
    return steps, state.soft, sent


def require_same(found: Sequence[Step], right: Sequence[Step]) -> None:
    for one, other in zip(found, right, strict=True):
        assert one.outcome.best.tolist() == other.outcome.best.tolist()
        assert one.next_canvas.tolist() == other.next_canvas.tolist()
        assert one.outcome.accepted.tolist() == other.outcome.accepted.tolist()
        assert_close(one.outcome.entropy, other.outcome.entropy, SAME, "nats")
        assert_close(one.outcome.mean_entropy, other.outcome.mean_entropy, SAME, "mean, nats")


HIDDEN = C * H * 4  # bytes
RECORDS, LOGITS = C * 3 * 5 * 4, C * 3 * UNIT * 4  # of two ranks the first has three slices of five
PLAIN = {"lookup": HIDDEN, "soft embeddings": HIDDEN, "records": RECORDS, "outcome": C * 12}
PINNED = PLAIN | {"lookup": 2 * HIDDEN}  # the canvas, and what is certain of it
OPENED = {"soft embeddings": 5 * H * 4, "records": RECORDS * 5 // C, "outcome": 5 * 12}
FORMED = {"lookup": HIDDEN, "soft embeddings": HIDDEN, "logits": LOGITS, "outcome": C * 12}


@pytest.mark.parametrize(
    ("positions", "ranks", "planned"),
    [
        (everywhere, 2, PLAIN),
        (everywhere, 3, None),
        (pinned, 2, PINNED | OPENED),
        (formed, 2, FORMED | {"classes": None}),
    ],
)
def test_ranks_decide_as_one_process_and_send_what_was_planned(
    folder: Path, positions: Any, ranks: int, planned: dict[str, int | None] | None
) -> None:
    """Of two ranks each sends half of a sum, and of a gather all that is its own."""
    right, whole, _ = two_steps(folder, positions())
    assert len(np.unique(right[0].outcome.best)) > 2

    def of(share: Share) -> Any:
        return *two_steps(folder, positions(), Part(share, "tensor")), share.calls

    layers = {"attention", "feed-forward", "self-conditioning"}
    for found, own_soft, (_, first, second), calls in together(ranks, of):
        assert all(calls[name] == 2 for name in {"records", "logits", "outcome"} & calls.keys())
        require_same(found, right)
        assert_close(own_soft, whole, SAME, "soft embeddings")
        if planned:
            sent = {name: count - first.get(name, 0) for name, count in second.items()}
            assert sent.keys() - layers == planned.keys()
            assert all(sent[name] == count for name, count in planned.items() if count), sent


def test_a_kernel_reads_the_canvas_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX's operations stand in for the kernel: what is tested is who waits for what."""
    right, whole, _ = two_steps(folder, everywhere())
    read: list[int] = []

    def stats(logits: Logits) -> Slices:
        read.append(len(logits.raw))
        found, best = records._records(logits, UNIT)
        return Slices(found, best, found)

    monkeypatch.setattr(records, "stats", stats)
    monkeypatch.setattr(step.kernels, "samples", lambda *_: True)
    for found, own_soft, _ in together(
        2, lambda share: two_steps(folder, everywhere(), Part(share, "tensor"))
    ):
        require_same(found, right)
        assert_close(own_soft, whole, SAME, "soft embeddings")
    assert set(read) == {C}


@dataclass(frozen=True)
class KeptShare(CountedShare):
    """What is given to each sum, and what comes of it: another array."""

    made: list[tuple[mx.array, mx.array]] = field(default_factory=list)

    def sum(self, x: mx.array, name: str) -> mx.array:
        self.made.append((x, super().sum(x, name) + 0))
        return self.made[-1][1]


def waits(file: Path, x: mx.array, before: mx.array) -> bool:
    """True where x is computed from `before`, by the graph that MLX draws."""
    mx.export_to_dot(str(file), x=x, before=before)
    edges = [line.split(" -> ") for line in file.read_text().splitlines() if " -> " in line]
    after = {'"before"'}
    while more := {end for start, end in edges if start in after} - after:
        after |= more
    return '"x"' in after


@pytest.mark.parametrize("positions", [everywhere, pinned])
def test_each_message_of_a_step_waits_for_the_one_before(
    folder: Path, tmp_path: Path, positions: Any
) -> None:
    """MLX would be free to send them in another order on another Mac."""
    share = KeptShare(0, 2)
    model = load_network(folder, part=Part(share, "tensor")).model
    prefix = model.encode([3, 1, 4])
    share.made.clear()
    at = positions()
    count = C if at.rows is None else at.rows.size
    soft = at.soft(model, mx.ones((1, count, H)))
    model.decode(at.canvas(mx.arange(count, dtype=mx.int32)), prefix, soft)
    assert len(share.made) >= 2 + 2 * len(model.layers)
    for (_, before), (x, _) in pairwise(share.made):
        assert waits(tmp_path / "graph.dot", x, before)


@pytest.mark.parametrize("ranks", [2, 3])
def test_an_answer_sends_what_its_prompt_and_steps_are_planned_to_send(
    tmp_path: Path, ranks: int
) -> None:
    """Counted on one rank alone, whose numbers are therefore wrong: they change no size."""
    layers = 3
    folder = write_checkpoint(tmp_path / "deep", replace(SIZES, layers="fsf"))
    share = CountedShare(0, ranks)
    model = load_network(folder, part=Part(share, "tensor")).model
    prompt, settings = [3, 1, 4, 1, 5], Settings(seed=1, max_tokens=C, max_denoising_steps=4)
    steps = sum(not frame.committed for frame in denoise(model, prompt, settings))

    def summed(rows: int, count: int = 1) -> int:
        return 2 * (ranks - 1) * rows * count * H * 4 // ranks

    longest = -(-V // UNIT // ranks)
    expected = {
        "lookup": summed(len(prompt)) + steps * summed(C),
        "attention": (layers - 1) * summed(len(prompt)) + steps * layers * summed(C),
        "feed-forward": (layers - 1) * summed(len(prompt), 2) + steps * layers * summed(C, 2),
        "self-conditioning": (steps - 1) * summed(C),
        "soft embeddings": (steps - 1) * summed(C),
        "records": steps * (ranks - 1) * C * longest * 5 * 4,
        "outcome": steps * 2 * (ranks - 1) * C * 12 // ranks,
    }
    assert steps > 1
    assert {name: share.sent[name] for name in expected} == expected
    assert share.sent.keys() - expected.keys() == {"facts", "word", "digest"}


def test_sheets_are_read_as_one_process_reads_them(folder: Path) -> None:
    """Two steps a sample; labels of both ranks, and the share of all ids that they hold."""
    sheet = Sheet((1, 2, 3, 4), (Slot(1, (2, 39, 11)), Slot(3, (4, 30))))
    prompt, options = Prompt((5, 6, 7)), ReadOptions(seeds=(42,), steps=2, mass=True)

    def read(part: Part) -> list[Any]:
        model = load_network(folder, part=part).model
        (found,) = ModelReader(model, KeptPrefixes(model)).read(prompt, [sheet], options)
        assert found.mass is not None
        return [*found.log_probabilities, *found.mass]

    right = read(WHOLE)
    for found in together(2, lambda share: read(Part(share, "tensor"))):
        for one, other in zip(found, right, strict=True):
            assert_close(one, other, SAME, "of labels")
