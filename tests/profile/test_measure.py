"""Whole measurements: counts that equal `generate`'s, every key there, bounds for a known chip."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import assert_says

import mlx_diffgemma as dg
from mlx_diffgemma.cli.profile.text import lines
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.diffusion import denoise
from mlx_diffgemma.diffusion import pipeline as loop
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.machine.identity import this_machine
from mlx_diffgemma.profile import race
from mlx_diffgemma.profile.chrome_trace import chrome_trace
from mlx_diffgemma.profile.components import COMPONENTS, Fences
from mlx_diffgemma.profile.condition import Condition
from mlx_diffgemma.profile.measure import Meter
from mlx_diffgemma.profile.measurement import Measurement
from mlx_diffgemma.profile.report import to_json
from mlx_diffgemma.profile.run import run
from mlx_diffgemma.profile.schema import problems
from mlx_diffgemma.profile.tokens import TokenRecord, Written
from mlx_diffgemma.profile.workload import Workload, first_questions

CALM = Condition(None, None, None)


def measurement(session: Session, workload: Workload, name: str = "test") -> Measurement:
    return Measurement(session, name, workload, this_machine(), CALM)


@pytest.fixture(scope="module")
def fixed(deep: Session) -> Measurement:
    """Five canvases of four steps behind 150 tokens, 30 layers, by part."""
    measured = measurement(deep, Workload(steps=4, context=150))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race, "ROUNDS", 1)  # of rows at once
        run(measured, components=True)
    return measured


@pytest.fixture(scope="module")
def puzzles(sudoku: Session) -> Measurement:
    measured = measurement(sudoku, Workload(steps=None, prompts=3, seeds=2), "tiny-sudoku")
    run(measured)
    return measured


# --- tokens per step


@pytest.mark.slow
def test_adaptive_answers_are_those_of_generate(puzzles: Measurement) -> None:
    profile = to_json(puzzles)
    session = dg.load("tiny-sudoku")
    replies = []
    for answer in profile["answers"]:
        reply = session.ask(answer["prompt"], settings=dg.Settings(seed=answer["seed"]))
        assert answer["token_ids"] == list(reply.token_ids)
        assert answer["tokens_per_step"] == reply.tokens_per_step
        assert [canvas["steps"] for canvas in answer["canvases"]] == list(reply.steps)
        assert answer["finish_reason"] == reply.finish_reason
        replies.append(reply)
    tokens, steps = sum(r.generated_tokens for r in replies), sum(sum(r.steps) for r in replies)
    assert profile["tokens_per_step"] == tokens / steps
    assert profile["steps_per_canvas"] == [count for reply in replies for count in reply.steps]
    assert profile["tokens_per_canvas"] == [reply.generated_tokens for reply in replies]
    assert profile["commit_ms"] is None  # a puzzle is one canvas, and the last is never encoded


@pytest.mark.slow
def test_answers_of_several_canvases(shallow: Session) -> None:
    measured = measurement(shallow, Workload(steps=None, prompts=5, seeds=1, max_tokens=20))
    run(measured, components=True)
    profile = to_json(measured)
    for answer in profile["answers"]:
        settings = dg.Settings(seed=answer["seed"], max_tokens=20)
        reply = shallow.ask(answer["prompt"], settings=settings)
        shallow.reset()
        assert answer["tokens_per_step"] == reply.tokens_per_step
        assert (answer["generated_tokens"], reply.canvases) == (20, 3)
        lengths = [canvas["prefix"] - answer["prompt_tokens"] for canvas in answer["canvases"]]
        assert lengths == [0, 8, 16]
        commits = [canvas["commit_ms"] for canvas in answer["canvases"]]
        assert [commit is None for commit in commits] == [False, False, True]
        assert all(len(c["parts_ms"]) == c["steps"] for c in answer["canvases"])
    assert list(problems(profile)) == []


@pytest.mark.slow
def test_fixed_steps_never_stop_early(fixed: Measurement, sudoku: Session) -> None:
    assert to_json(fixed)["steps_per_canvas"] == [4] * 5
    settled = measurement(sudoku, Workload(steps=16))
    question = first_questions(sudoku, settled.workload)[0]
    record = Meter(sudoku.model).answer(question, commit_last=True)
    entropies = [span.details["entropy"] for span in record.spans if span.name == "step"]
    assert [len(canvas.step_seconds) for canvas in record.canvases] == [16]
    assert min(entropies) < 1e-3  # it would have


# --- figures


def test_every_key_is_there(fixed: Measurement, puzzles: Measurement) -> None:
    for measured in (fixed, puzzles):
        profile = json.loads(json.dumps(to_json(measured), allow_nan=False))
        assert list(problems(profile)) == []
    wanted = (
        "schema_version machine model sampler workload prefill_tokens_per_second "
        "first_canvas_seconds step_ms steps_per_canvas commit_ms tokens_per_step tokens_per_second "
        "positions_per_second peak_memory_bytes components bound"
    )
    assert set(wanted.split()) <= set(to_json(fixed))


def test_figures_follow_from_the_samples(fixed: Measurement) -> None:
    profile = to_json(fixed)
    steps = sorted(ms for a in profile["answers"] for c in a["canvases"] for ms in c["step_ms"])
    assert profile["step_ms"]["p50"] == pytest.approx((steps[9] + steps[10]) / 2)
    assert steps[0] <= profile["step_ms"]["p10"] <= profile["step_ms"]["p90"] <= steps[-1]
    seconds = sum(answer["seconds"] for answer in profile["answers"])
    prefill = sum(answer["prefill_seconds"] for answer in profile["answers"])
    assert profile["positions_per_second"] == pytest.approx(5 * 8 / seconds)
    assert profile["tokens_per_second"] == pytest.approx(40 / seconds)
    assert profile["tokens_per_second_without_prefill"] == pytest.approx(40 / (seconds - prefill))
    rest = []  # of an answer, in neither prefill nor a step
    for answer in profile["answers"]:
        parts = answer["prefill_seconds"] + sum(answer["canvases"][0]["step_ms"]) / 1e3
        rest.append(1 - parts / answer["seconds"])
        assert answer["first_canvas_seconds"] == answer["seconds"]
    assert all(share > -0.001 for share in rest)
    assert min(rest) < 0.05  # a busy machine may stop between two frames, but not in every answer
    assert profile["share_at_cap"] == 1
    assert profile["commit_ms"] > 0
    assert profile["peak_memory_bytes"] > 1_000_000
    assert profile["dense_rows_per_step"] == 8  # float32 gathers nothing
    assert (profile["gathered_rows_per_step"], profile["second_tier_rows_per_step"]) == (0, 0)
    assert (profile["tokens_per_forward"], profile["effective_steps"]) == (40 / 20, 4)


def test_components_sum_to_the_step(fixed: Measurement) -> None:
    profile = to_json(fixed)
    assert tuple(profile["components"]) == COMPONENTS
    total = sum(part["ms"] for part in profile["components"].values())
    assert total == pytest.approx(profile["fences"]["plain_step_ms"])
    assert total == pytest.approx(profile["step_ms"]["p50"], rel=0.1)
    for name in ("attention", "experts", "dense MLP", "router", "head", "self-conditioning"):
        part = profile["components"][name]
        assert min(part["ms"], part["gflop"], part["bytes"]) > 0
    gflop = sum(part["gflop"] for part in profile["components"].values())
    assert gflop == pytest.approx(profile["work"]["gflop"])


def test_experts_are_counted_with_the_parts(fixed: Measurement, puzzles: Measurement) -> None:
    profile, text = to_json(fixed), fixed.session.model.config.text
    found = profile["routing"]
    assert (found["experts"], found["used"]) == (text.num_experts, text.top_k_experts)
    assert len(found["touched_by_step"]) == 4
    assert found["touched"]["least"] >= text.top_k_experts
    assert sum(row["experts"] for row in found["rows_per_expert"]) == pytest.approx(
        text.num_experts
    )
    assert found["expert_bytes"] < profile["components"]["experts"]["bytes"] * 1.0001
    assert profile["work"]["text_bytes"] < profile["work"]["bytes"]
    assert to_json(puzzles)["routing"] is None


def test_a_single_step_conditions_on_nothing(shallow: Session) -> None:
    once, twice = (measurement(shallow, Workload(steps=n, context=150)) for n in (1, 2))
    for measured in (once, twice):
        run(measured, components=True)
    work, full = to_json(once), to_json(twice)
    part = "self-conditioning"
    assert (work["components"][part]["gflop"], work["components"][part]["bytes"]) == (0, 0)
    spared = full["work"]["gflop"] - full["components"][part]["gflop"]
    assert work["work"]["gflop"] == pytest.approx(spared)
    assert full["components"][part]["gflop"] > 0


def test_a_slowed_step_is_a_slowed_step(shallow: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleep in the loop's step shows in the sampler and in the step."""
    asleep, fast = 0.05, loop.submit

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(asleep)
        return fast(*arguments, **options)

    question = first_questions(shallow, Workload(steps=3, context=150))[0]
    meter = Meter(shallow.model, fences=Fences())
    monkeypatch.setattr(loop, "submit", slow)
    canvas = meter.answer(question, commit_last=True).canvases[0]
    assert min(canvas.step_seconds) > asleep
    assert min(part.seconds["sampler"] for part in canvas.parts) > asleep


