"""A question read from the JSON of a request, and the order that all of them can be asked in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import RequestError, brief, counted
from .questions import (
    MOST_LEVELS,
    MOST_OPTIONS,
    Choice,
    Noul,
    Question,
    Score,
    as_sent,
    told_names,
)

Location = tuple[str | int, ...]
TEXTS = (str, dict, list)
NO_TEXT = "expected a string, an object or an array."


def read_question(at: Location, value: Any) -> Question:
    """A question; fields that it has beyond its own are ignored, as the contract wants."""
    if not isinstance(value, dict):
        raise RequestError(at, f"is {as_sent(value)}, expected an object.", "dict_type")
    kinds: Mapping[object, Callable[[Location, Any], Any]] = {
        "noul": _noul_criteria,
        "choice": _choice_criteria,
        "score": _score_criteria,
    }
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in kinds:
        said = f"is {as_sent(kind)}" if "type" in value else "missing"
        wrong = "union_tag_invalid" if "type" in value else "union_tag_not_found"
        raise RequestError((*at, "type"), f"{said}, expected noul, choice or score.", wrong)
    instructions = value.get("instructions")
    if instructions is not None and not isinstance(instructions, TEXTS):
        said = f"is {as_sent(instructions)}, {NO_TEXT}"
        raise RequestError((*at, "instructions"), said, "union_type")
    criteria = kinds[kind]((*at, "criteria"), value.get("criteria"))
    made: Question = {"noul": Noul, "choice": Choice, "score": Score}[kind](
        instructions,
        criteria,
        depends_on=_names((*at, "depends_on"), value.get("depends_on")),
        ask_if=_conditions((*at, "ask_if"), value.get("ask_if")),
        alone=_flag((*at, "alone"), value.get("alone")),
    )
    _require_asked(at, made)
    return made


def _noul_criteria(at: Location, value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() - {"true", "false"}:
        said = f"is {as_sent(value)}, expected an object with true, false or both."
        raise RequestError(at, said, "model_type")
    _require_descriptions(at, value)
    return value


def _choice_criteria(at: Location, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        said = f"is {as_sent(value)}, expected an object: a name and a description or null each."
        raise RequestError(at, said, "missing" if value is None else "dict_type")
    _require_count(at, len(value), MOST_OPTIONS, "option")
    _require_descriptions(at, value)
    return value


def _score_criteria(at: Location, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        said = f"is {as_sent(value)}, expected an array of levels from low to high."
        raise RequestError(at, said, "missing" if value is None else "list_type")
    _require_count(at, len(value), MOST_LEVELS, "level")
    for i, level in enumerate(value):
        if not isinstance(level, TEXTS):
            raise RequestError((*at, i), f"is {as_sent(level)}, {NO_TEXT}", "union_type")
    return value


def _require_descriptions(at: Location, value: Mapping[str, Any]) -> None:
    for name, told in value.items():
        if told is not None and not isinstance(told, TEXTS):
            said = f"is {as_sent(told)}, expected a string, an object, an array or null."
            raise RequestError((*at, name), said, "union_type")


def _require_count(at: Location, count: int, most: int, noun: str) -> None:
    if not 1 <= count <= most:
        kind = "too_long" if count else "too_short"
        raise RequestError(at, f"has {counted(count, noun)}, expected 1 to {most}.", kind)


def _require_asked(at: Location, question: Question) -> None:
    """RequestError for a noul that says nothing; a choice or a scale speaks for itself."""
    told = any(option.description for option in question.options)
    if isinstance(question, Noul) and not question.text and not told:
        said = "missing, expected a text, or a description of true or false in criteria."
        raise RequestError((*at, "instructions"), said, "missing")


def _names(at: Location, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise RequestError(at, f"is {as_sent(value)}, expected a list of ids.", "list_type")


def _conditions(at: Location, value: Any) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        said = f"is {as_sent(value)}, expected an object: an id and a list of answers each."
        raise RequestError(at, said, "dict_type")
    for name, wanted in value.items():
        if not isinstance(wanted, list) or not wanted:
            said = f"is {as_sent(wanted)}, expected a list of answers."
            raise RequestError((*at, name), said, "list_type")
    return {name: tuple(wanted) for name, wanted in value.items()}


def _flag(at: Location, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise RequestError(at, f"is {as_sent(value)}, expected true or false.", "bool_type")


def require_order(questions: Mapping[str, Question]) -> None:
    """RequestError where a question needs one that is not there, itself, or a circle of them."""
    for name, question in questions.items():
        _require_needs(("questions", name), name, questions)
        for need, wanted in question.ask_if.items():
            names = told_names(questions[need])
            for i, answer in enumerate(wanted):
                if answer not in names:
                    at = ("questions", name, "ask_if", need, i)
                    known = ", ".join(map(brief, names[:8]))
                    raise RequestError(at, f"{as_sent(answer)} is no answer of it: {known}.")
    left = list(stages(questions))
    if stuck := questions.keys() - {name for stage in left for name in stage}:
        first = next(name for name in questions if name in stuck)
        said = "depends on itself through others, expected an order to ask in."
        raise RequestError(("questions", first, "depends_on"), said)


def _require_needs(at: Location, name: str, questions: Mapping[str, Question]) -> None:
    for field in ("depends_on", "ask_if"):
        for need in getattr(questions[name], field):
            if need == name:
                raise RequestError((*at, field), "names the question itself; leave it out.")
            if need not in questions:
                raise RequestError((*at, field), f"{brief(need)} is no question of this request.")


def stages(questions: Mapping[str, Question]) -> Iterator[list[str]]:
    """Ids that can be asked together, after all that they need; those in a circle never come."""
    done = set[str]()
    while ready := [
        name
        for name, question in questions.items()
        if name not in done and done.issuperset(question.needs)
    ]:
        yield ready
        done |= set(ready)
