"""A request of the Responses API as a question."""

from __future__ import annotations

from collections.abc import Iterator

from ....errors import brief
from ...asked import Chat
from ...engine.engine import Facts
from ..fields import Fields, invalid
from ..sampling import read_limit, read_sampling
from .options import read_think, read_wanted
from .turns import Turns, names_of

STORED = ("previous_response_id", "conversation", "prompt")
NOT_DONE = ("context_management", "max_tool_calls", "moderation")
LOGPROBS = "message.output_text.logprobs"


def read(fields: Fields, facts: Facts) -> Chat:
    """The question of a request; Refusal for what is no request, or asks for what is stored."""
    _require_answerable(fields)
    turns = _turns(fields)
    limit = read_limit(fields, "max_output_tokens")
    sampling = read_sampling(fields, facts, limit, limit="max_output_tokens")
    wanted, about_tools = read_wanted(fields, sampling.settings.stop)
    lines = (*sampling.warnings, *about_tools, *_not_done(fields), *turns.left.lines())
    return Chat(
        settings=sampling.settings,
        warnings=lines,
        drafts=sampling.drafts,
        stream=bool(fields.flag("stream")),
        messages=tuple(turns.made),
        images=tuple(turns.images.found),
        image_tokens=sampling.image_tokens,
        wanted=wanted,
        think=read_think(fields),
        one_call=fields.flag("parallel_tool_calls") is False,
    )


def _turns(fields: Fields) -> Turns:
    """The instructions, and the turns of the input."""
    given = fields.value.get("input")
    alone = Fields({"role": "user", "content": given}, "input")
    items = (alone,) if isinstance(given, str) else fields.objects("input")
    turns = Turns(names_of(items))
    if instructions := fields.text("instructions"):
        turns.made.append({"role": "system", "content": instructions})
    for item in items:
        turns.take(item)
    if len(turns.made) == bool(instructions):
        raise fields.wrong("input", "a text, or a list of items with a message among them")
    return turns


def _require_answerable(fields: Fields) -> None:
    """Refusal for what this server cannot do at all, and an answer without it would be wrong."""
    for name in STORED:
        if fields.has(name):
            raise invalid(
                name,
                f"is {brief(fields.value[name])}, and nothing is stored here; send the whole "
                "conversation as input.",
            )
    if fields.flag("background"):
        raise fields.wrong("background", "false: nothing is stored here, so nobody could fetch it")
    if fields.whole("top_logprobs"):
        raise fields.wrong("top_logprobs", "none: this server gives no log-probabilities")
    if LOGPROBS in (fields.texts("include") or ()):
        raise fields.wrong("include", f"no {LOGPROBS}: this server gives no log-probabilities")


def _not_done(fields: Fields) -> Iterator[str]:
    """A line for each field that asks for what is not done here."""
    for name in NOT_DONE:
        if fields.has(name) and fields.value[name] not in ([], {}, ""):
            yield f"{name} is {brief(fields.value[name])}, and is not used here."
    if fields.text("truncation") == "auto":
        yield "truncation is auto, and nothing is cut: a prompt that is too long is refused."
