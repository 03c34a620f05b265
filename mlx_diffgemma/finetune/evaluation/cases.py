"""Cases to evaluate a model with: questions with the answer that is expected, from JSON lines.

A line has one of the forms of training data. What is expected stands in `expected`, else it is the
last assistant message or the `completion`; `metric` may say how that line is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...checkpoint.config import ModelConfig
from ...errors import DataError, brief
from ...text.answer import Answer
from ...text.exchange import CLOSING, OPENING, Dialogue, texts_of, without_thought
from ...text.masks import Turn
from ...text.tools import CALL_CLOSING, CALL_OPENING
from ..data.asking import Asking
from ..data.forms import read_form
from ..data.lines import Line, Lines, data_file
from .metrics import METRICS, Metric, Test, equal_values

MARKERS = (OPENING, CLOSING, CALL_OPENING, CALL_CLOSING)
PLACEHOLDER = "."  # an answer for the reader of forms, where `expected` takes its place


@dataclass(frozen=True, eq=False)
class Case:
    """A question and the test of its answers.

    line: where it stands; asking: its dialogue, the last message of which is never shown to
    the model; think: ask for a thought, None where the line does not say. marked: the test is of
    all that the model writes, thoughts and calls with their markers, not of the text alone. calls:
    the tool calls that are expected too, None where they do not matter.
    """

    line: Line
    asking: Dialogue
    expected: object
    metric: str
    test: Test
    skill: str | None = None
    think: bool | None = None
    marked: bool = False
    calls: tuple[Mapping[str, Any], ...] | None = None

    @property
    def questions(self) -> Sequence[Turn]:
        """The messages that the model is shown."""
        return self.asking.messages[:-1]

    def accepts(self, answer: Answer, whole: str) -> bool:
        """True where an answer is right; whole: with its markers."""
        if self.calls is not None:
            given = [{"name": call.name, "arguments": call.arguments} for call in answer.tool_calls]
            if not equal_values(given, list(self.calls)):
                return False
        return self.test(whole if self.marked else answer.text)


def read_cases(
    path: Path, config: ModelConfig, *, metric: str = "exact", limit: int | None = None
) -> list[Case]:
    """The cases of a file of JSON lines, or of test.jsonl in a folder; the first `limit` of them.

    metric: of lines that name none. DataError names the line that is wrong.
    """
    file = data_file(path, "test")
    asking = Asking(file.parent, config.vision)  # a task's problem is prepared where it is asked
    cases: list[Case] = []
    for line in islice(Lines(file), limit):
        with line.read():
            cases.append(_case(line, metric, asking))
    return cases


def _case(line: Line, metric: str, asking: Asking) -> Case:
    values = line.values
    form = read_form(_answered(values), asking)
    if not isinstance(form.content, Dialogue):
        raise DataError("text has no question, expected messages, or prompt and completion.")
    way, dialogue = _metric(values.get("metric", metric)), form.content
    thought, last = without_thought(dialogue.messages[-1])
    own = "expected" in values
    expected = values["expected"] if own else "".join(texts_of(last))
    try:
        test = way.test(expected)
    except ValueError as error:
        raise DataError(f"{error}, expected {WANTED[way.name]}.") from None
    marked = isinstance(expected, str) and any(
        marker in expected.replace("\\", "") for marker in MARKERS
    )
    calls = None if marked else _calls({} if own else last, exact=way.name == "exact")
    think = bool(thought) or None if dialogue.think is None else dialogue.think
    return Case(line, dialogue, expected, way.name, test, form.skill, think, marked, calls)


WANTED = {
    "exact": "the text of a right answer",
    "contains": "a text that stands in every right answer",
    "json": "a value of JSON, or the text of one",
    "regex": "a pattern of Python's re",
}
"""What each metric compares with."""


def _answered(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line whose `expected` is its only answer, with one as training data has it."""
    if "expected" not in values or "completion" in values:
        return values
    if (messages := values.get("messages")) is None:
        return {**values, "completion": PLACEHOLDER} if "prompt" in values else values
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return values
    if messages[-1].get("role") == "assistant":
        return values
    return {**values, "messages": [*messages, {"role": "assistant", "content": PLACEHOLDER}]}


def _metric(name: object) -> Metric:
    if not isinstance(name, str) or name not in METRICS:
        raise DataError(f"metric is {brief(name)}, expected one of {', '.join(METRICS)}.")
    return METRICS[name]


def _calls(last: Turn, *, exact: bool) -> tuple[Mapping[str, Any], ...] | None:
    """Name and arguments of each call of an answer; where it has none, `exact` allows none."""
    given = last.get("tool_calls") or ()
    assert isinstance(given, Sequence)
    calls = [call.get("function", call) for call in given]
    found = tuple({"name": call["name"], "arguments": call["arguments"]} for call in calls)
    return found if found or exact else None
