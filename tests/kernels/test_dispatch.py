"""Who decides whether a Metal kernel runs: modes, trials, verdicts on disk, and what is said.

No Metal is needed: its presence is faked, the trials are of arrays that any machine can add.
"""

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from facts import assert_says, raises

import mlx_diffgemma as dg
from mlx_diffgemma.errors import KernelWarning, SettingsError
from mlx_diffgemma.kernels import dispatch, timing, verdicts
from mlx_diffgemma.kernels.trial import MOST_TRIES, Outcome, Verdict, run_trial
from mlx_diffgemma.kernels.verdicts import this_identity
from mlx_diffgemma.machine import device
from mlx_diffgemma.machine.identity import sources_hash

ROOT = Path(__file__).parents[2]
KEY = "rows 4 width 8 float32"
TODAY = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Clock:
    """Seconds that pass only when a fake kernel says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeTrial:
    """A trial whose kernel is right or wrong, raises, or takes as long as it is told."""

    def __init__(self, clock: Clock | None = None, **options: Any) -> None:
        self.clock = clock or Clock()
        self.kernel_seconds: float = options.get("kernel_seconds", 1.0)
        self.reference_seconds: float = options.get("reference_seconds", 2.0)
        self.difference: str | None = options.get("difference")
        self.error: BaseException | None = options.get("error")
        self.others: dict[str, Callable[[], Sequence[mx.array]]] = options.get("others", {})
        self.calls = 0

    def kernel(self) -> Sequence[mx.array]:
        self.calls += 1
        if self.error:
            raise self.error
        self.clock.now += self.kernel_seconds
        return [mx.ones((2, 2)) @ mx.ones((2, 2))]

    def reference(self) -> Sequence[mx.array]:
        self.clock.now += self.reference_seconds
        return [mx.full((2, 2), 2.0)]

    def disagreement(self, kernel: Sequence[mx.array], reference: Sequence[mx.array]) -> str | None:
        assert mx.array_equal(kernel[0], reference[0])
        return self.difference


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """A Metal device, clocks of our own and an empty cache."""
    fake = Clock()
    monkeypatch.setattr(dispatch, "now", lambda: TODAY)
    monkeypatch.setattr(device, "has_metal", lambda: True)
    monkeypatch.setattr(dispatch, "clock", fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    return fake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "mlx-diffgemma" / "kernels.json"


def stored(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text())
    assert content["schema"] == verdicts.SCHEMA
    families: dict[str, Any] = content["machines"][str(this_identity())]
    return families


def said(*questions: Callable[[], bool | None]) -> list[str]:
    """The warnings while these are asked, each of which must be answered with no."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not any(question() for question in questions)
    assert {warning.category for warning in caught} <= {KernelWarning}
    return [str(warning.message) for warning in caught]


def refused(family: str, key: str, trial: FakeTrial) -> Callable[[], bool]:
    return lambda: dispatch.chosen(family, key, lambda: trial)


def taken(*keys: str, clock: Clock) -> Callable[[], bool]:
    """True when kernels that win are not chosen for every key."""
    return lambda: (
        not all(dispatch.chosen("experts", key, lambda: FakeTrial(clock)) for key in keys)
    )


def untried() -> FakeTrial:
    raise AssertionError("nothing may be tried here")


# --- modes


@pytest.mark.parametrize("value", ["", "auto", "on", "off", "check"])
def test_the_environment_sets_the_mode(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, value)
    assert dispatch.mode() == (value or "auto")


def test_an_unknown_mode_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "ON")
    with raises(SettingsError, "MLX_DIFFGEMMA_KERNELS ... 'ON' ... auto, on, off, check"):
        dispatch.chosen("experts", KEY, untried)


def test_off_tries_nothing_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    assert not dispatch.chosen("experts", KEY, untried)
    dispatch.unsupported("experts", "group size 16")


