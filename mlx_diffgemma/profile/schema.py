"""The form of a profile's JSON, version 1, and a check that a file has it.

A kind is "text", "flag", "whole" (a whole number), "number"; with "?" it may be null.
A [kind] is a list, {"*": kind} an object with any keys, {name: kind} one with these, Optional(kind)
that or null. Objects that report.py writes as a dataclass take their kinds from its fields.
docs/profile.md explains the same keys to people.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..checkpoint.generation import TokenDefaults
from ..conversation.reply import SamplerInfo
from ..kernels.verdicts import VerdictRow
from ..machine.chips import Chip
from ..machine.identity import Machine
from ..model.roofline import Bound
from .condition import Condition
from .encoder_head import TextScores
from .linked import LinkRow
from .reads import DecideTimes, ReadTimes


@dataclass(frozen=True)
class Optional:
    """A kind, or null."""

    kind: Any


def kinds(record: Any) -> dict[str, Any]:
    """The kind of each field of a dataclass."""
    return {name: _kind(hint) for name, hint in get_type_hints(record).items()}


def _kind(hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (present,) = (one for one in arguments if one is not NoneType)
        kind = _kind(present)
        return f"{kind}?" if isinstance(kind, str) else Optional(kind)
    if origin is tuple:
        return [_kind(arguments[0])]
    if origin is dict:
        return {"*": _kind(arguments[1])}
    if is_dataclass(hint):
        return kinds(hint)
    return {str: "text", bool: "flag", int: "whole", float: "number"}[hint]


KINDS: Mapping[str, tuple[Any, str]] = {
    "text": (str, "a text"),
    "flag": (bool, "true or false"),
    "whole": (int, "a whole number"),
    "number": ((int, float), "a number"),
}
"""Kind -> the types of a value, and what an error calls the kind."""

PERCENTILES = {"p10": "number", "p50": "number", "p90": "number"}

CANVAS = {
    "steps": "whole",
    "tokens": "whole",
    "prefix": "whole",
    "step_ms": ["number"],
    "caller_ms": ["number"],
    "second_tier_rows": ["whole"],
    "dense_rows": ["whole"],
    "commit_ms": "number?",
    "parts_ms": [{"*": "number"}],
}

ANSWER = {
    "prompt": "text",
    "name": "text",
    "kind": "text",
    "licence": "text",
    "seed": "whole",
    "prompt_tokens": "whole",
    "began": "number",
    "prefill_seconds": "number",
    "first_canvas_seconds": "number",
    "seconds": "number",
    "generated_tokens": "whole",
    "token_ids": ["whole"],
    "finish_reason": "text?",
    "tokens_per_step": "number",
    "canvases": [CANVAS],
}

PROFILE = {
    "schema_version": "whole",
    "version": "text",
    "created": "text",
    "complete": "flag",
    "machine": {
        **kinds(Machine),
        "before": kinds(Condition),
        "after": Optional(kinds(Condition)),
    },
    "model": {
        "name": "text",
        "revision": "text?",
        "layers": "whole",
        "parameters": "whole",
        "canvas_length": "whole",
        "modes": ["text"],
        "vocab_size": "whole",
        "dtype": "text",
        "quantization": {"*": ["text"]},
        "kernels": "text",
    },
    "adapter": "text?",
    "sampler": kinds(SamplerInfo),
    "workload": {
        "kind": "text",
        "steps": "whole?",
        "context": "whole?",
        "prompt_tokens": "number",
        "answers": "whole",
        "planned_answers": "whole",
        "canvases": "whole",
        "seeds": ["whole"],
        "prompts": ["text"],
        "template": "flag",
    },
    "load_seconds": "number",
    "prefill_tokens_per_second": "number",
    "first_canvas_seconds": "number",
    "step_ms": PERCENTILES,
    "step_spread": "number",
    "commit_ms": "number?",
    "steps_per_canvas": ["whole"],
    "share_at_cap": "number",
    "tokens_per_canvas": ["whole"],
    "tokens_per_step": "number",
    "tokens_per_forward": "number",
    "effective_steps": "number",
    "tokens_per_second": "number",
    "tokens_per_second_without_prefill": "number",
    "positions_per_second": "number",
    "gathered_rows_per_step": "number",
    "second_tier_rows_per_step": "number",
    "dense_rows_per_step": "number",
    "caller_ms_per_step": "number",
    "peak_memory_bytes": "whole",
    "components": {
        "*": {
            "ms": "number",
            "share": "number?",
            "gflop": "number",
            "bytes": "number",
            "bound_share": "number?",
        }
    },
    "fences": Optional(
        {
            "plain_step_ms": "number",
            "overhead_ms": "number",
            "overhead_share": "number",
            "fences_per_step": "number",
        }
    ),
    "routing": Optional(
        {
            "experts": "whole",
            "used": "whole",
            "touched": {"mean": "number", "least": "whole", "most": "whole"},
            "touched_by_step": ["number"],
            "rows_per_expert": [{"least": "whole", "most": "whole?", "experts": "number"}],
            "tile_rows": "whole",
            "granule_rows": "whole",
            "tiles": "number",
            "tile_waste": "number",
            "granule_waste": "number",
            "expert_bytes": "number",
        }
    ),
    "link": Optional({"share": "text", "ranks": [kinds(LinkRow)]}),
    "work": {
        "gflop": "number",
        "bytes": "number",
        "experts": "whole",
        "text_experts": "whole",
        "text_bytes": "number",
    },
    "bound": Optional(
        {
            **kinds(Chip),
            **kinds(Bound),
            "text_memory_ms": "number",
            "share": "number",
            "prefill_share": "number",
            "commit_share": "number?",
        }
    ),
    "sustained": Optional(
        {
            "seconds": "number",
            "windows": [{"began": "number", "steps": "whole", "step_ms": "number"}],
            "slowdown": "number",
        }
    ),
    "ar": Optional(
        {
            "sampler": kinds(TokenDefaults),
            "answers": "whole",
            "token_ms": PERCENTILES,
            "tokens_per_second": "number",
            "prefix": "whole",
            "weight_bytes": "number",
            "cache_bytes": "number",
            "launches": "whole",
            "bound_ms": "number?",
            "bound_share": "number?",
            "rows": [{"rows": "whole", "ms": "number", "ratio": "number"}],
            "break_even_steps": "number",
            "break_even_steps_thinking": "number",
            "steps": "number?",
            "ratio": "number?",
            "faster": "text?",
            "answers_token_ms": [["number"]],
        }
    ),
    "baseline": Optional(
        {
            "name": "text",
            "source": "text?",
            "answers": "whole",
            "prefill_tokens_per_second": "number",
            "token_ms": PERCENTILES,
            "tokens_per_second": "number",
            "break_even_tokens_per_step": "number",
            "ratio": "number",
            "ar_ratio": "number?",
            "answers_token_ms": [["number"]],
        }
    ),
    "gentle": Optional(
        {"answers": "whole", "step_ms": PERCENTILES, "ratio": "number", "free_share": "number"}
    ),
    "encoder_head": Optional(
        {
            "prompt_perplexity": "number",
            "answer_perplexity": "number",
            "agreement": "number",
            "agreement_tokens": "whole",
            "token_ms": PERCENTILES,
            "tokens_per_second": "number",
            "texts": [kinds(TextScores)],
            "token_ms_samples": ["number"],
        }
    ),
    "decide": Optional(
        {
            **kinds(DecideTimes),
            "state_ms": PERCENTILES,
            "reads": [{**kinds(ReadTimes), "ms": PERCENTILES}],
            "question_ms": PERCENTILES,
        }
    ),
    "healthy": "flag?",
    "verdicts": [kinds(VerdictRow)],
    "warnings": ["text"],
    "answers": [ANSWER],
}

ADDED = frozenset(
    {
        "complete",
        "adapter",
        "sampler.ar",
        "model.modes",
        "ar",
        "baseline.source",
        "baseline.ar_ratio",
        "verdicts",
        "healthy",
        "tokens_per_forward",
        "effective_steps",
        "gathered_rows_per_step",
        "second_tier_rows_per_step",
        "caller_ms_per_step",
        "gentle",
        "decide",
        "routing",
        "link",
        "work.experts",
        "work.text_experts",
        "work.text_bytes",
        "bound.text_memory_ms",
        "answers[].prompt",
        "answers[].canvases[].caller_ms",
        "answers[].canvases[].second_tier_rows",
    }
)  # keys that files of version 1 from before them lack, and `prompt`, which --send leaves out

INDEX = re.compile(r"\[\d+\]")


def problems(value: Any, kind: Any = PROFILE, at: str = "") -> Iterator[str]:
    """Deviations of `value` from `kind`, each in one line that begins with its path."""
    match kind:
        case Optional():
            if value is not None:
                yield from problems(value, kind.kind, at)
        case str():
            if not _is(value, kind):
                yield f"{at or 'the file'} is {_short(value)}, expected {_said(kind)}"
        case list():
            yield from _list_problems(value, kind[0], at)
        case _:
            yield from _object_problems(value, kind, at)


def _list_problems(value: Any, kind: Any, at: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{at} is {_short(value)}, expected a list"
        return
    for number, item in enumerate(value):
        yield from problems(item, kind, f"{at}[{number}]")


def _object_problems(value: Any, kinds: Mapping[str, Any], at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at or 'the file'} is {_short(value)}, expected an object"
        return
    if "*" in kinds:
        kinds = dict.fromkeys(value, kinds["*"])
    for name in kinds.keys() | value.keys():
        path = f"{at}.{name}" if at else name
        if name not in value:
            if INDEX.sub("[]", path) not in ADDED:
                yield f"{path} is missing"
        elif name not in kinds:
            yield f"{path} is unknown"
        else:
            yield from problems(value[name], kinds[name], path)


def _is(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    name = kind.removesuffix("?")
    if isinstance(value, bool):
        return name == "flag"
    return isinstance(value, KINDS[name][0]) and (name != "number" or math.isfinite(value))


def _said(kind: str) -> str:
    said = KINDS[kind.removesuffix("?")][1]
    return f"{said} or null" if kind.endswith("?") else said


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
