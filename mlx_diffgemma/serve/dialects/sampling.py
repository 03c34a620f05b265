"""Settings of a request: its sampling fields, and `diffusion`, an object of our own.

What a field asks for and nobody does is said in a line, never dropped without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import SettingsError, brief, counted
from ...generation.settings import MODES, OF_MODES, Settings
from ..engine.engine import Facts
from .fields import Fields, invalid
from .tools import setting_refused

MOST_STOPS = 4
LARGEST_LIMIT = 2**31 - 1  # tokens; clients that want no limit send larger numbers
MOST_ODD = 8  # unknown fields that are told one by one
TOKEN_FIELDS = ("temperature", "top_p", "top_k", "min_p")  # of modes that write tokens
PENALTIES: Mapping[str, float] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "repeat_penalty": 1,
}
"""Fields that nobody reads, with the value that asks for nothing."""

STEPS: Mapping[str, str] = {
    "max_denoising_steps": "steps",
    "entropy_bound": "entropy_bound",
    "t_min": "t_min",
    "t_max": "t_max",
    "stability_threshold": "stability",
    "confidence_threshold": "confidence",
}
"""Settings of denoising, and their names in `diffusion`, which are those of the command line."""

OURS = ("drafts", "mode", *STEPS.values(), "image_tokens")
TEMPLATE_FIELDS = ("template", "gap")  # of /v1/completions alone
REASONING_FIELD = "reasoning_field"


@dataclass(frozen=True)
class Sampling:
    """The settings of a request; warnings: what of it is not done."""

    settings: Settings
    warnings: tuple[str, ...]
    drafts: bool
    image_tokens: int | None


def read_sampling(
    fields: Fields,
    facts: Facts,
    max_tokens: int | None = None,
    *,
    stop: str = "stop",
    own: tuple[str, ...] = (),
    limit: str = "max_tokens",
) -> Sampling:
    """The settings of a request; Refusal for a value out of its range.

    max_tokens: as `read_limit` found it; limit, stop: the fields that the dialect has for the most
    tokens and for stop texts; own: further names that `diffusion` may have.
    """
    ours = fields.object("diffusion") or Fields({}, "diffusion")
    mode = ours.one_of("mode", MODES) or facts.mode
    steps = {setting: _number(ours, name) for setting, name in STEPS.items()}
    tokens = {name: _number(fields, name) for name in TOKEN_FIELDS}
    used = {name: value for name, value in tokens.items() if mode in OF_MODES[name]}
    names = {
        **{setting: ours.at(name) for setting, name in STEPS.items()},
        "mode": ours.at("mode"),
        "max_tokens": limit,
        "stop": stop,
    }
    seed = fields.whole("seed")
    try:
        settings = Settings(
            max_tokens=max_tokens,
            seed=None if seed == -1 else seed,
            stop=stops(fields, stop),
            mode=mode,
            **steps,
            **used,
        )
    except SettingsError as error:
        raise setting_refused(error, names) from None
    unused = [name for name, value in tokens.items() if value is not None and name not in used]
    warnings = (*_unused(unused, mode), *_penalties(fields), *_unknown(ours, own))
    return Sampling(settings, warnings, bool(ours.flag("drafts")), ours.whole("image_tokens"))


def read_limit(fields: Fields, *names: str) -> int | None:
    """The most tokens, of several fields that mean it; None where none says it, or one is -1.

    Numbers beyond LARGEST_LIMIT mean the same, since no context holds them. Refusal where two
    fields say different numbers.
    """
    given = {name: fields.whole(name) for name in names if fields.has(name)}
    said = {name: value for name, value in given.items() if value != -1}
    if len(set(said.values())) > 1:
        first, second, *_ = said
        raise invalid(
            fields.at(first),
            f"is {said[first]} and {second} is {said[second]}, expected one number; leave one out.",
        )
    found = next(iter(said.values()), None)
    return None if found is None else min(found, LARGEST_LIMIT)


def stops(fields: Fields, name: str = "stop") -> tuple[str, ...]:
    """The stop texts of a request, 4 at most."""
    texts = fields.texts(name) or ()
    if len(texts) > MOST_STOPS:
        raise invalid(fields.at(name), f"has {len(texts)} texts, expected at most {MOST_STOPS}.")
    return texts


def _number(fields: Fields, name: str) -> Any:
    """A number; one without a fraction is whole, as settings that count want it."""
    found = fields.number(name)
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _unused(names: list[str], mode: str) -> Iterator[str]:
    if names:
        one = len(names) == 1
        yield (
            f"{', '.join(names)} {'is' if one else 'are'} not used in mode {mode}, whose "
            "temperatures are a schedule; see diffusion.t_min and diffusion.t_max, or diffusion."
            "mode ar."
        )


def _penalties(fields: Fields) -> Iterator[str]:
    for name, neutral in PENALTIES.items():
        if (value := fields.number(name)) is not None and value != neutral:
            yield f"{name} is not used: this engine has no penalties."
    if (bias := fields.object("logit_bias")) is not None and bias.value:
        yield "logit_bias is not used: this engine has no bias for single tokens."


def _unknown(ours: Fields, own: tuple[str, ...]) -> Iterator[str]:
    for name in TEMPLATE_FIELDS:
        if ours.has(name) and name not in own:
            raise ours.wrong(name, "nothing here; /v1/completions fills templates")
    known = (*OURS, *own)
    odd = [name for name in ours.value if name not in known]
    for name in odd[:MOST_ODD]:
        yield f"diffusion has {brief(name)}, which is not used: it knows {', '.join(known)}."
    if more := len(odd[MOST_ODD:]):
        yield f"diffusion has {counted(more, 'more field')} that it does not know."
