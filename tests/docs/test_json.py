"""docs/json.md has every key that is printed or written, with its type, and no other."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapting import write_adapter
from asgi_calls import application
from fake_hub import FakeHub, served, use
from pages import ROOT, table
from scripted import ScriptedEngine, done

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.cli.calibrate.report import Report
from mlx_diffgemma.cli.macs.group import Group
from mlx_diffgemma.cli.selftest.link import to_json
from mlx_diffgemma.cli.serve.text import line_of
from mlx_diffgemma.conversation.reply import ConstraintInfo, ImageInfo, ShareInfo, VideoInfo
from mlx_diffgemma.decide.calibration import Bound
from mlx_diffgemma.decide.labelled import Case
from mlx_diffgemma.kernels import selftest
from mlx_diffgemma.kernels.denoise.checks import checks as denoise_checks
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.profile.report import SCHEMA_VERSION
from mlx_diffgemma.profile.schema import PROFILE, Optional
from mlx_diffgemma.serve.events import Begun, Draft, Text
from mlx_diffgemma.share.link import LinkTest, Sum
from mlx_diffgemma.share.part import CUTS
from mlx_diffgemma.share.predicted import Step
from mlx_diffgemma.share.share import Share
from mlx_diffgemma.text.tools import ToolCall

PAGE = ROOT / "docs" / "json.md"
GENERATE, FILL, INFO = "## `generate --json`", "## `fill --json`", "## `info --json`"
CONVERT, VERIFY = "## `convert --json`", "## `convert --verify FOLDER --json`"
TRACE = {
    "header": "### The header",
    "segment": "### A segment",
    "step": "### A step",
    "token": "### A token",
    "commit": "### A commit",
}
SKIPPED = "### An answer that was not asked for"
PUZZLE = ("--model", "tiny-sudoku", "--seed", "7")
FILE = "docs/examples/puzzle.txt"
Run = Callable[..., str]
Keys = dict[str, str]


def documented(head: str) -> Keys:
    """Key -> type of one section's table; every row has a meaning."""
    rows = table(PAGE, f"{head}\n")
    assert all(len(row) == 4 and row[1] and row[3] for row in rows), head
    return {row[0].strip("`"): row[1] for row in rows}


# --- a value against its table


def is_of(value: Any, kind: str) -> bool:
    """True where a value has the type that a table gives."""
    if kind.endswith(" or null"):
        return value is None or is_of(value, kind.removesuffix(" or null"))
    if kind.startswith("list of "):
        return isinstance(value, list) and all(is_of(v, kind[len("list of ") :]) for v in value)
    if kind == "any":
        return True
    if isinstance(value, bool):
        return kind == "flag"
    types = {"text": str, "whole": int, "number": (int, float), "list": list, "object": dict}
    return isinstance(value, types[kind])


def problems(value: Any, keys: Keys, at: str = "") -> Iterator[str]:
    """What about an object is not as its table says."""
    for name, item in value.items():
        key = f"{at}{name}" if f"{at}{name}" in keys else f"{at}*"
        if key not in keys:
            yield f"{at}{name} is not in the table"
        elif not is_of(item, keys[key]):
            yield f"{key} is {item!r:.40}, said to be {keys[key]}"
        elif isinstance(item, dict) and any(known.startswith(f"{key}.") for known in keys):
            yield from problems(item, keys, f"{key}.")
        elif keys[key] == "list" and any(known.startswith(f"{key}[].") for known in keys):
            for entry in item:
                yield from problems(entry, keys, f"{key}[].")
    for key in keys:
        name = key.removeprefix(at)
        if key.startswith(at) and re.fullmatch(r"\w+", name) and name not in value:
            yield f"{key} is missing"


def check(value: Mapping[str, Any], head: str) -> None:
    assert list(problems(value, documented(head))) == []


# --- what is printed


@pytest.mark.parametrize(
    ("command", "file"), [("generate", "--prompt-file"), ("fill", "--template-file")]
)
def test_an_answer_and_its_trace(run: Run, clone: Path, command: str, file: str) -> None:
    """`fill` has the keys of `generate` and two more, and two more in a trace."""
    keys, of_trace = documented(GENERATE), {"pinned", "holes"}
    if command == "fill":
        of_fill = documented(FILL)
        assert of_fill.keys() - keys.keys() == {"holes", "fields", "fields.*"}
        keys, of_trace = keys | of_fill, set()
    printed = run(command, *PUZZLE, file, FILE, "--json", "--trace", "steps.jsonl")
    assert list(problems(json.loads(printed), keys)) == []
    lines = [json.loads(line) for line in Path("steps.jsonl").read_text().splitlines()]
    assert [lines[0]["type"], lines[-1]["type"]] == ["header", "commit"]
    for line in lines:
        keys = documented(TRACE[line["type"]])
        keys = {key: kind for key, kind in keys.items() if key not in of_trace}
        assert list(problems(line, keys)) == []


