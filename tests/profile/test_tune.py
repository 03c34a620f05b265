"""What is tuned: checked first, timed in turn, kept only where it wins; time is the tests' own."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from small import SUDOKU

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.diffusion.soft import SoftEmbeddings
from mlx_diffgemma.diffusion.step import head_rows
from mlx_diffgemma.machine.choices import Choices, ModeTimes
from mlx_diffgemma.model.images import Placed
from mlx_diffgemma.model.prefix import Prefix
from mlx_diffgemma.model.roofline import ROWS
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.model.variants import variant
from mlx_diffgemma.profile import tune_candidates, tune_times
from mlx_diffgemma.profile.race import ROUNDS, race
from mlx_diffgemma.profile.tokens import Writing, row_works
from mlx_diffgemma.profile.tune import Row, Tuned, Tuner, tune
from mlx_diffgemma.profile.tune_check import Probe, probe_of, tolerance, wrong

Cost = Callable[[Choices, str], float]
TIMES = ModeTimes(60.0, 15.0, 40.0, ((1, 15.0), (8, 30.0)))
UNPACKED, HALF = ("dense_weights", "16-bit"), ("dtype", "float16")
COPIED, SLICED = ("soft_product", "16-bit"), ("soft_product", "slices")


class Clock:
    """Seconds that pass only when work says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A packed network of two layers in bfloat16, vocabulary 128, canvas 8."""
    sizes = Sizes(
        "sf",
        intermediate_size=32,
        moe_intermediate_size=32,
        vocab_size=128,
        max_position_embeddings=6000,
        hidden_size=128,
        std=0.03,
        sharpness=40.0,
    )
    dense = write_checkpoint(tmp_path_factory.mktemp("dense"), sizes, dtype="bfloat16")
    four, eight = Packing("affine", 4, 32), Packing("affine", 8, 32)
    out = tmp_path_factory.mktemp("packed")
    folder = quantise_folder(dense, out, four, published(four, eight))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SUDOKU / name, folder)
    return dg.load(folder)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_candidates, "HEAD_CHUNKS", (2 * 128, 4 * 128, 5 * 128 - 1))
    monkeypatch.setattr(tune_candidates, "PREFILL_CHUNKS", (32, 64, 256))
    monkeypatch.setattr(tune_candidates, "PREFILL_CHUNK", 128)


@pytest.fixture(scope="module")
def probe(session: Session) -> Probe:
    """As in earnest, but with short prompts: they are encoded for every candidate."""
    whole = probe_of(session)
    assert (len(whole.prompt), len(whole.long_prompt)) == (1024, 4096)
    return Probe(whole.prompt[:40], whole.long_prompt[:256], whole.noise)


def timed(session: Session, probe: Probe, cost: Cost) -> Tuner:
    """A tuner whose work takes as long as `cost` says."""
    clock = Clock()
    tuner = Tuner(session, probe, clock)

    def work(model: Model, name: str) -> Callable[[], None]:
        choices = Choices() if model is session.model else model.choices
        if str(model.dtype) == "mlx.core.float16":
            choices = Choices(dtype="float16")

        def run() -> None:
            clock.now += cost(choices, name)

        return run

    tuner.work = work
    tuner.times = lambda choices: (TIMES, 15.0)
    return tuner


def of(tuned: Tuned, name: str, value: Any) -> Row:
    (row,) = [row for row in tuned.rows if (row.name, row.value) == (name, value)]
    return row


def faster(**seconds: float) -> Cost:
    """A second, or what is named for a choice that is not the engine's own; they multiply."""

    def cost(choices: Choices, name: str) -> float:
        values, own = asdict(choices), asdict(Choices())
        product = 1.0
        for choice, factor in seconds.items():
            product *= factor if values[choice] != own[choice] else 1.0
        return product

    return cost


# --- who wins


