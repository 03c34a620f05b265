"""A completion's request, as the core asks it: a text that goes on, a gap, or a template."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ....errors import PromptError, SettingsError, counted
from ....text.holes import Template, read_template
from ...asked import Common, Completion, Infill
from ...engine.engine import Facts
from ...refusal import Refusal
from ..fields import Fields, invalid
from ..openai import includes_usage, refuse_many
from ..sampling import TEMPLATE_FIELDS, Sampling, read_limit, read_sampling
from ..tools import setting_refused

LIMIT = "max_tokens"
OURS = "diffusion"


@dataclass(frozen=True)
class TextCompletion(Completion):
    """A text that goes on. usage: tokens are told in a last chunk; echo: the prompt comes first."""

    usage: bool = False
    echo: bool = False


@dataclass(frozen=True)
class Gap(Infill):
    """Holes that are filled. usage: as above; cut: texts in front of which the hole's text ends."""

    usage: bool = False
    cut: tuple[str, ...] = ()


def read(fields: Fields, facts: Facts) -> TextCompletion | Gap:
    """The question of a request; Refusal for what cannot be asked, with the field that it is in."""
    fields.text("model")
    refuse_many(fields)
    _refuse_candidates(fields)
    ours = fields.object(OURS) or Fields({}, OURS)
    if ours.has("template"):
        return _template(fields, ours, facts)
    return _gap(fields, ours, facts) if fields.text("suffix") else _text(fields, facts)


def _text(fields: Fields, facts: Facts) -> TextCompletion:
    sampling = read_sampling(fields, facts, read_limit(fields, LIMIT))
    prompt = _prompt(fields)
    if prompt is None:
        raise fields.wrong("prompt", "a string")
    echo = bool(fields.flag("echo"))
    return TextCompletion(**_common(fields, sampling), prompt=prompt, echo=echo)


def _gap(fields: Fields, ours: Fields, facts: Facts) -> Gap:
    """The gap between prompt and suffix, one hole of a template that is all of the text."""
    sampling = _denoised(fields, ours, facts, ())
    before, behind = _prompt(fields) or "", fields.needed_text("suffix")
    limit = read_limit(fields, LIMIT)
    if limit is not None and limit < 1:
        raise fields.wrong(LIMIT, "a whole number of at least 1")
    length = most_of_gap(facts.canvas_length, behind)
    lines = sampling.warnings
    if limit is not None and limit > length:
        lines += (
            f"max_tokens is {limit:,}, the gap has {length:,}: a canvas of {facts.canvas_length:,} "
            "holds the text behind it as well.",
        )
    length = min(length, limit or length)
    template = Template((before, behind), (length,), (1, 1 + before.count("\n")), (None,))
    cut, settings = sampling.settings.stop, replace(sampling.settings, stop=())
    common = _common(fields, replace(sampling, settings=settings, warnings=lines))
    return Gap(**common, template=template, hole_only=True, cut=cut)


def most_of_gap(canvas_length: int, behind: str) -> int:
    """The most tokens of a gap: half a canvas at least, more where a short text follows it.

    A text has no more tokens than bytes, and one position closes it.
    """
    return max(1, canvas_length // 2, canvas_length - 1 - len(behind.encode(errors="replace")))


def _template(fields: Fields, ours: Fields, facts: Facts) -> Gap:
    """A template with holes; its prompt says what to write."""
    if fields.text("suffix"):
        raise invalid("suffix", "is given beside diffusion.template; leave one of both out.")
    sampling = _denoised(fields, ours, facts, TEMPLATE_FIELDS)
    lines = list(sampling.warnings)
    for name, given in ((LIMIT, fields.has(LIMIT)), ("stop", bool(sampling.settings.stop))):
        if given:
            lines.append(f"{name} is not used: a template says where it ends.")
    sampling = replace(
        sampling, settings=replace(sampling.settings, stop=()), warnings=tuple(lines)
    )
    template = _holes(ours)
    prompt = _prompt(fields) or ""
    tokens = sampling.image_tokens
    return Gap(**_common(fields, sampling), template=template, prompt=prompt, image_tokens=tokens)


def _holes(ours: Fields) -> Template:
    """The template of a request, its holes as `fill` reads them."""
    path, given = ours.at("template"), ours.value.get("gap")
    gaps = given if isinstance(given, list) else ours.whole("gap")
    try:
        return read_template(ours.needed_text("template"), gaps)
    except PromptError as error:
        raise Refusal("invalid", f"{path}: {error}", path) from None
    except SettingsError as error:
        raise setting_refused(error, {"gaps": ours.at("gap")}) from None


def _denoised(fields: Fields, ours: Fields, facts: Facts, own: tuple[str, ...]) -> Sampling:
    """The settings of holes, which are always denoised; own: as `read_sampling` has it."""
    if ours.text("mode") not in (None, "diffusion"):
        raise ours.wrong("mode", "diffusion: holes are always denoised")
    if fields.flag("echo"):
        raise fields.wrong("echo", "false: a gap is returned alone, a template whole")
    return read_sampling(fields, replace(facts, mode="diffusion"), own=own)


def _common(fields: Fields, sampling: Sampling) -> dict[str, Any]:
    common = Common(
        sampling.settings, sampling.warnings, sampling.drafts, bool(fields.flag("stream"))
    )
    return {**vars(common), "usage": includes_usage(fields)}


def _prompt(fields: Fields) -> str | None:
    """The prompt: a string, or a list of one; Refusal for several, and for ids of tokens."""
    given = fields.value.get("prompt")
    if isinstance(given, list) and not all(isinstance(each, str) for each in given):
        raise fields.wrong(
            "prompt", "a string: ids of tokens mean other texts in other vocabularies"
        )
    texts = fields.texts("prompt")
    if texts is not None and len(texts) != 1:
        raise invalid("prompt", f"has {counted(len(texts), 'text')}, expected one a request.")
    return texts[0] if texts else None


def _refuse_candidates(fields: Fields) -> None:
    if fields.has("logprobs") and fields.value["logprobs"] is not False:
        raise fields.wrong("logprobs", "none: tokens of a canvas are not drawn one by one")
    if fields.whole("best_of") not in (None, 1):
        raise fields.wrong("best_of", "1: one answer a request")