def test_a_case_that_is_not_covered_is_kept_and_never_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even its key is made, whose words may need what the kernels do not cover."""
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    assert not dispatch.covered_and_chosen("experts", "group size 16", untried, untried)
    (line,) = dispatch.unused()
    assert_says(line, "experts ... do not cover this: group size 16.")
    assert dispatch.covered_and_chosen("experts", None, lambda: KEY, untried)


def test_on_takes_the_kernels_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    assert dispatch.chosen("experts", KEY, untried)


@pytest.mark.parametrize("value", ["auto", "off", "check"])
def test_without_metal_the_references_run(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: False)
    monkeypatch.setenv(dispatch.VARIABLE, value)
    assert not dispatch.chosen("experts", KEY, untried)
    dispatch.unsupported("experts", "group size 16")


def test_on_without_metal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: False)
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    for ask in (dispatch.require_usable, lambda: dispatch.chosen("experts", KEY, untried)):
        with raises(SettingsError, "MLX_DIFFGEMMA_KERNELS ... 'on' ... auto or off ... no Metal"):
            ask()


def test_loading_finds_it_before_it_looks_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "yes")
    with pytest.raises(SettingsError, match="MLX_DIFFGEMMA_KERNELS"):
        dg.load("no/such/folder")


# --- trials


def test_a_kernel_that_wins_runs_and_is_tried_once(clock: Clock, file: Path) -> None:
    trial = FakeTrial(clock)
    assert dispatch.chosen("experts", KEY, lambda: trial)
    assert trial.calls == 1 + timing.LEAST_SAMPLES
    assert dispatch.chosen("experts", KEY, untried)
    assert stored(file)["experts"][KEY] == {
        "outcome": "faster",
        "note": None,
        "kernel_ms": 1000.0,
        "reference_ms": 2000.0,
        "disagreement": 0.0,
        "found": "2026-11-29T12:00:00+00:00",
        "tries": 1,
    }


def test_another_process_believes_the_stored_verdict(clock: Clock) -> None:
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    dispatch.forget()
    assert dispatch.chosen("experts", KEY, untried)


def test_check_tries_anew_once_a_process(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    dispatch.forget()
    monkeypatch.setenv(dispatch.VARIABLE, "check")
    slow = FakeTrial(clock, kernel_seconds=3.0)
    assert said(refused("experts", KEY, slow)) == []
    assert_says(*dispatch.unused(), "experts ... not faster ... 3e+03 ms ... 2e+03")
    assert not dispatch.chosen("experts", KEY, untried)
    monkeypatch.setenv(dispatch.VARIABLE, "auto")
    dispatch.forget()
    assert not dispatch.chosen("experts", KEY, untried)  # what was found anew is what is stored


@pytest.mark.parametrize(("kernel_seconds", "runs"), [(0.97, True), (0.985, False), (1.0, False)])
def test_a_win_below_two_percent_counts_as_none(
    clock: Clock, kernel_seconds: float, runs: bool
) -> None:
    trial = FakeTrial(clock, kernel_seconds=kernel_seconds, reference_seconds=1.0)
    assert dispatch.chosen("experts", KEY, lambda: trial) is runs


def test_one_slow_sample_does_not_decide(clock: Clock) -> None:
    class Hiccup(FakeTrial):
        def kernel(self) -> Sequence[mx.array]:
            self.kernel_seconds = 500.0 if self.calls == 2 else 1.0
            return super().kernel()

    assert dispatch.chosen("experts", KEY, lambda: Hiccup(clock))


def test_quick_kernels_are_sampled_often(clock: Clock) -> None:
    trial = FakeTrial(clock, kernel_seconds=1e-4, reference_seconds=2e-4)
    assert dispatch.chosen("experts", KEY, lambda: trial)
    assert trial.calls == 1 + timing.MOST_SAMPLES


@pytest.mark.parametrize(
    ("options", "outcome", "facts"),
    [
        ({"difference": "sum: error 3, allowed 1"}, "wrong", "wrong ... sum: error 3, allowed 1"),
        ({"error": RuntimeError("no\nlibrary")}, "error", "cannot run ... no library"),
        ({"error": ValueError()}, "error", "cannot run ... ValueError"),
    ],
)
def test_a_kernel_that_fails_is_said_once_and_its_reference_runs(
    clock: Clock, file: Path, options: dict[str, Any], outcome: str, facts: str
) -> None:
    trial = FakeTrial(clock, **options)  # the second instantiation fails in the same way
    lines = said(*(refused("experts", key, trial) for key in (KEY, KEY, "rows 8")))
    (line,) = lines
    assert_says(line, "experts ... MLX's own operations run", facts, KEY, "selftest")
    assert dispatch.unused() == ()
    assert {verdict["outcome"] for verdict in stored(file)["experts"].values()} == {outcome}


def test_another_family_and_another_reason_are_said_too(clock: Clock) -> None:
    lines = said(
        refused("experts", KEY, FakeTrial(clock, error=RuntimeError("a"))),
        refused("experts", "rows 8", FakeTrial(clock, difference="b")),
        refused("denoise", KEY, FakeTrial(clock, error=RuntimeError("a"))),
    )
    assert len(lines) == 3


def test_a_slower_kernel_is_recorded_and_not_said(clock: Clock, file: Path) -> None:
    """Nobody can act on it, and everyday use has many; it was a warning of the first process."""
    slow = FakeTrial(clock, kernel_seconds=2.0)
    assert said(*(refused("experts", key, slow) for key in (KEY, "rows 8", KEY))) == []
    (line,) = dispatch.unused()
    assert_says(line, "experts ... MLX's own operations run ... not faster ... 2e+03 ms", KEY)
    assert "selftest" not in line
    assert {verdict["outcome"] for verdict in stored(file)["experts"].values()} == {"slower"}
    dispatch.forget()
    assert dispatch.unused() == ()
    assert said(lambda: dispatch.chosen("experts", KEY, untried)) == []
    assert dispatch.unused() == (line,)  # of the verdict on disk


def test_a_stored_wrong_result_is_said_in_every_process(clock: Clock) -> None:
    wrong = FakeTrial(clock, difference="sum")
    assert len(said(refused("experts", KEY, wrong))) == 1
    dispatch.forget()
    assert len(said(lambda: dispatch.chosen("experts", KEY, untried))) == 1


def test_making_the_inputs_may_fail_too() -> None:
    def make() -> FakeTrial:
        raise RuntimeError("no room for the inputs")

    assert run_trial(make).outcome is Outcome.ERROR


def test_a_lack_of_memory_is_not_remembered_beyond_the_process(clock: Clock, file: Path) -> None:
    error = RuntimeError("[metal::malloc] Attempting to allocate 5 bytes")
    with pytest.warns(KernelWarning):
        assert not dispatch.chosen("experts", KEY, lambda: FakeTrial(clock, error=error))
    assert not dispatch.chosen("experts", KEY, untried)
    assert not file.exists()


def test_a_long_message_is_cut(clock: Clock) -> None:
    verdict = run_trial(lambda: FakeTrial(clock, error=RuntimeError("x" * 5000)), clock)
    assert len(verdict.note or "") == 300


def test_an_interrupt_is_no_verdict(clock: Clock, file: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        dispatch.chosen("experts", KEY, lambda: FakeTrial(clock, error=KeyboardInterrupt()))
    assert not file.exists()
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))


def test_a_trial_within_a_trace_touches_no_tracer(clock: Clock) -> None:
    trial = FakeTrial(clock)

    @mx.compile
    def traced(x: mx.array) -> mx.array:
        return x @ x if dispatch.chosen("experts", KEY, lambda: trial) else x

    with mx.stream(mx.cpu):
        assert mx.array_equal(traced(mx.ones((2, 2))), mx.full((2, 2), 2.0))
    assert trial.calls == 1 + timing.LEAST_SAMPLES


def test_threads_try_an_instantiation_once(clock: Clock) -> None:
    made: list[FakeTrial] = []

    def make() -> FakeTrial:
        made.append(FakeTrial(clock))
        return made[-1]

    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(dispatch.chosen("experts", KEY, make)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, len(made)) == ([True] * 4, 1)


# --- what is not covered, and what a reply says


def test_what_kernels_do_not_cover_is_recorded_once_a_reason() -> None:
    """Every prompt over 512 tokens, and every packing but two, was a warning on standard error."""
    reasons = ("group size 16", "group size 16", "600 rows")
    assert said(*(partial(dispatch.unsupported, "experts", reason) for reason in reasons)) == []
    for line, reason in zip(dispatch.unused(), reasons[1:], strict=True):
        assert_says(line, "experts ... MLX's own operations run ... not cover", reason)
    dispatch.forget()
    assert dispatch.unused() == ()


def test_what_is_switched_off_or_not_there_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    dispatch.unsupported("experts", "600 rows")
    monkeypatch.delenv(dispatch.VARIABLE)
    monkeypatch.setattr(device, "has_metal", lambda: False)
    dispatch.unsupported("experts", "600 rows")
    assert dispatch.unused() == ()


def test_running_is_true_from_the_first_kernel_on(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not dispatch.running()
    dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    assert dispatch.running()
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    assert not dispatch.running()
    monkeypatch.delenv(dispatch.VARIABLE)
    monkeypatch.setattr(device, "has_metal", lambda: False)
    assert not dispatch.running()


# --- the file


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        pytest.param(b"[" * 100_000, id="nested too deep"),
        b"{}",
        b'{"schema": 3}',
        b'{"schema": 3, "machines": [1]}',
    ],
)
def test_a_corrupt_file_is_said_once_and_replaced(clock: Clock, file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (line,) = said(taken(KEY, "rows 8", clock=clock))
    assert_says(line, file, "verdicts ... tried anew")
    assert set(stored(file)["experts"]) == {KEY, "rows 8"}


BAD_VERDICTS: dict[str, Any] = {
    "an unknown outcome": {"outcome": "best"},
    "a note that is none": {
        "outcome": "faster",
        "note": 1,
        "kernel_ms": 1.0,
        "reference_ms": 2.0,
    },
    "a day without a zone": {
        "outcome": "faster",
        "note": None,
        "kernel_ms": 1.0,
        "reference_ms": 2.0,
        "found": "2026-11-29",
    },
    "tries that are none": {
        "outcome": "faster",
        "note": None,
        "kernel_ms": 1.0,
        "reference_ms": 2.0,
        "tries": "many",
    },
    "a variant that is no text": {
        "outcome": "faster",
        "note": None,
        "kernel_ms": 1.0,
        "reference_ms": 2.0,
        "variant": 16,
    },
    "a list": [],
    "nothing": None,
}


@pytest.mark.parametrize("entry", BAD_VERDICTS.values(), ids=BAD_VERDICTS)
def test_a_bad_verdict_costs_only_itself(clock: Clock, file: Path, entry: Any) -> None:
    """Bug: one of them took all others away."""
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    content = json.loads(file.read_text())
    content["machines"][str(this_identity())]["experts"]["odd"] = entry
    content["machines"]["another"] = {"experts": entry}
    file.write_text(json.dumps(content))
    dispatch.forget()
    assert said(taken(KEY, "rows 8", clock=clock)) == []
    found = stored(file)["experts"]
    assert set(found) == {KEY, "rows 8", "odd"}
    assert found["odd"] == entry
    assert json.loads(file.read_text())["machines"]["another"] == {"experts": entry}


@pytest.mark.parametrize("schema", [2, 4])
def test_a_file_of_another_schema_is_replaced_without_a_word(
    clock: Clock, file: Path, schema: int
) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"schema": schema, "machines": {"else": {}}}))
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    assert list(stored(file)) == ["experts"]


def test_a_folder_that_cannot_be_written_is_said_once(
    clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    (line,) = said(taken(KEY, "rows 8", clock=clock))
    assert_says(line, file, "Permission denied ... tried again")
    assert list(file.parent.iterdir()) == []  # no half-written file stays


def test_a_file_in_the_folders_place_is_no_error(clock: Clock, file: Path) -> None:
    file.parent.parent.mkdir(parents=True)
    file.parent.write_text("a file")
    with pytest.warns(KernelWarning):
        assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))


@pytest.mark.parametrize("base", ["", "relative"])
def test_without_a_base_folder_the_home_is_taken(
    base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verdicts.verdicts_file() == tmp_path / ".cache/mlx-diffgemma/kernels.json"


def test_without_a_home_nothing_is_stored(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert verdicts.verdicts_file() is None
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))


def test_verdicts_of_other_machines_stay_and_the_oldest_go(file: Path) -> None:
    verdict = Verdict(Outcome.FASTER, None, 1.0, 2.0)
    for number in range(verdicts.MOST_MACHINES):
        verdicts.write_verdict(file, f"machine {number}", "experts", KEY, verdict)
    verdicts.write_verdict(file, "machine 0", "denoise", KEY, verdict)
    verdicts.write_verdict(file, "new", "experts", KEY, verdict)
    kept = verdicts.read_verdicts(file)
    assert list(kept) == [
        *(f"machine {n}" for n in range(2, verdicts.MOST_MACHINES)),
        "machine 0",
        "new",
    ]
    assert kept["machine 0"] == {"experts": {KEY: verdict}, "denoise": {KEY: verdict}}


@pytest.mark.parametrize("part", ["device", "architecture", "system", "mlx", "package", "kernels"])
def test_a_verdict_counts_only_where_it_was_made(
    clock: Clock, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    other = replace(this_identity(), **{part: "another"})
    monkeypatch.setattr(dispatch, "this_identity", lambda: other)
    dispatch.forget()
    again = FakeTrial(clock)
    assert dispatch.chosen("experts", KEY, lambda: again)
    assert again.calls


def test_processes_that_write_at_once_leave_a_whole_file(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlx_diffgemma.kernels import verdicts as v; "
        "from mlx_diffgemma.kernels.trial import *\n"
        "for n in range(60): v.write_verdict(Path(sys.argv[1]), 'M', sys.argv[2], f'key {n}', "
        "Verdict(Outcome.FASTER, None, 1.0, 2.0))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(file), family], cwd=ROOT)
        for family in ("experts", "denoise")
    ]
    while any(writer.poll() is None for writer in writers):
        verdicts.read_verdicts(file)  # UnreadableError if it were ever half there
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(verdicts.read_verdicts(file)["M"]) >= 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# --- busy machines, and how old a verdict is


class Uneven(FakeTrial):
    """A trial whose kernel takes the given seconds in turn, once it has been compared."""

    def __init__(self, clock: Clock, *kernel_seconds: float, **options: Any) -> None:
        super().__init__(clock, **options)
        self.taken = cycle(kernel_seconds)

    def kernel(self) -> Sequence[mx.array]:
        self.kernel_seconds = next(self.taken) if self.calls else 1.0
        return super().kernel()


def other(clock: Clock, seconds: float, value: float = 2.0) -> Callable[[], Sequence[mx.array]]:
    """Another instantiation of a fake kernel, right for a value of 2."""

    def run() -> Sequence[mx.array]:
        clock.now += seconds
        return [mx.full((2, 2), value)]

    return run


@pytest.mark.parametrize(
    ("kernel", "seconds", "outcome", "variant", "ms"),
    [
        (1.0, 0.8, "faster", "low", 800),
        (3.0, 0.8, "faster", "low", 800),
        (1.0, 0.99, "faster", None, 1000),  # no more than noise
        (1.0, 1.5, "faster", None, 1000),
        (4.0, 3.0, "slower", "low", 3000),
    ],
)
def test_the_fastest_instantiation_runs(
    kernel: float,
    seconds: float,
    outcome: str,
    variant: str | None,
    ms: float,
    clock: Clock,
    file: Path,
) -> None:
    """In this process, and in the next by the stored verdict; a report's key names it."""
    trial = FakeTrial(clock, kernel_seconds=kernel, others={"low": other(clock, seconds)})
    for tried in (lambda: trial, untried):
        dispatch.forget()
        assert dispatch.variant("experts", KEY) is None
        assert dispatch.chosen("experts", KEY, tried) is (outcome == "faster")
        assert dispatch.variant("experts", KEY) == variant
    entry = stored(file)["experts"][KEY]
    assert (entry["outcome"], entry.get("variant")) == (outcome, variant)
    assert entry["kernel_ms"] == pytest.approx(ms)
    (row,) = dispatch.used_verdicts()
    assert row.key == (f"{KEY}, low" if variant else KEY)


