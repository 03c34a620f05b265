"""`decide`: questions from options and files, answers for people and programs, exit codes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from facts import assert_says
from fakes import CHARACTERS, FakeReader, FakeTexts, fake_model

import mlx_diffgemma as dg
from mlx_diffgemma.cli.decide.text import bar_of, plain, styled, summary
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.reader import LoadedModel
from mlx_diffgemma.decide.request import read_request

ROOT = Path(__file__).parents[2]
Run = Callable[..., Any]
STATE = "Everything is down."
NOUL = ("--noul", "urgent=Reply today?")
MODEL = ("--model", "tiny-chat")
QUESTION = {"type": "noul", "instructions": "Reply today?"}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """The fake model that commands load."""
    made = fake_model()
    session = SimpleNamespace(decider=made, prepared=lambda images, **_: images)
    monkeypatch.setattr("mlx_diffgemma.cli.decide.work.load_session", lambda *_: session)
    return made


@pytest.fixture
def asked(model: LoadedModel) -> Callable[[], Iterator[str]]:
    """The prompts that the model was asked."""

    def texts() -> Iterator[str]:
        for prompt in cast(FakeReader, model.reader).prompts:
            yield cast(FakeTexts, model.texts).text(prompt.ids)

    return texts


@pytest.mark.usefixtures("model")
def test_json_is_the_body_of_the_contract(run: Run) -> None:
    done = run("decide", STATE, *NOUL, *MODEL, "--json", "--samples", "2", "--layout", "own")
    assert done.exit_code == 0
    request = read_request({"state": STATE, "questions": {"urgent": QUESTION}})
    wanted = decide(request, fake_model(), request.options(samples=2, layout="own"))
    assert json.loads(done.stdout) == wanted.to_json()
    assert done.stderr == ""


def test_questions_of_options_say_what_is_asked(run: Run, asked: Any) -> None:
    done = run(
        *("decide", STATE, *MODEL, "--noul", "a=Is x = 1?", "--choice", "b=red, green"),
        *("--choice", "c=Which: of two?:left,right", "--score", "d=How?:low,high"),
        *("--instructions", "Be strict."),
    )
    assert done.exit_code == 0
    (text,) = asked()
    assert "Question 1: Is x = 1?\n  yes\n  no\n" in text
    assert "Question 2: \n  A: red\n  B: green\n" in text
    assert "Question 3: Which: of two?\n  A: left\n  B: right\n" in text
    assert "Question 4: How?\n  0: low\n  1: high\n" in text
    assert "\nBe strict.\n" in text


def test_a_file_has_questions_or_a_whole_request(run: Run, asked: Any, tmp_path: Path) -> None:
    file = tmp_path / "q.json"
    for content, words in (
        ({"urgent": QUESTION}, [STATE]),
        ({"state": STATE, "questions": {"urgent": QUESTION}, "model": "jev-latest"}, []),
        ({"state": {"type": "mail"}, "questions": {"urgent": QUESTION}}, []),
        ({"state": QUESTION}, [STATE]),  # a question of this id
        ({"questions": QUESTION}, [STATE]),
    ):
        file.write_text(json.dumps(content))
        assert run("decide", *words, "-q", file, *MODEL).exit_code == 0
    both = run("decide", STATE, "-q", file, "--noul", "other=Other?", *MODEL)
    assert both.exit_code == 0
    assert [text.count("Question") for text in asked()] == [1, 1, 1, 1, 1, 2]


def test_states_come_from_an_argument_a_file_or_standard_input(
    run: Run, asked: Any, tmp_path: Path
) -> None:
    file = tmp_path / "state.txt"
    file.write_text(f"{STATE}\n")
    for words, stdin in (([STATE], ""), (["--state-file", file], ""), ([], STATE), (["-"], STATE)):
        assert run("decide", *words, *NOUL, *MODEL, input=stdin).exit_code == 0
    assert len(set(asked())) == 1


@pytest.mark.usefixtures("model")
def test_questions_may_come_from_standard_input(run: Run) -> None:
    stdin = json.dumps({"urgent": QUESTION})
    assert run("decide", STATE, "-q", "-", *MODEL, input=stdin).exit_code == 0


def sure(p: float) -> LoadedModel:
    """A model that says yes with this probability."""
    made = fake_model()
    reader = cast(FakeReader, made.reader)
    reader._row = lambda *_: np.log([p, 1 - p])  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize(
    ("p", "options", "code"),
    [
        (0.95, [], 0),
        (0.9, [], 0),
        (0.89, [], 4),
        (0.5, [], 4),
        (0.11, [], 4),
        (0.1, [], 3),
        (0.01, [], 3),
        (0.8, ["--sure", "0.75"], 0),
        (0.2, ["--sure", "0.75"], 3),
    ],
)
def test_a_condition_is_an_exit_code_and_says_nothing(
    p: float, options: list[str], code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SimpleNamespace(decider=sure(p), prepared=lambda images, **_: images)
    monkeypatch.setattr("mlx_diffgemma.cli.decide.work.load_session", lambda *_: session)
    done = run("decide", STATE, *NOUL, *MODEL, "--if", "urgent", *options)
    assert (done.exit_code, done.output) == (code, "")


@pytest.mark.usefixtures("model")
def test_a_condition_with_json_prints_it_too(run: Run) -> None:
    done = run("decide", STATE, *NOUL, *MODEL, "--if", "urgent", "--json")
    assert done.exit_code in (0, 3, 4)
    assert "urgent" in json.loads(done.stdout)["answers"]


@pytest.mark.usefixtures("model")
def test_lines_are_answered_one_by_one_and_a_wrong_one_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "states.jsonl"
    file.write_bytes(b'\xef\xbb\xbfone\n\n{"a": 1}\n{"a": \n[note] two\n\xff\n"quoted"\n')
    done = run("decide", "--lines", file, *NOUL, *MODEL)
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["x_line"] for line in lines] == [1, 3, 5, 7]
    errors = done.stderr.splitlines()
    assert_says(errors[0], "error: line 4: state: no JSON")
    assert_says(errors[1], "error: line 6: state: not UTF-8")
    assert_says(errors[2], "2 lines of 6")


def test_a_line_of_json_is_a_state_of_json(run: Run, asked: Any) -> None:
    assert run("decide", "--lines", "-", *NOUL, *MODEL, input='{"é": 1}\n"é"\n').exit_code == 0
    users = [text.split("<|turn>user\n")[1].split("<turn|>")[0] for text in asked()]
    assert users == ['{"é": 1}', "é"]


def test_ctrl_c_keeps_the_lines_that_are_finished(
    run: Run, model: LoadedModel, tmp_path: Path
) -> None:
    file = tmp_path / "states.txt"
    file.write_text("one\ntwo\nthree\n")
    reader = cast(FakeReader, model.reader)
    usual = reader.read

    def read(*given: Any) -> Any:
        if len(reader.prompts) == 2:
            raise KeyboardInterrupt
        return usual(*given)

    reader.read = read  # type: ignore[method-assign]
    done = run("decide", "--lines", file, *NOUL, *MODEL)
    assert done.exit_code == 130
    assert len(done.stdout.splitlines()) == 2
    assert_says(done.stderr.strip(), "interrupted: 2 of 3 lines")


def decision(questions: dict[str, Any], **options: Any) -> tuple[Any, dg.Decision]:
    request = read_request({"state": STATE, "questions": questions})
    return request.questions, decide(request, fake_model(), request.options(**options))


MIXED = {
    "urgent": dg.Noul("Reply?"),
    "team": dg.Choice("Who?", {"outage": None, "billing\x1b[31m": None, "x" * 90: None}),
    "tone": dg.Score("How?", ["calm", {"level": "furious"}]),
    "only": dg.Choice("Which?", {"one": None}),
    "skipped": dg.Noul("?", ask_if={"only": ["one"], "urgent": ["no"]}),
    "other": dg.Noul("?", ask_if={"urgent": ["yes"]}),
}


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_bars_fit_the_terminal(columns: int) -> None:
    questions, made = decision(MIXED, samples=1)
    lines = [line.plain for line in styled(questions, made, columns)]
    bars = [line for line in lines if line.startswith("  ")]
    assert all(len(line) <= max(columns, 20) for line in bars)
    assert any("█" in line for line in bars) == (columns >= 40)
    assert not any("\x1b" in line for line in lines)


def test_every_kind_of_answer_is_said() -> None:
    questions, made = decision(MIXED, samples=1)
    text = "\n".join(plain(questions, made))
    assert "only: one (the only answer)" in text
    assert "not asked, since urgent was" in text
    assert "confidence" in text
    assert "hesitation" in text
    assert "of 0 to 1, likeliest" in text


def test_of_many_options_the_likeliest_are_shown_and_the_others_counted() -> None:
    many = dg.Choice("?", {f"option {i}": None for i in range(40)})
    questions, made = decision({"q": many}, samples=1)
    lines = list(plain(questions, made))
    assert len(lines) == 12
    assert lines[-1].endswith("30 others")
    numbers = [float(line.split()[0]) for line in lines[1:]]
    assert sum(numbers) == pytest.approx(1, abs=1e-4)


def test_a_bar_is_as_long_as_its_probability() -> None:
    assert bar_of(1.0, 8) == "█" * 8
    assert bar_of(0.5, 8) == "████    "
    assert bar_of(1 / 64, 8) == "▏       "
    assert bar_of(0.0, 8) == " " * 8


def test_the_summary_counts_tokens_and_reads() -> None:
    _, made = decision(MIXED, samples=2, think=3)
    assert_says(summary(made), f"{made.usage.input_tokens} prompt tokens", "2 samples")
    assert "thought tokens" in summary(made)


WRONG: list[tuple[list[str], int, str]] = [
    ([STATE], 2, "no question is given"),
    ([STATE, "--noul", "urgent"], 2, "--noul ... 'urgent'"),
    ([STATE, "--noul", "=text"], 2, "--noul"),
    ([STATE, "--noul", "a= "], 2, "--noul"),
    ([STATE, "--choice", "a=x,,y"], 2, "--choice ... empty name"),
    ([STATE, "--choice", "a=x,x"], 2, "--choice ... 'x' twice"),
    ([STATE, "--score", f"a={','.join('abcdefghijk')}"], 2, "--score.a.criteria: ... 11 levels"),
    ([STATE, *NOUL, *NOUL], 2, "'urgent' is given twice"),
    ([STATE, *NOUL, "--samples", "0"], 2, "--samples is 0"),
    ([STATE, *NOUL, "--samples", "many"], 2, "--samples is 'many'"),
    ([STATE, *NOUL, "--steps", "9"], 2, "--steps is 9"),
    ([STATE, *NOUL, "--think", "-1"], 2, "--think is -1"),
    ([STATE, *NOUL, "--orders", "99"], 2, "--orders is 99"),
    ([STATE, *NOUL, "--layout", "apart"], 2, "apart"),
    ([STATE, *NOUL, "--if", "other"], 2, "--if is 'other' ... 'urgent'"),
    ([STATE, "--choice", "a=x,y", "--if", "a"], 2, "--if is 'a', a choice"),
    ([STATE, *NOUL, "--sure", "0.9"], 2, "--sure ... --if"),
    ([STATE, *NOUL, "--if", "urgent", "--sure", "0.5"], 2, "--sure is 0.5"),
    ([STATE, *NOUL, "--lines", "-"], 2, "--lines"),
    (["--lines", "-", *NOUL, "--if", "urgent"], 2, "--if and --lines"),
    (["-", "-q", "-"], 2, "STATE and -q"),
    ([STATE, *NOUL, "--raw", "--calibration", "x"], 2, "--calibration and --raw"),
    ([STATE, *NOUL, "--calibration", "nowhere.json"], 1, "nowhere.json"),
    ([STATE, "-q", "nowhere.json"], 1, "nowhere.json"),
    (["--lines", "nowhere.txt", *NOUL], 1, "nowhere.txt"),
    (["--state-file", "nowhere.txt", *NOUL], 1, "nowhere.txt"),
    (["", *NOUL], 1, "the state is empty"),
    (["It", "is", "down", *NOUL], 2, "STATE ... quotes"),
]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("arguments", "code", "said"), WRONG)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    arguments: list[str], code: int, said: str, run: Run
) -> None:
    done = run("decide", *arguments, *MODEL)
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert_says(line, "error:", said)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"a": {}, "a": {}}', "'a' is there twice"),
        (b'{"a": {"type": "box"}}', 'questions.a.type: is \'box\''),
        (b'{"state": "x", "questions": {}}', "questions: empty"),
        (b'{"state": null, "questions": {"a": {"type": "noul", "instructions": "?"}}}', "state"),
        (b'{"questions": {"a": {"type": "noul", "instructions": "?"}}, "samples": 0}', "samples"),
        (b"\xff", "not UTF-8"),
        (b"[" * 9999, "nested more than 100 deep"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_questions_is_named_with_its_place(
    content: bytes, said: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "q.json"
    file.write_bytes(content)
    done = run("decide", STATE, "-q", file, *MODEL)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert_says(line, "error:", "q.json:", said)


@pytest.mark.parametrize("source", ["option", "file"])
def test_a_question_that_the_model_has_no_labels_for_ends_a_run_of_lines(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path, source: str
) -> None:
    """It is said once, not with every line; of an option the arguments are bad."""
    session = SimpleNamespace(decider=fake_model(CHARACTERS), prepared=lambda images, **_: images)
    monkeypatch.setattr("mlx_diffgemma.cli.decide.work.load_session", lambda *_: session)
    names, file = [f"o{i}" for i in range(60)], tmp_path / "q.json"
    file.write_text(json.dumps({"c": {"type": "choice", "criteria": dict.fromkeys(names)}}))
    asked = ["--choice", f"c={','.join(names)}"] if source == "option" else ["-q", str(file)]
    done = run("decide", "--lines", "-", *asked, *MODEL, input="one\ntwo\n")
    assert done.exit_code == (2 if source == "option" else 1)
    (line,) = done.stderr.splitlines()
    assert_says(line, "error: questions.c.criteria: 60 options ... 52 labels")
    assert done.stdout == ""


@pytest.mark.usefixtures("model")
def test_two_states_are_one_too_many(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "q.json"
    file.write_text(json.dumps({"state": "x", "questions": {"urgent": QUESTION}}))
    for words in ([STATE], ["--lines", "-"], ["--state-file", file]):
        done = run("decide", *words, "-q", file, *MODEL)
        assert done.exit_code == 2
        assert "another" in done.stderr
    done = run("decide", "-q", file, *NOUL, *MODEL)
    assert done.exit_code == 2
    assert "'urgent'" in done.stderr


@pytest.mark.slow
def test_a_real_model_answers_in_every_layout(run: Run) -> None:
    done = run(
        *("decide", "Hi.", *NOUL, "--choice", "b=red,green", *MODEL, "--json"),
        *("--samples", "1", "--layout", "rows"),
    )
    assert done.exit_code == 0, done.stderr
    answers = json.loads(done.stdout)["answers"]
    assert answers.keys() == {"urgent", "b"}
    assert sum(answers["b"]["probabilities"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_an_image_stands_in_front_of_the_state(run: Run, seeing_folder: Path) -> None:
    model = ("--model", seeing_folder, "--json", "--samples", "1", "--layout", "own")
    picture = ROOT / "tests" / "assets" / "data" / "pictures"
    file = sorted(picture.glob("*.png"))[0]
    plain, seen = (
        run("decide", "x", "--score", "a=0,1", *image, *model) for image in ((), ("--image", file))
    )
    assert (plain.exit_code, seen.exit_code) == (0, 0), seen.stderr
    tokens = [json.loads(done.stdout)["usage"]["input_tokens"] for done in (plain, seen)]
    assert tokens[0] < tokens[1]
    blind = run("decide", "x", *NOUL, "--image", file, *MODEL)
    assert blind.exit_code == 1
