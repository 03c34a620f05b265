"""`profile` and `profile compare`: what they print, write and refuse."""

import json
import os
import re
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import assert_one_line
from test_interrupt import stopped
from waiting import SECONDS

from mlx_diffgemma.cli.terminal import output
from mlx_diffgemma.profile import encoder_head, statistics
from mlx_diffgemma.profile.schema import problems

FAST = ("--steps", 2, "--context", 130)

# Runs the command line; the measurement of one answer has no end.
SLOW = """
import sys, time
from mlx_diffgemma.profile.measure import Meter
count, last, fast = 0, int(sys.argv[1]), Meter.answer

def slow(*arguments, **options):
    global count
    count += 1
    if count == last:
        print("SLOW", file=sys.stderr, flush=True)
        while True:  # a signal right before a sleep is seen when the sleep is over
            time.sleep(0.01)
    return fast(*arguments, **options)

Meter.answer = slow
sys.argv = ["mlx-diffgemma", *sys.argv[2:]]
from mlx_diffgemma.cli.app import main
main()
"""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from a twentieth of the draws: here they are printed, not judged."""
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


@pytest.fixture
def profile(run: Any, random_folder: Path) -> Any:
    """Runs a short measurement of the random model."""
    return lambda *arguments: run("profile", "--model", random_folder, *FAST, *arguments)


def written(file: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(file.read_text())
    assert list(problems(value)) == []
    return value


def test_a_measurement_is_printed_and_written(profile: Any, tmp_path: Path) -> None:
    file, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    done = profile("--components", "--json", file, "--trace", trace)
    assert (done.exit_code, done.stderr) == (0, "")
    value = written(file)
    for part in ("2 steps a canvas", "tokens a step", "a step by part", "self-conditioning"):
        assert part in done.stdout
    assert f"{value['step_ms']['p50']:.4g} ms" in done.stdout
    assert "warning: computed on the CPU" in done.stdout
    assert "none: this chip is not in the table" in done.stdout
    assert str(tmp_path) not in json.dumps(value)
    assert json.loads(trace.read_text())["traceEvents"]
    assert sorted(os.listdir(tmp_path)) == ["profile.json", "trace.json"]
    assert stat.S_IMODE(file.stat().st_mode) & 0o400


def test_adaptive(run: Any, random_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    counts = ("--prompts", 5, "--seeds", 1, "--max-tokens", 16)
    done = run("profile", "--model", random_folder, "--steps", "adaptive", *counts, "--json", file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "adaptive: 5 answers, 10 canvases of 8" in done.stdout
    assert "10 x 3; 100% at the cap" in done.stdout
    assert written(file)["commit_ms"] > 0


@pytest.mark.slow
def test_tiny_sudoku_counts_as_generate_does(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    options = ("--steps", "adaptive", "--prompts", 5, "--seeds", 1, "--seed", 4)
    assert run("profile", "--model", "tiny-sudoku", *options, "--json", file).exit_code == 0
    for answer in written(file)["answers"][:2]:
        generate = ("generate", answer["prompt"], "--model", "tiny-sudoku", "--seed", 4, "--json")
        reply = json.loads(run(*generate).stdout)
        assert answer["tokens_per_step"] == reply["tokens_per_step"]
        assert [canvas["steps"] for canvas in answer["canvases"]] == reply["steps"]
        assert answer["token_ids"] == reply["token_ids"]


@pytest.mark.slow
def test_the_encoder_as_a_next_token_model(profile: Any, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    done = profile("--encoder-head", "--json", file)
    assert (done.exit_code, done.stderr) == (0, "")
    found = written(file)["encoder_head"]
    assert f"perplexity of answers   {found['answer_perplexity']:.4g} (" in done.stdout
    assert "agrees with canvases" in done.stdout


@pytest.mark.slow
def test_decisions_are_timed_behind_the_prompt(profile: Any, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    done = profile("--decide", "--json", file)
    assert (done.exit_code, done.stderr) == (0, "")
    found = written(file)["decide"]
    assert found["state_tokens"] == written(file)["answers"][0]["prompt_tokens"]
    assert f"a state of {found['state_tokens']} tokens" in done.stdout
    assert f"{found['questions_per_second']:.3g} a second" in done.stdout
    compared = run("profile", "compare", file, file)
    assert "a read [ms]" in compared.stdout


@pytest.mark.slow
def test_pauses_are_measured_beside_the_same_steps(profile: Any, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    done = profile("--gentle", "--json", file)
    assert (done.exit_code, done.stderr) == (0, "")
    found = written(file)["gentle"]
    assert found["answers"] == len(written(file)["answers"])
    assert 0 < found["free_share"] <= 0.25  # of small models the host does much outside of pieces
    assert f"{found['ratio']:.3g} times as long" in done.stdout


def test_no_diffusion_model_is_a_baseline(profile: Any, tmp_path: Path) -> None:
    facts = "--baseline tiny-sudoku ... DiffusionGemma ... expected an autoregressive"
    assert_one_line(profile("--baseline", "tiny-sudoku"), 1, facts)
    assert_one_line(profile("--baseline", tmp_path), 1, "config.json: not found")
    assert_one_line(profile("--baseline", tmp_path / "none"), 1, "no such folder")


# --- what is refused, before a model is loaded where that can be

REFUSED = [
    (("--steps", 0), 2, "--steps is 0"),
    (("--steps", "many"), 2, "--steps is 'many'"),
    (("--canvases", 3), 2, "--canvases is 3 ... at least 5"),
    (("--canvases", 9, "--steps", "adaptive"), 2, "--canvases goes with ... --steps"),
    (("--prompts", 9), 2, "--prompts goes with --steps adaptive"),
    (("--seeds", 9), 2, "--seeds goes with --steps adaptive"),
    (("--max-tokens", 9), 2, "--max-tokens goes with --steps adaptive"),
    (("--sustained", "soon"), 2, "--sustained is 'soon' ... a time"),
    (("--sustained", "-5m"), 2, "--sustained is '-5m'"),
    (("--sustained", "nans"), 2, "--sustained is 'nans'"),
    (("--context", 9999), 2, "--context is 9,999 ... at most 2,040"),
    (("--context", 3), 2, "--context is 3 ... at least"),
    (("--seed", 2**64), 2, "--seed is 18446744073709551616 ... whole number"),
    (("--json", "no/such/folder/x"), 1, "cannot be written ... no/such/folder/x ... No such file"),
    (("--trace", "/"), 1, "trace cannot be written ... Is a directory"),
    (("--json", "x", "--trace", "./x"), 2, "--json and --trace ... x"),
]


@pytest.mark.parametrize(("arguments", "code", "facts"), REFUSED)
def test_bad_input_is_one_line(
    profile: Any, arguments: tuple[object, ...], code: int, facts: str
) -> None:
    assert_one_line(profile(*arguments), code, facts)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_one_line(profile: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0o400)
    assert_one_line(profile("--json", file), 1, "Permission denied")


def test_a_model_that_is_none_is_one_line(run: Any, tmp_path: Path) -> None:
    done = run("profile", "--model", tmp_path / "nothing", "--json", tmp_path / "file")
    assert_one_line(done, 1, "nothing")
    assert os.listdir(tmp_path) == []


# --- files and interrupts


@pytest.mark.slow
def test_a_file_is_replaced_whole_or_left(profile: Any, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    link.symlink_to(file)
    assert_one_line(profile("--json", link), 1, link, "profile", "--overwrite")
    assert profile("--context", 9999, "--json", link, "--overwrite").exit_code == 2
    assert (file.read_text(), sorted(os.listdir(tmp_path))) == ("before", ["file", "link"])
    assert profile("--json", link, "--overwrite").exit_code == 0
    assert link.is_symlink()
    assert written(file)
    assert_one_line(profile("--trace", link), 1, link, "Chrome trace", "--overwrite")
    assert profile("--json", link, "--trace", tmp_path / "trace").exit_code == 0
    assert profile("--json", link, "--trace", tmp_path / "trace").exit_code == 0


@pytest.mark.parametrize(("option", "key"), [("--json", "answers"), ("--trace", "traceEvents")])
def test_a_file_on_standard_output_stands_there_alone(profile: Any, option: str, key: str) -> None:
    done = profile(option, "-")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)[key]


def test_a_device_is_written_into(profile: Any) -> None:
    assert profile("--json", "/dev/null").exit_code == 0


def test_files_are_written_though_nobody_reads_what_is_printed(
    profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`profile --json FILE | head` lost the measurement."""

    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(output, "write_out", gone)
    file, trace = tmp_path / "file", tmp_path / "trace"
    assert profile("--json", file, "--trace", trace).exit_code == 141
    assert written(file)
    assert json.loads(trace.read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_an_interrupt_prints_and_writes_what_is_finished(
    random_folder: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """An hour's measurement was lost."""
    file, trace = tmp_path / "file", tmp_path / "trace"
    command = ("profile", "--model", random_folder, *FAST, "--json", file, "--trace", trace)
    got, out, err = stopped(SLOW, 5, *command, sent=sent)  # two to warm up, two measured
    assert (got, err) == (code, ["interrupted: 2 of 5 answers measured."])
    assert "2 answers, 2 canvases" in out
    assert "warning: not finished: 2 of 5 answers measured" in out
    value = written(file)
    assert (value["complete"], len(value["answers"])) == (False, 2)
    assert json.loads(trace.read_text())["traceEvents"]


def test_an_interrupt_before_the_first_answer_writes_nothing(
    random_folder: Path, tmp_path: Path
) -> None:
    command = ("profile", "--model", random_folder, *FAST, "--json", tmp_path / "file")
    code, out, err = stopped(SLOW, 2, *command)
    assert (code, out, err) == (130, "", ["interrupted: 0 of 5 answers measured."])
    assert os.listdir(tmp_path) == []


def test_an_interrupted_sustained_run_counts_seconds(random_folder: Path, tmp_path: Path) -> None:
    """It said "67 of 5 answers measured"."""
    command = ("profile", "--model", random_folder, *FAST, "--json", tmp_path / "file")
    code, out, err = stopped(SLOW, 10, *command, "--sustained", "50s")  # seven measured
    assert code == 130
    assert_says(err[-1], "interrupted: 7 answers in ... of 50 s")
    assert re.search(r"sustained for \d+ s\b", out)
    assert written(tmp_path / "file")["sustained"]["seconds"] == 50


def test_an_error_prints_what_is_finished(
    profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory")

    monkeypatch.setattr(encoder_head, "measure_encoder_head", fail)
    file = tmp_path / "file"
    done = profile("--encoder-head", "--json", file)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: out of memory")
    assert done.stderr.count("\n") == 1
    assert "5 answers, 5 canvases" in done.stdout
    value = written(file)
    assert (value["complete"], value["encoder_head"]) == (False, None)


def test_a_file_that_cannot_be_finished_does_not_keep_the_other(
    profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail(part: Path, target: Path) -> None:
        if target.name == "file":
            raise OSError(2, "No such file or directory")
        replace(part, target)

    monkeypatch.setattr(os, "replace", fail)
    done = profile("--json", tmp_path / "file", "--trace", tmp_path / "trace")
    assert done.exit_code == 1
    assert_says(done.stderr[:-1], "error: the profile cannot be written", tmp_path / "file")
    assert os.listdir(tmp_path) == ["trace"]


# --- compare


MEASURED: list[bytes] = []


@pytest.fixture
def measured(profile: Any, tmp_path: Path) -> Path:
    """A file of a measurement, which is made once."""
    file = tmp_path / "a.json"
    if not MEASURED:
        assert profile("--json", file).exit_code == 0
        MEASURED.append(file.read_bytes())
    file.write_bytes(MEASURED[0])
    return file


def changed(file: Path, change: Any) -> Path:
    value = json.loads(file.read_text())
    change(value)
    other = file.with_name("b.json")
    other.write_text(json.dumps(value))
    return other


def slowed(factor: float) -> Any:
    def change(value: dict[str, Any]) -> None:
        for answer in value["answers"]:
            for canvas in answer["canvases"]:
                canvas["step_ms"] = [factor * ms for ms in canvas["step_ms"]]

    return change


def evened(value: dict[str, Any]) -> None:
    """Steps of 100 to 103 ms, as on a quiet machine."""
    for number, answer in enumerate(value["answers"]):
        for canvas in answer["canvases"]:
            canvas["step_ms"] = [100.0 + (number + k) % 4 for k in range(canvas["steps"])]


def test_a_run_with_itself_does_not_differ(run: Any, measured: Path) -> None:
    done = run("profile", "compare", measured, measured)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert_says(lines[0], "no difference ... step ... +0.0%")
    assert all(line.endswith("no difference") for line in lines[3:])
    assert [line.split("  ")[0].split(" [")[0] for line in lines[3:]] == [
        "step",
        "token",
        "commit",
        "prefill",
        "first canvas",
        "tokens a step",
        "tokens/s",
    ]


def test_a_slower_run_is_slower(run: Any, measured: Path) -> None:
    even = changed(measured, evened).replace(measured)
    slower = changed(even, slowed(1.2))
    first = run("profile", "compare", even, slower).stdout.splitlines()[0]
    assert first.startswith("B is slower: a step changes by +20")
    low, high = first.partition("(")[2].rstrip(")").split(" to ")
    assert 0 < float(low.rstrip("%")) <= float(high.rstrip("%"))
    assert run("profile", "compare", slower, even).stdout.startswith("B is faster: a step chang")


OTHERS = [
    (("sampler", "entropy_bound"), 0.2, "sampler.entropy_bound ... 0.1 and 0.2"),
    (("sampler", "max_denoising_steps"), 9, "sampler.max_denoising_steps ... 2 and 9"),
    (("sampler", "stop"), ["x"], 'sampler.stop ... [] and ["x"]'),
    (("model", "quantization"), {"experts": ["4-bit"]}, "model.quantization"),
    (("model", "layers"), 7, "model.layers ... 2 and 7"),
    (("workload", "context"), 999, "workload.context ... 130 and 999"),
    (("workload", "prompt_tokens"), 999, "workload.prompt_tokens ... 130 and 999"),
    (("workload", "prompts"), ["other"], "workload.prompts"),
]


@pytest.mark.parametrize(("place", "value", "facts"), OTHERS)
def test_other_work_is_not_compared(
    run: Any, measured: Path, place: tuple[str, str], value: object, facts: str
) -> None:
    other = changed(measured, lambda profile: profile[place[0]].update({place[1]: value}))
    done = run("profile", "compare", measured, other)
    assert_one_line(done, 1, measured, "and", other, "differ in", facts)
    for option in ("--entropy-bound", "--steps", "--stop"):  # nobody gave one
        assert option not in done.stderr
    assert run("profile", "compare", measured, other, "--anyway").exit_code == 0


def test_a_context_is_the_same_whether_asked_for_or_not(run: Any, measured: Path) -> None:
    """`profile` and `profile --context 1024` are the same work."""
    other = changed(measured, lambda profile: profile["workload"].update(context=None))
    assert run("profile", "compare", measured, other).exit_code == 0
    assert run("profile", "compare", other, measured).exit_code == 0


def test_an_unfinished_run_is_compared_and_named(run: Any, measured: Path) -> None:
    other = changed(measured, lambda profile: profile.update(complete=False))
    done = run("profile", "compare", measured, other)
    assert done.exit_code == 0
    assert_says(done.stdout.splitlines()[-1], "warning: B ... not finished ... 5")
    assert "warning" not in run("profile", "compare", measured, measured).stdout


def test_a_profile_from_before_a_key_is_a_profile(run: Any, measured: Path) -> None:
    """All of them at once: it was not known if a run was finished, nor was there mode ar."""

    def older(profile: dict[str, Any]) -> None:
        del profile["complete"], profile["ar"], profile["sampler"]["ar"], profile["model"]["modes"]

    other = changed(measured, older)
    for pair in ((other, measured), (measured, other)):
        done = run("profile", "compare", *pair)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "warning" not in done.stdout
        assert "token [ms]" not in done.stdout


def test_a_key_in_an_error_is_no_option(run: Any, measured: Path) -> None:
    def odd(profile: dict[str, Any]) -> None:
        profile["sampler"] = "max_tokens"

    done = run("profile", "compare", measured, changed(measured, odd))
    assert_one_line(done, 1, "sampler is 'max_tokens'")


def test_one_sample_has_no_interval(run: Any, measured: Path) -> None:
    def once(profile: dict[str, Any]) -> None:
        for answer in profile["answers"][1:]:
            answer["canvases"][0]["commit_ms"] = None

    other = changed(measured, once)
    line = run("profile", "compare", measured, other).stdout.splitlines()[5]
    assert line.startswith("commit [ms]")
    assert line.endswith("%, one sample: no interval")


def emptied(profile: dict[str, Any]) -> None:
    profile["answers"] = []


def no_steps(profile: dict[str, Any]) -> None:
    profile["answers"][1]["canvases"][0]["step_ms"] = []


def no_end(profile: dict[str, Any]) -> None:
    """Bug: math's own errors, behind the reader."""
    profile["answers"][0]["seconds"] = 1e308


def no_time(profile: dict[str, Any]) -> None:
    profile["answers"][2]["prefill_seconds"] = 0


def no_token(profile: dict[str, Any]) -> None:
    profile["ar"]["answers_token_ms"][1] = [0.0]


def no_canvas(profile: dict[str, Any]) -> None:
    profile["answers"][3]["canvases"] = []


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (emptied, "answers is empty ... measure again"),
        (no_steps, "answers[1].canvases[0].step_ms is empty"),
        (no_time, "answers[2].prefill_seconds is 0 ... 1e-09 to 1e+12"),
        (no_token, "ar.answers_token_ms[1] is empty, or not all"),
        (no_canvas, "answers[3].canvases is empty"),
        (no_end, "answers[0].seconds is 1e+308 ... 1e-09 to 1e+12"),
    ],
)
def test_files_without_samples_are_one_line(
    run: Any, measured: Path, change: Any, facts: str
) -> None:
    done = run("profile", "compare", measured, changed(measured, change))
    assert_one_line(done, 1, "no whole profile", facts)


def test_files_that_are_no_profiles(run: Any, measured: Path) -> None:
    other = measured.with_name("other")
    for content, facts in (
        ("", "is not JSON"),
        ("[]", "no profile ... schema_version"),
        ('{"traceEvents": []}', "no profile ... schema_version"),
        ('{"schema_version": 2}', "schema version 2 ... 1"),
        ('{"schema_version": 1}', "no whole profile"),
        ("\udc80", "is not JSON"),
    ):
        other.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert_one_line(run("profile", "compare", measured, other), 1, facts)
    assert_one_line(run("profile", "compare", measured, "no-file"), 1, "no-file: No such file")
    assert_one_line(run("profile", "compare", measured), 2, "Missing argument")


def test_options_of_a_measurement_mean_nothing_to_compare(run: Any, measured: Path) -> None:
    done = run("profile", "--json", "x", "compare", measured, measured)
    assert_one_line(done, 2, "--json before compare means nothing")


# --- several Macs


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--sustained", "9s"), "--sustained"),
        (("--decide",), "--decide"),
        (("--gentle",), "--gentle"),
        (("--baseline", "x"), "--baseline"),
    ],
)
def test_what_is_measured_of_one_mac_alone(run: Any, given: tuple[str, ...], named: str) -> None:
    done = run("profile", "--model", "tiny-sudoku", "--share", "rows", *given)
    assert_one_line(done, 2, f"{named} ... one Mac ... leave one out")


def test_a_shared_measurement_without_a_group(run: Any) -> None:
    done = run("profile", "--model", "tiny-sudoku", "--share", "rows")
    assert_one_line(done, 2, "--share rows ... one process")


@pytest.mark.slow
def test_two_share_a_measurement(spawn: Any, random_folder: Path, tmp_path: Path) -> None:
    hosts, file = tmp_path / "hosts.json", tmp_path / "profile.json"
    hosts.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2))
    given = ("--share", "rows", "--macs", hosts, "--json", file)
    done = spawn("profile", "--model", random_folder, *FAST, *given, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    link = written(file)["link"]
    assert link["share"] == "rows"
    assert len(link["ranks"]) == 2
    first, second = link["ranks"]
    assert first["mac"] == "rank 0 (127.0.0.1)"
    assert [each["name"] for each in first["messages"]] == [m["name"] for m in second["messages"]]
    for rank in link["ranks"]:
        assert rank["layer_wait_ms"] > 0
        assert rank["layer_transfer_ms"] > 0
    said = done.stdout.decode()
    assert "the link by rows" in said
    assert "none: several Macs share it" in said