def test_a_choice_between_instantiations_may_be_unsteady(clock: Clock) -> None:
    busy = Uneven(clock, 1.0, 1.4, 1.2, 1.6, 1.1, others={"low": other(clock, 0.8)})
    verdict = run_trial(lambda: busy, clock)  # type: ignore[arg-type, return-value]
    assert (verdict.variant, verdict.steady) == ("low", False)


@pytest.mark.parametrize("broken", ["wrong", "raises"])
def test_another_instantiation_that_fails_is_left_out_and_said(
    broken: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising() -> Sequence[mx.array]:
        raise RuntimeError("no such\nfunction")

    class Compared(FakeTrial):
        def disagreement(self, kernel: Any, reference: Any) -> str | None:
            return None if mx.array_equal(kernel[0], reference[0]) else "sum: error 0.5"

    low = raising if broken == "raises" else other(clock, 0.1, 3.0)
    trial = Compared(clock, others={"low": low})
    with pytest.warns(KernelWarning) as caught:
        assert dispatch.chosen("experts", KEY, lambda: trial)
    (warning,) = caught
    why = "no such function" if broken == "raises" else "sum: error 0.5"
    assert_says(str(warning.message), f"experts ... but for low: {why} ... {KEY} ... selftest")
    assert dispatch.variant("experts", KEY) is None


def test_mode_on_takes_the_usual_instantiation(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = FakeTrial(clock, others={"low": other(clock, 0.5)})
    assert dispatch.chosen("experts", KEY, lambda: trial)
    assert dispatch.variant("experts", KEY) == "low"
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    assert dispatch.chosen("experts", KEY, untried)
    assert dispatch.variant("experts", KEY) is None


def samples(*seconds: float) -> timing.Comparison:
    return timing.Comparison(seconds, [2.0] * len(seconds))


def test_disagreement_is_that_of_the_middle_half() -> None:
    assert samples(1.0, 1.0, 1.0, 1.0, 1.0).disagreement == 0
    assert samples(1.0, 1.0, 1.0, 1.0, 50.0).disagreement == 0  # a hiccup
    assert samples(0.8, 1.0, 0.9, 1.2, 1.1).disagreement == pytest.approx(0.2)
    drifting = [1.0, 1.5, 2.0, 4.0, 8.0]
    both = timing.Comparison(drifting, [2 * seconds for seconds in drifting])
    assert both.disagreement == pytest.approx(0)


def test_an_unsteady_verdict_is_tried_again_in_the_next_process(clock: Clock, file: Path) -> None:
    """Bug: what was found on a busy GPU was believed for ever."""
    busy = Uneven(clock, 1.0, 1.4, 3.0, 2.5, 2.2)
    assert not dispatch.chosen("experts", KEY, lambda: busy)
    assert not dispatch.chosen("experts", KEY, untried)  # it counts for this process
    assert stored(file)["experts"][KEY]["outcome"] == "slower"
    dispatch.forget()
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    entry = stored(file)["experts"][KEY]
    assert (entry["outcome"], entry["disagreement"], entry["tries"]) == ("faster", 0, 1)
    dispatch.forget()
    assert dispatch.chosen("experts", KEY, untried)


def test_a_machine_that_is_never_calm_pays_for_three_trials(clock: Clock, file: Path) -> None:
    """Of the three the steadiest counts from then on."""
    tries = [(1.0, 1.2, 1.4, 1.6, 1.8), (1.0, 1.1, 1.2, 1.3, 1.4), (3.0, 4.0, 5.0, 6.0, 7.0)]
    for number, seconds in enumerate(tries, 1):
        dispatch.forget()
        trial = Uneven(clock, *seconds)
        assert dispatch.chosen("experts", KEY, lambda trial=trial: trial)  # type: ignore[misc]
        assert stored(file)["experts"][KEY]["tries"] == number
    assert stored(file)["experts"][KEY]["kernel_ms"] == pytest.approx(1200)
    dispatch.forget()
    assert dispatch.chosen("experts", KEY, untried)
    (row,) = dispatch.used_verdicts()
    assert (row.steady, row.tries) == (False, MOST_TRIES)


def test_a_wrong_result_stands_above_an_unsteady_win(clock: Clock, file: Path) -> None:
    assert dispatch.chosen("experts", KEY, lambda: Uneven(clock, 1.0, 1.2, 1.4, 1.6, 1.8))
    dispatch.forget()
    assert len(said(refused("experts", KEY, FakeTrial(clock, difference="sum")))) == 1
    assert stored(file)["experts"][KEY]["outcome"] == "wrong"


def test_a_lack_of_memory_leaves_an_unsteady_verdict_where_it_is(clock: Clock, file: Path) -> None:
    assert dispatch.chosen("experts", KEY, lambda: Uneven(clock, 1.0, 1.2, 1.4, 1.6, 1.8))
    before = stored(file)
    dispatch.forget()
    error = RuntimeError("[metal::malloc] Attempting to allocate 5 bytes")
    assert len(said(refused("experts", KEY, FakeTrial(clock, error=error)))) == 1
    assert stored(file) == before


def test_a_verdict_says_how_old_it_is(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    dispatch.forget()
    assert dispatch.used_verdicts() == []
    monkeypatch.setattr(dispatch, "now", lambda: TODAY + timedelta(days=9, hours=12))
    assert dispatch.chosen("experts", KEY, untried)
    (row,) = dispatch.used_verdicts()
    assert (row.family, row.key, row.outcome) == ("experts", KEY, "faster")
    assert (row.found, row.age_days) == ("2026-11-29T12:00:00+00:00", 9.5)
    assert dispatch.stored_verdicts() == [row]
    monkeypatch.setattr(dispatch, "now", lambda: TODAY - timedelta(days=9))
    assert [row.age_days for row in dispatch.used_verdicts()] == [0]  # a clock that was set back


def test_a_verdict_with_fields_of_another_version_counts(clock: Clock, file: Path) -> None:
    """With more than are known, and without those that say when it was found."""
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock))
    content = json.loads(file.read_text())
    entry = content["machines"][str(this_identity())]["experts"][KEY]
    for name in ("found", "disagreement", "tries"):
        del entry[name]
    entry["colour"] = "red"
    file.write_text(json.dumps(content))
    dispatch.forget()
    assert dispatch.chosen("experts", KEY, untried)
    (row,) = dispatch.used_verdicts()
    assert (row.found, row.age_days, row.steady) == (None, None, True)


# --- the machine


def test_the_hash_covers_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.metal").write_text("x")
    hashes = {sources_hash(tmp_path)}
    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "a.metal").write_text("y"),
        lambda: (tmp_path / "a.metal").rename(tmp_path / "b.metal"),
        lambda: (tmp_path / "c.h").write_text(""),
        lambda: (tmp_path / "d.py").write_text(""),
    ]
    for change in changes:
        change()
        hashes.add(sources_hash(tmp_path))
    assert len(hashes) == 5
    (tmp_path / "e.pyc").write_text("no source")
    assert sources_hash(tmp_path) in hashes