def test_the_fastest_of_each_choice_is_kept(session: Session, probe: Probe) -> None:
    def cost(choices: Choices, name: str) -> float:
        chunks = {None: 1.0, 32: 0.9, 64: 0.8, 256: 0.85}
        rows = {None: 1.0, 2 * 128: 1.2, 4 * 128: 0.95}
        dense = 0.5 if choices.unpacks else 1.0
        return (
            chunks[choices.prefill_chunk]
            if name == "prefill_chunk"
            else rows[choices.head_chunk_logits] * dense
        )

    tuned = tune(session, tuner=timed(session, probe, cost))
    expected = Choices(prefill_chunk=64, head_chunk_logits=512, dense_weights="16-bit")
    assert tuned.choices == expected
    assert of(tuned, *UNPACKED).outcome == "faster"
    assert of(tuned, *UNPACKED).ms == pytest.approx(500)
    assert of(tuned, *UNPACKED).share == pytest.approx(0.5)
    assert of(tuned, "together", "all of them").share == pytest.approx(0.475)
    assert of(tuned, "head_chunk_logits", 5 * 128 - 1).note == "4 rows again"
    assert of(tuned, "experts_kernels", "on").note == "no Metal device"


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(0.985, False), pytest.param(1.5, False, marks=pytest.mark.slow), (0.97, True)],
)
def test_less_than_two_percent_is_no_win(
    session: Session, probe: Probe, seconds: float, kept: bool
) -> None:
    tuned = tune(session, tuner=timed(session, probe, faster(dense_weights=seconds)))
    assert (tuned.choices == Choices(dense_weights="16-bit")) is kept
    assert (tuned.choices == Choices()) is not kept


@pytest.mark.slow
def test_a_median_that_wins_in_half_the_rounds_is_noise(session: Session, probe: Probe) -> None:
    tuner = timed(session, probe, faster())
    seconds = iter([1.0, *[0.5, 1.6] * ROUNDS])
    plain = tuner.work

    def work(model: Model, name: str) -> Callable[[], None]:
        if name != "dense_weights" or model is session.model:
            return plain(model, name)

        def run() -> None:
            tuner.clock.now += next(seconds)  # type: ignore[attr-defined]

        return run

    tuner.work = work
    row = of(tune(session, tuner=tuner), *UNPACKED)
    assert row.share is not None
    assert row.share < 0.98
    assert row.outcome == "no gain"


@pytest.mark.slow
def test_winners_that_do_not_win_together_are_not_kept(session: Session, probe: Probe) -> None:
    def cost(choices: Choices, name: str) -> float:
        won = (choices.prefill_chunk, choices.head_chunk_logits, choices.unpacks)
        return 1.0 if name == "together" or not any(won) else 0.5

    tuned = tune(session, tuner=timed(session, probe, cost))
    assert of(tuned, "together", "all of them").outcome == "no gain"
    assert tuned.choices == Choices(prefill_chunk=32)


@pytest.mark.parametrize(("dense", "product"), [(0.5, 0.6), (0.6, 0.5)])
def test_the_embedding_is_unpacked_by_the_choice_that_gains_most(
    session: Session, probe: Probe, dense: float, product: float
) -> None:
    cost = faster(dense_weights=dense, soft_product=product)
    tuned = tune(session, tuner=timed(session, probe, cost))
    assert {of(tuned, *name).outcome for name in (UNPACKED, COPIED, SLICED)} == {"faster"}
    unpacked, sliced = Choices(dense_weights="16-bit"), Choices(soft_product="slices")
    assert tuned.choices == (unpacked if dense < product else sliced)


def test_every_second_round_goes_backwards() -> None:
    order: list[str] = []
    race({name: lambda name=name: order.append(name) for name in "abc"})  # type: ignore[misc]
    assert order[:6] == list("abccba")


# --- what must not win


def damaged(tuner: Tuner, session: Session, factor: float, **kept: Any) -> None:
    """Makes the networks of `kept` choices multiply their last norm by `factor`."""
    plain = tuner.make

    def make(choices: Choices) -> Model:
        model = plain(choices)
        if kept.items() <= asdict(choices).items():
            if model.dtype == session.model.dtype:
                model = variant(model, choices)
            model.final_norm = (model.final_norm * factor).astype(model.dtype)
        return model

    tuner.make = make


def test_what_computes_something_else_cannot_win(session: Session, probe: Probe) -> None:
    tuner = timed(session, probe, faster(dense_weights=0.1))
    damaged(tuner, session, 1.2, dense_weights="16-bit")
    tuned = tune(session, tuner=tuner)
    row = of(tuned, *UNPACKED)
    assert (row.outcome, row.ms) == ("wrong", None)
    assert "differ by" in row.note
    assert tuned.choices == Choices()


