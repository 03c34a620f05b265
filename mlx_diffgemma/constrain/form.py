"""The form of an answer: a JSON schema, a pattern, choices, tool calls, or calls beside a text."""

import json
from collections.abc import Collection, Mapping, Sequence

from ..errors import ConstraintError, Setting, brief
from .calls import MARKS, calls_pattern
from .compiling import exclusive
from .machine import Channel, Controls, Machine, machine, require_control
from .nfa import TooLargeError
from .patterns import OneOf, Pattern, Text, Times, either, seq
from .regex import parse_regex
from .request import Form as Form  # what this module makes
from .schema.reader import SchemaReader
from .schema.spelling import JSON
from .schema.values import checked_text
from .tables import automaton_of, tables_of
from .vocabulary import Vocabulary
from .writable import require_choices, require_some

BLANKS = " \t\n\r"  # what JSON takes for white space
FENCE, FENCED = "```", "json"


def form_of(
    *,
    schema: Mapping[str, object] | bool | None = None,
    pattern: str | None = None,
    choices: Sequence[str] | None = None,
) -> Form | None:
    """The form that is asked for, None without any; ConstraintError for more than one.

    schema: JSON Schema; the JSON may stand in a fence of Markdown, which `stripped` takes off.
    pattern: a regular expression of the whole answer. choices: texts, of which the answer is one.
    """
    asked = {"schema": schema, "pattern": pattern, "choices": choices}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        first, second, *_ = map(Setting, given)
        raise ConstraintError(first, " and ", second, " are given, expected one of them.")
    if schema is not None:
        return _schema_form(schema)
    if pattern is not None:
        return Form("pattern", checked_text(pattern, "the pattern"), parse_regex(pattern))
    return None if choices is None else _choices_form(choices)


@exclusive
def tools_form(tools: Sequence[Mapping[str, object]], choice: str) -> Form:
    """The form of an answer that only calls tools.

    tools: declarations as chat templates take them; choice: "required" for one call or more of any
    of them, or a tool's name for one call of it.
    """
    try:
        pattern, sizes = calls_pattern(tools, choice)
    except TooLargeError as error:
        raise ConstraintError(f"the tools need {error.needs}; shorten their lists.") from None
    return Form("tools", _written([tools, choice], "the tools"), pattern, sizes, calls=True)


def beside(text: Form, calls: Form) -> Form:
    """The form of an answer that is either a text of one form, or the calls of another."""
    key = _written([text.key, calls.key], "the form")
    sizes = {**text.sizes, **calls.sizes}
    return Form(text.kind, key, either(text.pattern, calls.pattern), sizes, calls=True)


def ending(stops: Collection[int], vocabulary: Vocabulary) -> tuple[int, ...]:
    """Those stop ids that are control tokens; ConstraintError where there is none.

    An id that writes text, as 50 does in tiny-sudoku, could end an answer in its middle.
    """
    known = [token for token in stops if 0 <= token < len(vocabulary)]
    kept = tuple(dict.fromkeys(token for token in known if not vocabulary.writes[token]))
    if not kept:
        raise ConstraintError(
            f"the stop ids {sorted(stops)} write text or are not there, expected a control token "
            "to end an answer with a form; see eos_token_id in config.json."
        )
    return kept


@exclusive
def require_automaton(form: Form) -> None:
    """ConstraintError where a form is too large, or allows no text; no model is needed for that."""
    try:
        automaton_of(form)
    except TooLargeError as error:
        raise _too_large(form, error) from None


@exclusive
def compiled(
    form: Form,
    vocabulary: Vocabulary,
    stops: Collection[int],
    fillers: Collection[int],
    channel: Channel | None = None,
    marks: Mapping[str, int] | None = None,
) -> Machine:
    """The machine of answers of a form, with a vocabulary.

    stops: ids that end the answer; none: it ends with its place, as a hole's text. fillers: ids
    that may stand behind its end. marks: the ids of control tokens by their names, for tool calls.
    ConstraintError where the form is too large, or where the vocabulary cannot write it.
    """
    marks = _marks(form, marks or {})
    controls = Controls(tuple(stops), tuple(fillers), channel, marks)
    require_control(controls.ids, vocabulary)
    try:
        dfa, classes = tables_of(form, vocabulary)
    except TooLargeError as error:
        raise _too_large(form, error) from None
    if isinstance(form.pattern, OneOf) and form.kind == "choices":
        require_choices(form.pattern, vocabulary)
    made = machine(vocabulary, dfa, classes, controls)
    require_some(made, dfa, vocabulary)
    return made


def stripped(text: str) -> str:
    """An answer that follows a schema without white space and fence around its JSON.

    JSON neither begins nor ends with a backtick, so that a fence of which only one end was
    written goes too.
    """
    text = text.strip(BLANKS)
    if text.startswith(FENCE):
        text = text[len(FENCE) :].removeprefix(FENCED)
    return text.removesuffix(FENCE).strip(BLANKS)


def _marks(form: Form, marks: Mapping[str, int]) -> dict[str, int]:
    """The ids of the marks that a form has."""
    if not form.calls:
        return {}
    if missing := [name for name in MARKS if name not in marks]:
        raise ConstraintError(
            f"this model has no {', '.join(missing)}, expected the tokens of tool calls; ask "
            "without tools, or choose another model."
        )
    return {name: marks[name] for name in MARKS}


def _too_large(form: Form, error: TooLargeError) -> ConstraintError:
    together = form.calls and form.kind != "tools"
    what = f"{form.kind} and the tools together" if together else form.kind
    need = "need" if form.calls or form.kind == "choices" else "needs"
    return ConstraintError(f"the {what} {need} {error.needs}; {form.advice}.")


@exclusive
def _schema_form(schema: Mapping[str, object] | bool) -> Form:
    reader = SchemaReader(schema)
    try:
        value = reader.pattern()
    except TooLargeError as error:
        raise _too_large(Form("schema", "", Text(""), reader.sizes), error) from None
    return Form("schema", _written(schema, "the schema"), _fenced(value), reader.sizes)


def _fenced(value: Pattern) -> Pattern:
    """JSON with white space around it, and a fence around both."""
    opening = seq(FENCE, Times(Text(FENCED), 0, 1), "\n", JSON.space)
    closing = seq("\n", FENCE, JSON.space)
    return seq(JSON.space, Times(opening, 0, 1), value, JSON.space, Times(closing, 0, 1))


def _choices_form(choices: object) -> Form:
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise ConstraintError(
            Setting("choices"), f" are {brief(choices)}, expected a list of at least one text."
        )
    texts = [checked_text(choice, f"choice {i}") for i, choice in enumerate(choices, 1)]
    for index, text in enumerate(texts, 1):
        if not text:
            raise ConstraintError(f"choice {index} is empty, expected a text.")
        if text in texts[: index - 1]:
            first = texts.index(text) + 1
            raise ConstraintError(f"choices {first} and {index} are both {brief(text)}; drop one.")
    return Form("choices", _written(texts, "the choices"), either(*texts))


def _written(request: object, what: str) -> str:
    """A request as one text; ConstraintError where it is not of values that JSON has."""
    try:
        return json.dumps(request, default=dict)
    except RecursionError:
        raise ConstraintError(f"{what} is nested too deep; flatten it.") from None
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"{what} is not of values of JSON: {brief(error)}.") from None
