"""Cases from JSON lines: what is asked, what is expected, and what is no case."""

import json
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says, raises

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.errors import DataError
from mlx_diffgemma.finetune.evaluation.cases import Case, read_cases
from mlx_diffgemma.text.answer import Answer
from mlx_diffgemma.text.tools import ToolCall

USER = {"role": "user", "content": "2 + 2?"}
CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
ADD = ToolCall("add", {"b": 2, "a": 2})


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    folder = embedded_folder("tiny-chat")
    assert folder is not None
    return read_config(folder)


def written(folder: Path, *lines: Any) -> Path:
    file = folder / "test.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return file


def one(folder: Path, config: ModelConfig, line: Any, metric: str = "exact") -> Case:
    (case,) = read_cases(written(folder, line), config, metric=metric)
    return case


def said(text: str, *calls: ToolCall, whole: str = "") -> tuple[Answer, str]:
    return Answer(text, None, calls), whole or text


@pytest.mark.parametrize(
    "line",
    [
        {"messages": [USER, {"role": "assistant", "content": "4."}]},
        {"messages": [USER], "expected": "4."},
        {"messages": [USER, {"role": "assistant", "content": "Five."}], "expected": "4."},
        {"prompt": "2 + 2?", "completion": "4."},
        {"prompt": "2 + 2?", "expected": "4."},
        {"prompt": "as rendered", "messages": [USER], "expected": "4.", "check": "equal"},
    ],
)
def test_forms(line: Any, config: ModelConfig, tmp_path: Path) -> None:
    case = one(tmp_path, config, line)
    assert list(case.questions) == [USER]
    assert case.accepts(*said("4."))
    assert not case.accepts(*said("5."))
    assert not case.accepts(*said("4.", ADD))
    assert (case.skill, case.think, case.metric, case.line.number) == (None, None, "exact", 1)


def test_a_line_may_have_skill_thought_and_metric(config: ModelConfig, tmp_path: Path) -> None:
    line = {"messages": [USER], "expected": r"\d", "metric": "regex", "skill": "sums"}
    case = one(tmp_path, config, line | {"think": True})
    assert (case.skill, case.think, case.metric) == ("sums", True, "regex")
    assert case.accepts(*said("4"))


def test_a_thought_of_the_answer_asks_for_one_and_is_not_compared(
    config: ModelConfig, tmp_path: Path
) -> None:
    answer = {"role": "assistant", "content": "4.", "thinking": "2 + 2 is 4"}
    case = one(tmp_path, config, {"messages": [USER, answer]})
    assert case.think is True
    assert case.accepts(*said("4."))


def test_markers_are_compared_where_they_are_expected(config: ModelConfig, tmp_path: Path) -> None:
    whole = "<|channel>thought\nx<channel|>4."
    case = one(tmp_path, config, {"messages": [USER], "expected": whole})
    assert case.accepts(*said("4.", whole=whole))
    assert not case.accepts(*said("4."))


def test_calls_are_compared_as_values(config: ModelConfig, tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    case = one(tmp_path, config, {"messages": [USER, answer]})
    assert case.accepts(*said("", ADD))
    assert not case.accepts(*said("", ToolCall("add", {"a": 2, "b": 3})))
    assert not case.accepts(*said("", ADD, ADD))
    assert not case.accepts(*said("4."))


def test_the_first_cases_alone_and_a_folder(config: ModelConfig, tmp_path: Path) -> None:
    line = {"prompt": "2 + 2?", "completion": "4."}
    written(tmp_path, line, "", line, "broken")
    assert [c.line.number for c in read_cases(tmp_path, config, limit=2)] == [1, 3]


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("{", "line 2"),
        ("[1]", "line 2 ... [1]"),
        ({"messages": [USER]}, "line 2 ... user ... assistant"),
        ({"messages": [{"role": "robot", "content": "x"}], "expected": "4."}, "line 2 ... robot"),
        ({"messages": [], "expected": "4."}, "line 2 ... []"),
        ({"messages": 4, "expected": "4."}, "line 2 ... 4"),
        ({"prompt": "x"}, "line 2 ... completion"),
        ({"text": "x"}, "line 2 ... text"),
        ({"prompt": "x", "expected": "(", "metric": "regex"}, "line 2 ... '(' ... pattern"),
        ({"prompt": "x", "expected": "{", "metric": "json"}, "line 2 ... JSON"),
        ({"prompt": "x", "expected": 4}, "line 2 ... 4 ... text"),
        ({"prompt": "x", "expected": "4", "metric": "near"}, "line 2 ... 'near' ... exact"),
        ({"prompt": "x", "expected": "4", "metric": ["exact"]}, "line 2 ... metric"),
        ({"prompt": "x", "expected": "4", "skill": 1}, "line 2 ... skill"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "path": "a.png"}]}],
          "expected": "4"}, "line 2 ... images"),
    ],
)  # fmt: skip
def test_no_case(line: Any, facts: str, config: ModelConfig, tmp_path: Path) -> None:
    file = written(tmp_path, {"prompt": "2 + 2?", "completion": "4."}, line)
    with pytest.raises(Exception, match="line 2") as caught:
        read_cases(file, config)
    assert_says(caught.value, facts)


def test_an_empty_file_and_none(config: ModelConfig, tmp_path: Path) -> None:
    with raises(DataError, "test.jsonl"):
        read_cases(written(tmp_path, ""), config)
    with raises(DataError, "gone.jsonl"):
        read_cases(tmp_path / "gone.jsonl", config)
