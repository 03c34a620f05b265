"""A request for decisions, read from its JSON: everything is checked, and nothing computed.

The form is that of `POST /v1/systemone`. Fields of the request that nothing here uses are listed,
not refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import RequestError, brief
from ..machine.files import parse_json
from .assets import Asset, read_assets, read_images
from .options import Options, wrong
from .question import read_question, require_order
from .questions import Common, Question, as_sent

MOST_BYTES = 64 << 20
SETTINGS = tuple(field.name for field in fields(Options))
FIELDS = ("model", "state", "questions", "instructions", "ask", "assets", "images", "stream")
TEXTS = (str, dict, list)


@dataclass(frozen=True)
class Request:
    """A request that can be answered, as far as it tells by itself.

    questions: by their ids, in order; given: the settings that it names; assets: images by the
    placeholders that stand for them; images: those in front of the state; ignored: names of fields
    that nothing uses.
    """

    state: Any
    questions: Mapping[str, Question]
    instructions: str | None = None
    model: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()
    images: tuple[Any, ...] = ()
    ignored: tuple[str, ...] = ()

    def options(self, **typed: Any) -> Options:
        """The settings: what is typed before what the request names; None is not typed.

        SettingsError for a typed value out of its range.
        """
        return Options(**{**self.given, **{k: v for k, v in typed.items() if v is not None}})


def read_request(
    body: bytes | Mapping[str, Any], parts: Mapping[str, bytes] | None = None
) -> Request:
    """The request in a body of JSON, or in a mapping with questions of either form.

    parts: the files of a multipart body, which assets name. RequestError for the first thing that
    is wrong.
    """
    value = parsed(body)
    if not isinstance(value, dict):
        raise RequestError((), f"is {brief(value)}, expected an object.", "dict_type")
    if value.get("stream"):
        raise RequestError(("stream",), "decisions do not stream; leave it out.")
    _require_text(value, "state")
    questions = read_questions(value)
    return Request(
        state=value["state"],
        questions=_asked(value, questions),
        instructions=_optional_string(value, "instructions"),
        model=_optional_string(value, "model") if "model" in value else None,
        given=_settings(value),
        assets=read_assets(value, parts or {}),
        images=read_images(value.get("images")),
        ignored=tuple(name for name in value if name not in (*SETTINGS, *FIELDS)),
    )


def parsed(body: bytes | Mapping[str, Any]) -> Any:
    """The value of a body; RequestError where it is too large, or no JSON that can be kept."""
    if not isinstance(body, bytes):
        try:
            body = json.dumps(body, default=_as_json).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError((), f"no JSON: {error}.", "json_invalid") from None
    if len(body) > MOST_BYTES:
        said = f"{len(body):,} bytes, expected {MOST_BYTES:,} at most; send less."
        raise RequestError((), said, "request_too_large", 413)
    try:
        return parse_json(body)
    except ValueError as error:
        raise RequestError((), f"no JSON: {error}.", "json_invalid") from None


def read_questions(value: Mapping[str, Any]) -> dict[str, Question]:
    """The questions of a request, each checked, and their order too."""
    asked = value.get("questions")
    if "questions" not in value:
        raise RequestError(("questions",), "missing, expected an object of questions.", "missing")
    if not isinstance(asked, dict):
        said = f"is {brief(asked)}, expected an object: an id and a question each."
        raise RequestError(("questions",), said, "dict_type")
    if not asked:
        raise RequestError(("questions",), "empty, expected a question.", "too_short")
    for name in asked:
        if not name.strip():
            said = f"the id {brief(name)} is blank, expected some text."
            raise RequestError(("questions", name), said, "string_too_short")
    questions = {name: read_question(("questions", name), each) for name, each in asked.items()}
    require_order(questions)
    return questions


def _as_json(value: object) -> Any:
    """A question, or a mapping of another type, as JSON takes it."""
    if isinstance(value, Common):
        return value.to_json()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{brief(value)} is a {type(value).__name__}, which JSON has not")


def _require_text(value: Mapping[str, Any], name: str) -> None:
    if name not in value:
        said = "missing, expected a string, an object or an array."
        raise RequestError((name,), said, "missing")
    if not isinstance(value[name], TEXTS):
        said = f"is {as_sent(value[name])}, expected a string, an object or an array."
        raise RequestError((name,), said, "union_type")


def _optional_string(value: Mapping[str, Any], name: str) -> str | None:
    given = value.get(name)
    if (given is None and name != "model") or isinstance(given, str):
        return given
    raise RequestError((name,), f"is {as_sent(given)}, expected a string.", "string_type")


def _settings(value: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a request names; null is refused like any other value out of range."""
    given = {name: value[name] for name in SETTINGS if name in value}
    for name, each in given.items():
        if said := wrong(name, each):
            raise RequestError((name,), said, "value_error")
    return given


def _asked(value: Mapping[str, Any], questions: dict[str, Question]) -> dict[str, Question]:
    """The questions that `ask` names, or all of them."""
    ask = value.get("ask")
    if ask is None:
        return questions
    if not isinstance(ask, list) or not ask:
        said = f"is {as_sent(ask)}, expected a list of ids."
        raise RequestError(("ask",), said, "list_type")
    for i, name in enumerate(ask):
        if not isinstance(name, str) or name not in questions:
            raise RequestError(("ask", i), f"{as_sent(name)} is no question of this request.")
        for need in questions[name].needs:
            if need not in ask:
                said = f"{brief(name)} depends on {brief(need)}, which is not asked; add it."
                raise RequestError(("ask", i), said)
    return {name: question for name, question in questions.items() if name in ask}