def test_an_answer_of_other_modes_and_its_trace(run: Run, clone: Path) -> None:
    given = ("--mode", "auto", "--auto-times", "inf,1", "--seed", "1", "--trace", "tokens.jsonl")
    printed = run("generate", "--model", "tiny-chat", "What is 17 + 25?", *given, "--json")
    assert list(problems(json.loads(printed), documented(GENERATE))) == []
    lines = [json.loads(line) for line in Path("tokens.jsonl").read_text().splitlines()]
    assert {line["type"] for line in lines} == TRACE.keys() - {"step"}
    for line in lines:
        keys = documented(TRACE[line["type"]])
        assert list(problems(line, {k: v for k, v in keys.items() if k != "holes"})) == []


def test_what_one_puzzle_does_not_show() -> None:
    keys = documented(GENERATE)
    assert {key for key in keys if key.startswith("tuned.")} == {
        f"tuned.{field.name}" for field in fields(Choices)
    }
    assert list(problems({"tuned": asdict(Choices())}, only(keys, "tuned"))) == []
    for name, record in (("tool_calls", ToolCall), ("images", ImageInfo), ("videos", VideoInfo)):
        assert {key for key in keys if key.startswith(f"{name}[].")} == {
            f"{name}[].{field.name}" for field in fields(record)
        }


def only(keys: Keys, name: str) -> Keys:
    return {key: kind for key, kind in keys.items() if key.split(".")[0] == name}


def test_info(run: Run) -> None:
    check(json.loads(run("info", "tiny-sudoku", "--json")), INFO)
    check(json.loads(run("info", "tiny-chat", "--macs", "2", "--json")), INFO)