def test_a_chunk_is_checked_on_a_prompt_that_fills_it(session: Session, probe: Probe) -> None:
    """Behind 1,024 positions all chunks of 1,024 and more encode the same."""
    tuner = timed(session, probe, faster(prefill_chunk=0.1))
    plain = tuner.make

    def make(choices: Choices) -> Model:
        model = plain(choices)
        encode_piece = model._encode_piece

        def overflowing(ids: Sequence[int], images: Sequence[Placed], prefix: Prefix) -> None:
            encode_piece([0] * len(ids) if len(ids) > 128 else ids, images, prefix)

        model._encode_piece = overflowing  # type: ignore[method-assign]
        return model

    tuner.make = make
    tuned = tune(session, tuner=tuner)
    assert of(tuned, "prefill_chunk", 256).outcome == "wrong"
    assert of(tuned, "prefill_chunk", 32).outcome == "faster"
    assert tuned.choices.prefill_chunk != 256


@pytest.mark.slow
def test_float16_that_overflows_cannot_win(session: Session, probe: Probe) -> None:
    tuner = timed(session, probe, faster(dtype=0.1))
    damaged(tuner, session, 1e30, dtype="float16")
    tuned = tune(session, tune_dtype=True, tuner=tuner)
    assert of(tuned, *HALF).outcome == "wrong"
    assert "not finite" in of(tuned, *HALF).note
    assert tuned.choices == Choices()


@pytest.mark.slow
def test_another_dtype_is_kept_only_where_it_is_asked_for(session: Session, probe: Probe) -> None:
    left = tune(session, tuner=timed(session, probe, faster(dtype=0.5)))
    assert (left.choices, left.dtype_left) == (Choices(), True)
    assert of(left, *HALF).outcome == "faster"
    kept = tune(session, tune_dtype=True, tuner=timed(session, probe, faster(dtype=0.5)))
    assert (kept.choices, kept.dtype_left) == (Choices(dtype="float16"), False)
    given = tune(session, dtype_given=True, tuner=timed(session, probe, faster(dtype=0.5)))
    assert of(given, *HALF).outcome == "absent"


@pytest.mark.slow
def test_what_memory_cannot_hold_is_listed(
    session: Session, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_candidates, "available_memory", lambda: 1_000)
    tuner = timed(session, probe, faster(dense_weights=0.5))
    tuned = tune(session, tuner=tuner)
    for value in (UNPACKED, COPIED, HALF):
        assert "there are 1.0 kB" in of(tuned, *value).note
    assert tune(session, force=True, tuner=tuner).choices.unpacks


@pytest.mark.slow
def test_running_out_of_memory_is_listed_and_a_bug_is_raised(
    session: Session, probe: Probe
) -> None:
    def fail(message: str) -> Tuned:
        tuner = timed(session, probe, faster(prefill_chunk=0.5))
        plain = tuner.make

        def make(choices: Choices) -> Model:
            if choices.unpacks:
                raise RuntimeError(message)
            return plain(choices)

        tuner.make = make
        return tune(session, tuner=tuner)

    tuned = fail("[malloc] Unable to allocate 9 bytes.")
    assert of(tuned, *UNPACKED).note == "the memory did not suffice"
    assert tuned.choices.prefill_chunk == 32
    with pytest.raises(RuntimeError, match="a bug"):
        fail("a bug")


def test_products_that_no_row_takes_are_not_tried(
    session: Session, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SoftEmbeddings, "dense_rows", 0)
    tuned = tune(session, tuner=timed(session, probe, faster()))
    for value in (COPIED, SLICED):
        assert of(tuned, *value).note == "no row of the step needs the product with the embedding"