class Ahead:
    """A loop on a clock of its own, whose steps take 10 s of a device that works by itself.

    It begins a step before it hands out the frame of the one before. The loop that fences repeat
    waits: each of its steps takes 40 s when it is asked for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.free = 100.0, 0.0
        monkeypatch.setattr(loop, "submit", lambda: self.passes(40.0))
        monkeypatch.setattr(denoise, "denoise", self.denoise)
        monkeypatch.setattr(mx, "synchronize", self.wait)

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def wait(self) -> None:
        self.now = max(self.now, self.free)

    def begin(self) -> None:
        self.free = max(self.now, self.free) + 10.0

    def denoise(
        self, model: Any, tokens: Any, settings: Any, prefix: Any = None
    ) -> Iterator[Frame]:
        ahead, lent, row = loop.runs_ahead(), 0.0, np.zeros(8, np.int32)
        assert ahead == (prefix is not None)
        for canvas in range(2):
            self.passes(5.0)  # the encoder
            if ahead:
                self.begin()
            for step in range(3):
                self.wait() if ahead else loop.submit()  # type: ignore[call-arg]
                if ahead and step < 2:
                    self.begin()
                before, encoded = self.now, 0.0 if step else 5.0
                frame = Frame(canvas, step, row, row.astype(np.float32), row > 0)
                yield replace(frame, caller_seconds=lent, encode_seconds=encoded)
                lent = self.now - before if ahead and step < 2 else 0.0
            yield replace(frame, committed=True, finish_reason="length")


@pytest.mark.parametrize("caller_seconds", [0.0, 2.0, 14.0])
def test_steps_that_run_while_the_caller_looks(
    shallow: Session, monkeypatch: pytest.MonkeyPatch, caller_seconds: float
) -> None:
    """From frame to frame: what the caller takes is hidden until it takes longer than a step."""
    question = first_questions(shallow, Workload(steps=3, context=150))[0]
    monkeypatch.setattr(loop, "runs_ahead", lambda: True)
    clock = Ahead(monkeypatch)
    meter = Meter(shallow.model, lambda: clock.passes(caller_seconds), clock)
    record = meter.answer(question, commit_last=False)
    for canvas in record.canvases:
        assert canvas.step_seconds == [10.0, *[max(10.0, caller_seconds)] * 2]
        assert canvas.caller_seconds == [0.0, caller_seconds, caller_seconds]
    assert record.seconds == clock.now - 100


def test_a_repetition_takes_no_time_of_the_steps_that_run_ahead(
    shallow: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = first_questions(shallow, Workload(steps=3, context=150))[0]
    monkeypatch.setattr(loop, "runs_ahead", lambda: True)
    clock = Ahead(monkeypatch)
    meter = Meter(shallow.model, lambda: None, clock, Fences(clock))
    record = meter.answer(question, commit_last=False)
    for canvas in record.canvases:
        assert canvas.step_seconds == [10.0] * 3
        assert canvas.caller_seconds == [0.0] * 3
        assert [part.seconds["sampler"] for part in canvas.parts] == [40.0] * 3
    assert record.seconds == 2 * (5 + 30)
    steps = [span for span in record.spans if span.name == "step"]
    for earlier, later in pairwise(steps):
        assert earlier.began + earlier.seconds <= later.began


# --- mode ar


def timed(measured: Measurement, *token_ms: float) -> Measurement:
    """The measurement with tokens that take so long, and rows."""
    record = TokenRecord(150, 0.0, tuple(ms / 1e3 for ms in token_ms))
    written = Written(measured.session.model, records=[record] * 2)
    written.rows = {1: [0.010, 0.010, 0.9], 8: [0.030, 0.020, 0.010]}
    return replace(measured, written=written)


def test_mode_ar_is_measured_beside_the_steps(fixed: Measurement) -> None:
    profile = to_json(fixed)
    found = profile["ar"]
    assert profile["model"]["modes"] == ["diffusion", "ar"]
    assert [len(times) for times in found["answers_token_ms"]] == [7] * 5
    assert [row["rows"] for row in found["rows"]] == [1, 2, 4, 8, 16]
    assert min(row["ms"] for row in found["rows"]) > 0
    assert found["rows"][0]["ratio"] == 1
    assert (found["ratio"], found["faster"], found["bound_ms"]) == (None, None, None)


def test_figures_of_mode_ar_follow_from_the_samples(fixed: Measurement) -> None:
    profile = to_json(timed(fixed, 10.0, 11.0, 12.0))
    found, step, commit = profile["ar"], profile["step_ms"]["p50"], profile["commit_ms"]
    assert found["token_ms"]["p50"] == pytest.approx(11)
    assert found["tokens_per_second"] == pytest.approx(1e3 / 11)
    assert [row["ratio"] for row in found["rows"]] == [1, pytest.approx(2)]
    assert found["break_even_steps"] == pytest.approx((8 * 11 - commit) / step)
    assert found["break_even_steps_thinking"] == pytest.approx((1.3 * 8 * 11 - commit) / step)
    chip = replace(fixed.machine, chip="Apple M4 Pro", gpu_cores=20, device="gpu")
    known = to_json(replace(timed(fixed, 11.0), machine=chip))["ar"]
    read = known["weight_bytes"] + known["cache_bytes"]
    assert known["prefix"] == 151
    assert known["bound_ms"] == pytest.approx(read / 273e6)
    assert known["bound_share"] == pytest.approx(known["bound_ms"] / 11)


@pytest.mark.parametrize(
    ("times_as_fast", "faster"), [(2.0, "diffusion"), (1.03, None), (0.98, None), (0.4, "ar")]
)
def test_the_faster_mode_is_that_of_the_measured_answers(
    puzzles: Measurement, times_as_fast: float, faster: str | None
) -> None:
    rate = to_json(puzzles)["tokens_per_second_without_prefill"]
    profile = to_json(timed(puzzles, 1e3 * times_as_fast / rate))
    assert profile["ar"]["ratio"] == pytest.approx(times_as_fast)
    assert profile["ar"]["faster"] == faster
    steps = profile["steps_per_canvas"]
    assert profile["ar"]["steps"] == pytest.approx(sum(steps) / len(steps))


def test_a_checkpoint_without_mode_ar_has_none(puzzles: Measurement) -> None:
    profile = to_json(puzzles)
    assert (profile["ar"], profile["model"]["modes"]) == (None, ["diffusion"])


# --- bounds, sustained runs, warnings


def test_a_known_chip_has_bounds(fixed: Measurement) -> None:
    assert to_json(fixed)["bound"] is None
    chip = replace(fixed.machine, chip="Apple M4 Pro", gpu_cores=16, device="gpu")
    profile = to_json(replace(fixed, machine=chip))
    assert list(problems(profile)) == []
    bound = profile["bound"]
    assert (bound["name"], bound["tflops"]) == ("M4 Pro", pytest.approx(7.36))
    assert bound["compute_ms"] == pytest.approx(profile["work"]["gflop"] / 7.36)
    assert bound["memory_ms"] == pytest.approx(profile["work"]["bytes"] / 273e6)
    assert bound["text_memory_ms"] == pytest.approx(profile["work"]["text_bytes"] / 273e6)
    least = max(bound["compute_ms"], bound["memory_ms"])
    assert bound["share"] == pytest.approx(least / profile["step_ms"]["p50"])
    assert 0 < bound["prefill_share"] < 1
    assert 0 < bound["commit_share"] < 1
    assert 0 < profile["components"]["experts"]["bound_share"] < 1
    assert profile["components"]["host"]["bound_share"] is None
    (line,) = (line for line in lines(profile) if "(assumed)" in line)
    said = f"all {profile['work']['experts']} experts ... {bound['text_memory_ms']:.4g} ms with"
    assert_says(line, said, profile["work"]["text_experts"], "published for text")
    on_cpu = replace(fixed.machine, chip="Apple M4 Pro", device="cpu")
    assert to_json(replace(fixed, machine=on_cpu))["bound"] is None


@pytest.mark.slow
def test_a_sustained_run_goes_on(shallow: Session) -> None:
    measured = measurement(shallow, Workload(steps=2, context=150))
    began = time.perf_counter()
    run(measured, sustained=3.0)
    assert time.perf_counter() - began > 3
    profile = to_json(measured)
    windows = profile["sustained"]["windows"]
    assert list(problems(profile)) == []
    assert profile["ar"] is None
    assert len(windows) > 1
    assert sum(window["steps"] for window in windows) == sum(profile["steps_per_canvas"])
    ratio = windows[-1]["step_ms"] / windows[0]["step_ms"]
    assert profile["sustained"]["slowdown"] == pytest.approx(ratio - 1)


def test_warnings(fixed: Measurement) -> None:
    hot = Condition("Battery Power", False, "CPU_Speed_Limit 62")
    few = replace(fixed, before=hot, records=fixed.records[:2])
    said = " | ".join(to_json(few)["warnings"])
    for part in ("on the CPU", "only 2 canvases", "thermal pressure before", "on battery"):
        assert part in said
    unplugged = replace(fixed, before=CALM, after=Condition("Battery Power", False, "ok"))
    assert any("on battery" in line for line in to_json(unplugged)["warnings"])
    uneven = replace(fixed, records=list(fixed.records))
    slow = replace(uneven.records[0], canvases=[replace(uneven.records[0].canvases[0])])
    slow.canvases[0].step_seconds = [2 * s for s in slow.canvases[0].step_seconds]
    uneven.records[0] = slow
    assert any("canvases differ by" in line for line in to_json(uneven)["warnings"])


def test_kernels_that_did_not_run_belong_to_the_figures(
    fixed: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_diffgemma.machine.device.has_metal", lambda: True)
    monkeypatch.setattr(dispatch, "known", dispatch.Known())
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    dispatch.unsupported("experts", "more than 512 rows at once")
    assert to_json(fixed)["warnings"][-1] == dispatch.unused()[0]


def test_progress_comes_to_its_end(shallow: Session) -> None:
    seen: list[tuple[int, int]] = []
    measured = measurement(shallow, Workload(steps=2, context=150))
    run(measured, components=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (28, 28)  # (2 + 5) canvases, 2 steps, twice
    assert [done for done, _ in seen[:-2]] == list(range(1, 28))
    seen.clear()
    measured = measurement(shallow, Workload(steps=None, prompts=5, seeds=1, max_tokens=8))
    run(measured, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


# --- traces


def test_a_trace_of_complete_events(fixed: Measurement) -> None:
    trace = json.loads(json.dumps(chrome_trace(fixed), allow_nan=False))
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    timed = [event for event in events if event["ph"] == "X"]
    for event in timed:
        assert {"name", "ph", "ts", "dur", "pid", "tid", "cat", "args"} == set(event)
        assert event["ts"] >= 0
        assert event["dur"] >= 0
    names = [event["name"] for event in timed if event["tid"] == 1]
    counts = {name: names.count(name) for name in ("answer", "prefill", "step", "commit")}
    assert counts == {"answer": 5, "prefill": 5, "step": 20, "commit": 5}
    assert sum(event["name"] == "experts" for event in timed if event["tid"] == 2) == 20 * 30


def test_an_answer_holds_its_steps(fixed: Measurement) -> None:
    """With fenced repetitions between them, too: its bar ended among them."""
    events = [e for e in chrome_trace(fixed)["traceEvents"] if e.get("tid") == 1 and "ts" in e]
    answers = [e for e in events if e["name"] == "answer"]
    for number, event in enumerate(e for e in events if e["name"] == "step"):
        answer = answers[number // 4]
        assert answer["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= answer["ts"] + answer["dur"] + 1e-3
    seconds = [answer["args"]["seconds"] for answer in answers]
    assert seconds == [record.seconds for record in fixed.records]


@pytest.mark.parametrize("row", [1, 2])
def test_events_of_a_row_lie_inside_each_other_or_apart(fixed: Measurement, row: int) -> None:
    events = [e for e in chrome_trace(fixed)["traceEvents"] if e.get("tid") == row and "ts" in e]
    ends: list[float] = []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while ends and ends[-1] <= event["ts"] + 1e-6:
            ends.pop()
        end = event["ts"] + event["dur"]
        assert not ends or end <= ends[-1] + 1e-3
        ends.append(end)


# --- the schema


def test_the_schema_finds_what_is_wrong(fixed: Measurement) -> None:
    profile = to_json(fixed)
    profile["step_ms"].pop("p50")
    profile["commit_ms"] = float("nan")
    profile["machine"]["chip"] = 3
    profile["extra"] = 1
    profile["answers"][0]["canvases"] = {}
    profile["components"]["head"]["share"] = True
    for problem, facts in zip(
        sorted(problems(profile)),
        (
            "answers[0].canvases is {} ... a list",
            "commit_ms is nan ... a number or null",
            "components.head.share is True ... a number or null",
            "extra is unknown",
            "machine.chip is 3 ... a text or null",
            "step_ms.p50 is missing",
        ),
        strict=True,
    ):
        assert_says(problem, facts)
    assert list(problems([])) == ["the file is [], expected an object"]


def test_a_file_from_before_keys_of_canvases_were_added(fixed: Measurement) -> None:
    profile = to_json(fixed)
    for name in ("caller_ms", "second_tier_rows"):
        del profile["answers"][1]["canvases"][0][name]
    assert list(problems(profile)) == []
    del profile["answers"][1]["canvases"][0]["dense_rows"]
    assert list(problems(profile)) == ["answers[1].canvases[0].dense_rows is missing"]
