"""`calibrate`: rows read once, a file written, and what is refused before a model is loaded."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from facts import assert_says
from fakes import FakeReader, fake_model

from mlx_diffgemma.decide.calibration import read_calibration
from mlx_diffgemma.decide.reader import LoadedModel

Run = Callable[..., Any]
MODEL = ("--model", "tiny-chat", "--samples", "1")
NOUL = {"type": "noul", "instructions": "Urgent?"}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """The fake model that commands load."""
    made = fake_model()
    session = SimpleNamespace(decider=made, prepared=lambda images, **_: images)
    for room in ("decide", "calibrate"):
        monkeypatch.setattr(f"mlx_diffgemma.cli.{room}.work.load_session", lambda *_: session)
    return made


def rows(count: int) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [
        {
            "state": f"ticket {number}",
            "questions": {
                "urgent": NOUL,
                "team": {"type": "choice", "criteria": dict.fromkeys("abcd"[: 2 + number % 3])},
            },
            "gold": {"urgent": rng.random() < 0.5, "team": rng.choice("ab")},
        }
        for number in range(count)
    ]


def written(file: Path, values: list[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    return file


def test_a_calibration_is_written_told_and_used(
    run: Run, model: LoadedModel, tmp_path: Path
) -> None:
    data, out = written(tmp_path / "known.jsonl", rows(60)), tmp_path / "calibration.json"
    done = run("calibrate", data, "-o", out, *MODEL)
    assert done.exit_code == 0, done.output
    made = read_calibration(out)
    assert made.bound.model == "fake-1"
    assert made.rows == {"noul": 60, "choice": 60}
    assert made.temperatures.score is None
    assert made.ece["all"]["after"] < made.ece["all"]["before"]
    assert_says(done.stderr.splitlines()[0], "warning: 60 noul answers ... 200")
    for word in ("noul", "choice", "all", "out of fold", "claimed", str(out)):
        assert word in done.stdout
    question = ("--noul", "urgent=Urgent?", "--json", "--calibration", out)
    told = run("decide", "It is down.", *question, *MODEL)
    assert json.loads(told.stdout)["x_calibration"] == {
        "applied": True,
        "types": ["noul", "choice"],
    }
    other = run("decide", "It is down.", *question, *MODEL, "--layout", "own")
    assert other.exit_code == 1
    assert_says(other.stderr.strip(), "error:", "layout is 'joint', and this decision's is 'own'")
    assert cast(FakeReader, model.reader).prompts


def test_what_was_read_is_not_read_again(run: Run, model: LoadedModel, tmp_path: Path) -> None:
    data, out = written(tmp_path / "known.jsonl", rows(60)), tmp_path / "calibration.json"
    reader = cast(FakeReader, model.reader)
    usual = reader.read

    def read(*given: Any) -> Any:
        if len(reader.prompts) == 20:
            raise KeyboardInterrupt
        return usual(*given)

    reader.read = read  # type: ignore[method-assign]
    stopped = run("calibrate", data, "-o", out, *MODEL)
    assert stopped.exit_code == 130
    assert not out.exists()
    assert "goes on" in stopped.stderr
    reader.read = usual  # type: ignore[method-assign]
    assert run("calibrate", data, "-o", out, *MODEL).exit_code == 0
    assert len(reader.prompts) == 60
    first = out.read_bytes()
    changed = rows(60)
    changed[3]["state"] = "another ticket"
    written(data, changed)
    assert run("calibrate", data, "-o", out, *MODEL).exit_code == 0
    assert len(reader.prompts) == 61
    assert out.read_bytes() != first
    assert run("calibrate", data, "-o", out, *MODEL, "--steps", "2").exit_code == 0
    assert len(reader.prompts) == 121


@pytest.mark.usefixtures("model")
def test_json_has_the_file_and_the_table(run: Run, tmp_path: Path) -> None:
    data, out = written(tmp_path / "known.jsonl", rows(60)), tmp_path / "calibration.json"
    done = run("calibrate", data, "-o", out, *MODEL, "--json", "--target", "0.4")
    value = json.loads(done.stdout)
    assert value.items() >= json.loads(out.read_text()).items()
    assert value["target"] == 0.4
    assert value["gate"].keys() == {"confidence", "accuracy", "share"}
    assert sum(each["count"] for each in value["bins"]) == 120
    assert value["folds"] == 5


def edited(**fields: Any) -> list[dict[str, Any]]:
    return [*rows(59), {**rows(1)[0], **fields}]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("values", "options", "code", "said"),
    [
        (rows(49), [], 1, "49 noul answers ... 50"),
        (rows(60), ["--samples", "0"], 2, "--samples is 0"),
        (rows(60), ["--target", "0"], 2, "--target is 0"),
        (edited(gold={"urgent": "maybe"}), [], 1, "line 60: gold.urgent: is 'maybe'"),
        (edited(gold={"other": True}), [], 1, "line 60: gold.other"),
        (edited(questions={"q": {"type": "box"}}), [], 1, "line 60: questions.q.type"),
        (edited(samples=3), [], 1, "line 60: samples: a setting"),
        (
            edited(questions={"urgent": NOUL, "b": {**NOUL, "depends_on": ["urgent"]}},
                   gold={"b": True}),
            [], 1, "line 60: questions.b: depends",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_read(
    values: Any, options: list[str], code: int, said: str, run: Run, tmp_path: Path
) -> None:
    data, out = written(tmp_path / "known.jsonl", values), tmp_path / "calibration.json"
    done = run("calibrate", data, "-o", out, *MODEL, *options)
    assert done.exit_code == code, done.output
    assert_says(done.stderr.strip(), "error:", said)
    assert not out.exists()


@pytest.mark.usefixtures("model")
def test_files_of_others_stay(run: Run, tmp_path: Path) -> None:
    data, out = written(tmp_path / "known.jsonl", rows(60)), tmp_path / "calibration.json"
    for file in (out, out.with_name("calibration.json.reads")):
        file.write_text("mine")
        done = run("calibrate", data, "-o", out, *MODEL)
        assert done.exit_code == 1
        assert_says(done.stderr.strip(), f"error: {file} exists")
        assert file.read_text() == "mine"
        file.unlink()
    assert run("calibrate", data, "-o", data, *MODEL).exit_code == 2
    assert run("calibrate", data, *MODEL).exit_code == 2
    assert run("calibrate", data, "-o", "-", *MODEL).exit_code == 2
    assert run("calibrate", tmp_path / "nowhere", "-o", out, *MODEL).exit_code == 1