def test_models_in_the_cache(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a Hub on this machine, which has one of the embedded ones."""
    folder = embedded_folder("tiny-sudoku")
    assert folder is not None
    with served(FakeHub(folder)) as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        check(json.loads(run("pull", "owner/model", "--json")), "## `pull --json`")
        check(json.loads(run("list", "--json")), "## `list --json`")
    check(json.loads(run("pull", "tiny-chat", "--json")), "## `pull --json`")


def test_settings(run: Run) -> None:
    for model in ("tiny-chat", "no/where"):
        check(json.loads(run("info", model, "--settings", "--json")), "## `info --settings --json`")


def test_a_conversion_its_check_and_its_manifest(run: Run, clone: Path) -> None:
    converting = ("convert", "tiny-sudoku", "out", "--quantize", "8bit", "--verify", "--json")
    result = json.loads(run(*converting))
    checked, result["verification"] = result["verification"], {}
    check(result, CONVERT)
    check(checked, VERIFY)
    check(json.loads(run("convert", "--verify", "out", "--json")), VERIFY)
    manifest = json.loads(Path("out/conversion.json").read_text())
    check(manifest, "## `conversion.json` in a converted folder")


def test_a_fused_folder(run: Run, clone: Path) -> None:
    base = embedded_folder("tiny-sudoku")
    assert base is not None
    write_adapter(Path("adapter"), base, ["router"])
    fusing = ("fuse", "--model", "tiny-sudoku", "--adapter", "adapter", "out")
    check(json.loads(run(*fusing, "--check", "--json")), "## `fuse --json`")
    manifest = json.loads(Path("out/conversion.json").read_text())
    check(manifest, "## `conversion.json` in a converted folder")


def test_a_dry_run(run: Run) -> None:
    check(
        json.loads(run("convert", "tiny-sudoku", "--dry-run", "--json")),
        "## `convert --dry-run --json`",
    )


def test_an_evaluation_and_its_answers(run: Run, clone: Path) -> None:
    """A line's `expected` may be any value."""
    data = ("--data", "docs/examples/cases.jsonl", "--limit", "1", "--max-tokens", "64")
    evaluation = ("eval", "--model", "tiny-chat", *data, "--out", "answers.jsonl", "--json")
    check(json.loads(run(*evaluation)), "## `eval --json`")
    check(json.loads(Path("answers.jsonl").read_text()), "## A line of `eval --out FILE`")


@pytest.mark.slow
def test_decisions(run: Run) -> None:
    """One of every type, and one that is not asked for; `x_line` is of --lines alone."""
    noul = {"type": "noul", "instructions": "?"}
    questions = {
        "noul": noul,
        "only": {"type": "choice", "criteria": {"here": None}},
        "choice": {"type": "choice", "criteria": {"a": None, "b": None}},
        "score": {"type": "score", "criteria": ["low", {"high": 1}]},
        "where yes": {**noul, "ask_if": {"noul": ["yes"]}},
        "where no": {**noul, "ask_if": {"noul": ["no"]}},
    }
    request = json.dumps({"state": "x", "questions": questions, "other": 1})
    asked = ("--model", "tiny-chat", "--samples", "2", "--verbose")
    value = json.loads(run("decide", *asked, "-q", "-", "--json", input=request))
    keys = documented("## `decide --json`")
    keys = {k: v for k, v in keys.items() if not k.startswith("x_share")}  # of several Macs alone
    assert list(problems(value, {k: v for k, v in keys.items() if k != "x_line"})) == []
    kinds = {"noul": "### A noul's", "choice": "### A choice's", "score": "### A score's"}
    for answer in value["answers"].values():
        head = kinds.get(answer["type"])
        check(answer, f"{head} answer of `decide --json`" if head else SKIPPED)
    assert {each["type"] for each in value["answers"].values()} == {*kinds, "x_skipped"}
    line = json.loads(run("decide", *asked, "--lines", "-", "--noul", "a=?", input="x"))
    assert list(problems(line, keys)) == []


def test_a_calibration() -> None:
    """Of two types, as it is made of cases that no model was asked for."""
    bound = Bound(1, "tiny-chat", None, None, "joint", 4, 1, 0)
    cases = [
        Case(kind, np.log([0.7, 0.2, 0.1][: 3 - (kind == "noul")]), number % 2, str(number))
        for number in range(20)
        for kind in ("noul", "choice", "score")
    ]
    head = "## `calibrate --json`, and the file that it writes"
    check(Report.of(cases, bound, 0.4).to_json(), head)
    assert documented(head).keys() >= Report.of(cases, bound, 1.0).to_json().keys()


def test_a_training_run(run: Run, clone: Path) -> None:
    """A step is printed as it is written."""
    data = ("--data", "docs/examples/lessons.jsonl", "--steps", "1", "--batch", "1")
    step, end = run("finetune", "--model", "tiny-chat", *data, "--json").splitlines()
    check(json.loads(step), "## A step of `finetune --json`")
    check(json.loads(end), "## The end of `finetune --json`")
    assert Path("finetuned/metrics.jsonl").read_text() == f"{step}\n"
    plan = json.loads(run("finetune", "--model", "tiny-chat", "--plan", "--json"))
    check(plan, "## `finetune --plan --json`")


def test_selftest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One family of kernels says what all say."""
    monkeypatch.setattr(selftest.References, "checks", lambda self: denoise_checks(self.denoise))
    check(json.loads(run("selftest", "--json")), "## `selftest --json`")


def test_a_link() -> None:
    step = Step(1.0, 2.0, 1.5)
    sums = (Sum(4, 30.0, 0.1), Sum(16, 2.0, 6.0))
    test = LinkTest(2, True, sums, 3.0, dict.fromkeys(CUTS, step))
    check(to_json(Group(Share(0, 2)), test), "## `selftest --link --json`")


def test_how_macs_shared() -> None:
    value = {"share": asdict(ShareInfo("rows", 2))}
    assert list(problems(value, only(documented(GENERATE), "share"))) == []


def test_a_saved_conversation(run: Run, clone: Path) -> None:
    puzzle = Path(FILE).read_text().replace("\n", "")
    run("chat", *PUZZLE, input=f"{puzzle}\n/save saved.json\n")
    for file in ("saved.json", "docs/examples/conversation.json"):
        check(json.loads(Path(file).read_text()), "## A saved conversation: `/save FILE` in `chat`")


def test_a_server() -> None:
    """What it says of itself, and beside the answers of a script with a draft."""
    draft = Draft("Hello", 0, 1, 48, 3, 0.5, (("Hello", "c0"),))
    form = ConstraintInfo("schema", strain=0.25, settled=1, canvases=1)
    end = done("stop_text", stop=".", constraint=form, holes=("Hello",))
    script = [Begun(7, 12, 0), draft, Text("Hello"), end]
    asked = {"messages": [{"role": "user", "content": "Hi?"}], "stream": True}
    with application(ScriptedEngine(script)) as calls:
        check(calls.get("/health").json, "## `GET /health` of `serve`")
        check(calls.get("/v1/models").json, "## `GET /v1/models` of `serve`")
        stream = calls.post("/v1/chat/completions", {**asked, "diffusion": {"drafts": True}})
        for record in calls.records:
            check(line_of(record), "## A line of `serve --json-log`")
    said: dict[str, Any] = {}
    for line in stream.body.decode().split("\n\n")[:-2]:
        chunk = json.loads(line.removeprefix("data: "))
        said |= {key: value for key, value in chunk.items() if key.startswith("x_")}
    check(said, "## What is of this program alone in replies of `serve`")


def test_a_profile() -> None:
    """Its schema says what is written, and tests of `profile` hold files to it."""
    assert dict(of_schema(PROFILE)) == documented("## `profile --json FILE`")
    assert f"Schema version {SCHEMA_VERSION}." in (ROOT / "docs/json.md").read_text()


def of_schema(kinds: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Key and type, in the table's words, of everything in a schema."""
    for name, kind in kinds.items():
        key, null = f"{at}{name}", ""
        if isinstance(kind, Optional):
            kind, null = kind.kind, " or null"
        if isinstance(kind, str):
            null = " or null" if kind.endswith("?") else null
            yield key, kind.removesuffix("?") + null
        elif isinstance(kind, dict):
            yield key, f"object{null}"
            yield from of_schema(kind, f"{key}.")
        elif isinstance(kind[0], dict):
            yield key, f"list{null}"
            yield from of_schema(kind[0], f"{key}[].")
        else:
            yield key, f"list of {kind[0] if isinstance(kind[0], str) else 'list'}{null}"