def test_nothing_can_be_chosen_for_tiny_sudoku_but_the_dtype(
    sudoku: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # chunks as in earnest
    tried = list(tune_candidates.candidates(sudoku, probe_of(sudoku)))
    assert [tried.name for tried in tried if tried.absent is None] == ["dtype"]
    notes = {tried.absent for tried in tried}
    assert {"activations are float32", "no Metal device", "90 rows again"} <= notes
    assert "the embedding is not packed" in notes


# --- the check, and the work


def test_the_check_sees_each_part_of_a_step(session: Session, probe: Probe) -> None:
    seen = probe.look(session.model, probe.prompt)
    allowed = tolerance(2, mx.bfloat16)
    assert wrong(seen, seen, allowed) is None
    for name, value in seen.items():
        assert np.isfinite(value).all()
        assert wrong({**seen, name: value * np.float32(1.5) + 1}, seen, allowed) is not None
        assert wrong({**seen, name: value * np.float32(np.nan)}, seen, allowed) is not None


def test_work_is_done_by_the_network_it_is_for(session: Session, probe: Probe) -> None:
    model = variant(session.model, Choices(head_chunk_logits=2 * 128, prefill_chunk=16))
    assert (head_rows(session.model, 8), head_rows(model, 8)) == (8, 2)
    rows: list[int] = []
    plain = model.raw_logits

    def raw_logits(hidden: mx.array) -> mx.array:
        rows.append(hidden.shape[0])
        return plain(hidden)

    model.raw_logits = raw_logits  # type: ignore[method-assign]
    tuner = Tuner(session, probe)
    step = tuner.work(model, "head_chunk_logits")
    rows.clear()
    step()
    assert rows == [2, 2, 2, 2]


@pytest.mark.slow
def test_in_earnest_every_row_is_timed_or_says_why_not(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_diffgemma.profile.race.ROUNDS", 2)
    whole = probe_of(session)
    short = Probe(whole.prompt[:40], whole.long_prompt[:256], whole.noise)
    tuned = tune(session, tuner=Tuner(session, short))
    for row in tuned.rows:
        assert (row.outcome in ("absent", "wrong")) == (row.ms is None) == bool(row.note)
    assert {row.outcome for row in tuned.rows} <= {"untuned", "faster", "no gain", "absent"}
    assert of(tuned, *UNPACKED).ms
    assert of(tuned, *HALF).ms


def test_progress_comes_to_its_end(session: Session, probe: Probe) -> None:
    seen: list[tuple[int, int]] = []
    tune(
        session,
        tuner=timed(session, probe, faster()),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 10) for number in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10)]


# --- times of both modes


def test_times_of_both_modes(session: Session, probe: Probe, sudoku: Session) -> None:
    """Each work takes as long as a fake clock says; tokens count one by one."""
    clock = Clock()
    tuner = Tuner(session, probe, clock)

    def taking(seconds: float) -> Callable[[], None]:
        return lambda: setattr(clock, "now", clock.now + seconds)

    class Writing:
        count = 8

        def __init__(self, model: Model, tokens: Sequence[int]) -> None:
            self.seconds = 0.4 if model is session.model else 0.8

        def __call__(self) -> None:
            clock.now += self.seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_times, "Writing", Writing)
        patch.setattr(tune_times, "_commit", lambda *_: taking(0.7))
        patch.setattr(tune_times, "row_works", lambda *_: {1: taking(0.06), 8: taking(0.09)})
        tuner.work = lambda model, name: taking(1.0)
        found = tuner.times(Choices())
        assert found is not None
        times, untuned = found
        got = (times.step_ms, times.token_ms, times.commit_ms)
        assert got == (pytest.approx(1000), pytest.approx(50), pytest.approx(700))
        assert dict(times.rows_ms) == {1: pytest.approx(60), 8: pytest.approx(90)}
        assert untuned == times.token_ms
        found = tuner.times(Choices(dense_weights="16-bit"))
        assert found is not None
        times, untuned = found
        assert (times.token_ms, untuned) == (pytest.approx(100), pytest.approx(50))
    assert Tuner(sudoku, probe).times(Choices()) is None


def test_what_is_timed_leaves_the_prefix_as_it_was(session: Session, probe: Probe) -> None:
    """Each work runs again and again behind the same prompt."""
    model = session.model
    for rows, work in row_works(model, probe.prompt).items():
        work()
        work()
        assert rows in ROWS
    writing, lengths = Writing(model, probe.prompt), []
    for _ in range(2):
        writing()
        lengths.append(writing.prefix.length)
    assert lengths == [len(probe.prompt) + writing.count - 1] * 2


def test_tuning_leaves_the_folder_alone(session: Session, probe: Probe) -> None:
    before = {file: file.stat().st_mtime for file in Path(session.info.path).iterdir()}
    tune(session, tuner=timed(session, probe, faster()))
    assert {file: file.stat().st_mtime for file in Path(session.info.path).iterdir()} == before
