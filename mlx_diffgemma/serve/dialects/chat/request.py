"""A chat completion's request, as the core asks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ....constrain.calls import ANY_TOOL
from ....conversation.form import Wanted
from ...asked import Chat
from ...engine.engine import Facts
from ..fields import Fields, invalid
from ..openai import UNTHINKING, includes_usage, refuse_many
from ..sampling import REASONING_FIELD, read_limit, read_sampling
from .turns import read_messages
from .wanted import read_wanted

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
LIMITS = ("max_completion_tokens", "max_tokens")
REASONING_FIELDS = ("reasoning_content", "reasoning")


@dataclass(frozen=True)
class ChatCompletion(Chat):
    """A question of this dialect. usage: tokens are told in a last chunk; reasoning: the field that
    a thought is sent in.
    """

    usage: bool = False
    reasoning: str = REASONING_FIELDS[0]


def read(fields: Fields, facts: Facts) -> ChatCompletion:
    """The question of a request; Refusal for what cannot be asked, with the field that it is in."""
    fields.text("model")
    refuse_many(fields)
    _refuse_log_probabilities(fields)
    limit = read_limit(fields, *LIMITS)
    named = next(filter(fields.has, LIMITS), LIMITS[0])
    sampling = read_sampling(fields, facts, limit, own=(REASONING_FIELD,), limit=named)
    wanted = read_wanted(fields, sampling.settings.stop)
    conversation = read_messages(fields)
    ours = fields.object("diffusion") or Fields({})
    calls_beside = fields.flag("parallel_tool_calls")
    return ChatCompletion(
        settings=sampling.settings,
        warnings=(*sampling.warnings, *conversation.warnings, *_unused(fields, wanted)),
        drafts=sampling.drafts,
        stream=bool(fields.flag("stream")),
        messages=conversation.turns,
        images=conversation.images,
        image_tokens=sampling.image_tokens,
        wanted=wanted,
        think=_think(fields),
        one_call=calls_beside is False,
        usage=includes_usage(fields),
        reasoning=ours.one_of(REASONING_FIELD, REASONING_FIELDS) or REASONING_FIELDS[0],
    )


def _refuse_log_probabilities(fields: Fields) -> None:
    if fields.flag("logprobs"):
        raise fields.wrong("logprobs", "false: tokens of a canvas are not drawn one by one")
    if fields.whole("top_logprobs"):
        raise fields.wrong("top_logprobs", "none: tokens of a canvas are not drawn one by one")
    modalities = fields.texts("modalities") or ()
    if fields.has("audio") or "audio" in modalities:
        name = "audio" if fields.has("audio") else "modalities"
        raise fields.wrong(name, "text alone: this model does not speak")


def _think(fields: Fields) -> bool | None:
    """True or false where the request says it; Refusal where it says both."""
    template = fields.object("chat_template_kwargs")
    asked = None if template is None else template.flag("enable_thinking")
    effort = fields.one_of("reasoning_effort", EFFORTS)
    if effort is None:
        return asked
    wanted = effort not in UNTHINKING
    if asked is not None and asked is not wanted:
        raise invalid(
            "reasoning_effort",
            f"is {effort} and chat_template_kwargs.enable_thinking is {str(asked).lower()}, "
            "expected them to agree; leave one out.",
        )
    return wanted


def _strict(tool: Fields) -> bool:
    return bool(tool.needed_object("function").flag("strict"))


def _unused(fields: Fields, wanted: Wanted) -> Iterator[str]:
    """A line for each field that asks for what is not done here."""
    free = wanted.tools and wanted.tool_choice == ANY_TOOL and wanted.schema is None
    if free and any(map(_strict, fields.objects("tools"))):
        yield (
            "strict is not used: a call that the model is free to make is read by its tool's "
            "schema, not held to it; tool_choice required holds it, and so does a response_format."
        )
    if fields.flag("store"):
        yield "store is not used: this server keeps no answers."
    if fields.has("prediction"):
        yield "prediction is not used: an answer is denoised without one."
    if fields.has("verbosity"):
        yield "verbosity is not used; say in a message how long the answer may be."
    if fields.has("web_search_options"):
        yield "web_search_options is not used: this server fetches nothing."
    if fields.text("reasoning_effort") not in (None, *UNTHINKING):
        yield "reasoning_effort turns thinking on; how long the model thinks is not in its hands."