def test_the_machine_is_named_in_one_line() -> None:
    machine = this_identity()
    for part in vars(machine).values():
        assert part
        assert part in str(machine)
    assert "\n" not in str(machine)


def test_the_package_asks_mlx_what_the_chip_is(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"device_name": "Apple M4 Pro", "architecture": "applegpu_g16s"}
    monkeypatch.setattr(mx, "device_info", lambda: info)
    this_identity.cache_clear()
    machine = this_identity()
    this_identity.cache_clear()
    assert (machine.device, machine.architecture) == tuple(info.values())


# --- what was tuned for a machine


def test_a_preference_for_off_asks_for_no_trial(clock: Clock) -> None:
    trial = FakeTrial(clock)
    assert not dispatch.chosen("experts", KEY, lambda: trial, "off")
    assert trial.calls == 0


def test_a_preference_for_on_takes_kernels_that_lost_in_time_alone(clock: Clock) -> None:
    slow, broken = FakeTrial(clock, kernel_seconds=3.0), FakeTrial(clock, difference="all of it")
    assert dispatch.chosen("experts", KEY, lambda: slow, "on")
    with pytest.warns(KernelWarning, match="all of it"):
        assert not dispatch.chosen("denoise", KEY, lambda: broken, "on")


@pytest.mark.parametrize(
    ("mode", "preference", "runs"), [("off", "on", False), ("on", "off", True)]
)
def test_the_environment_is_above_a_preference(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, mode: str, preference: Any, runs: bool
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, mode)
    assert dispatch.chosen("experts", KEY, lambda: FakeTrial(clock), preference) is runs


# --- told when a trial begins


def test_a_trial_is_told_before_it_runs_and_a_verdict_is_not(clock: Clock) -> None:
    """Once a key; in the next process the verdict on disk is no trial."""
    told = list[int]()
    trial = FakeTrial(clock)
    dispatch.tell_before_trials(lambda: told.append(trial.calls))
    try:
        for _ in range(2):
            dispatch.chosen("experts", KEY, lambda: trial)
        assert told == [0]
        dispatch.forget()
        dispatch.chosen("experts", KEY, untried)
        assert told == [0]
        dispatch.chosen("experts", "another", lambda: trial)
        assert len(told) == 2
    finally:
        dispatch.tell_before_trials(None)
