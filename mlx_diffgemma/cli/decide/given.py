"""The request that a command line is: questions of options and of a file, and a state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...decide.question import read_question
from ...decide.request import Request, parsed, read_request
from ...errors import DataError, RequestError, brief
from ..answer.prompt import RequiredText, read_given_bytes
from ..errors import ArgumentError
from .options import QuestionOptions, StateOptions

EXAMPLES = {
    "--noul": '--noul "urgent=Does this need a reply today?"',
    "--choice": '--choice "team=outage,billing,other"',
    "--score": '--score "tone=calm,annoyed,furious"',
}
EXAMPLE = EXAMPLES["--noul"]
STATE = RequiredText(
    *("state", "STATE", "--state-file"),
    f'`mlx-diffgemma decide "It is down again." {EXAMPLE}`',
)
UNREAD = "?"  # a state that is not known yet


def read_given(given: QuestionOptions) -> dict[str, Any]:
    """A request without a state, unless its file has one. DataError for what is wrong in the file,
    ArgumentError for what is wrong in an option.
    """
    body = {} if given.questions is None else _of_file(given.questions)
    asked = dict(_of_options(given))
    for name in asked:
        if name in body.get("questions", {}):
            raise ArgumentError(
                f"the question {brief(name)} is in {given.questions} and among the options; give "
                "one of them another id."
            )
    questions = {**body.get("questions", {}), **asked}
    if not questions:
        raise ArgumentError(f"no question is given; try {EXAMPLE}, or -q FILE.")
    body = {**body, "questions": questions}
    if given.instructions is not None:
        if body.get("instructions") is not None:
            raise ArgumentError(
                f"--instructions is given, and {given.questions} has some; leave one out."
            )
        body["instructions"] = given.instructions
    return body


def require_one_state(body: Mapping[str, Any], words: Sequence[str], given: StateOptions) -> None:
    """ArgumentError for a state beside the lines of --lines, or beside that of a request."""
    typed = bool(words) or given.state_file is not None
    if given.lines is not None and (typed or "state" in body):
        raise ArgumentError("--lines and another state are both given; leave one of them out.")
    if "state" in body and typed:
        raise ArgumentError(
            "-q has a request with a state, and another one is given; leave one of them out."
        )


def with_state(body: Mapping[str, Any], state: Any, images: Sequence[Any] = ()) -> Request:
    """The request about a state; images: those in front of it."""
    request = read_request({**body, "state": state})
    return replace(request, images=(*request.images, *images))


def _of_file(file: Path) -> dict[str, Any]:
    """The request in a file; a map of questions alone is one without a state."""
    value = _parsed(file)
    fields = [value[name] for name in ("questions", "state") if name in value]
    body = {"questions": value} if all(map(_is_question, fields)) else value
    try:
        read_request({"state": UNREAD, **body})
    except RequestError as error:
        raise DataError(f"{file}: {error}") from error
    return body


def _is_question(value: Any) -> bool:
    """True for a question, whose id may be that of a request's field."""
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _parsed(file: Path) -> dict[str, Any]:
    content = read_given_bytes(file, "the questions")
    try:
        value = parsed(content)
    except RequestError as error:
        raise DataError(f"{file}: {error.said}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file}: {brief(value)}, expected a JSON object with questions.")
    return value


def _of_options(given: QuestionOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    """The questions of options, each checked, with their ids."""
    seen = set[str]()
    for option, texts, make in (
        ("--noul", given.nouls, _noul),
        ("--choice", given.choices, _choice),
        ("--score", given.scores, _score),
    ):
        for text in texts or ():
            name, equals, rest = text.partition("=")
            if not equals or not name.strip() or not rest.strip():
                raise ArgumentError(
                    f"{option} is {brief(text)}, expected an id, = and what is asked; try "
                    f"{EXAMPLES[option]}."
                )
            if name in seen:
                raise ArgumentError(f"the question {brief(name)} is given twice; rename one.")
            seen.add(name)
            question = make(option, rest)
            try:
                read_question((option, name), question)
            except RequestError as error:
                raise ArgumentError(str(error)) from error
            yield name, question


def _noul(option: str, text: str) -> dict[str, Any]:
    return {"type": "noul", "instructions": text}


def _choice(option: str, text: str) -> dict[str, Any]:
    instructions, names = _listed(option, text)
    return {"type": "choice", **instructions, "criteria": dict.fromkeys(names)}


def _score(option: str, text: str) -> dict[str, Any]:
    instructions, names = _listed(option, text)
    return {"type": "score", **instructions, "criteria": names}


def _listed(option: str, text: str) -> tuple[dict[str, str], list[str]]:
    """What is asked, if anything, and the names behind the last colon."""
    asked, _, listed = text.rpartition(":")
    names = [name.strip() for name in listed.split(",")]
    if not all(names):
        raise ArgumentError(f"{option} {brief(text)} has an empty name; leave out the comma.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ArgumentError(f"{option} {brief(text)} names {brief(twice)} twice; leave out one.")
    return ({"instructions": asked.strip()} if asked.strip() else {}), names
