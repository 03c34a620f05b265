"""Two profiles side by side: what differs, and whether that is more than noise."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ProfileError, one_line
from ..machine.files import read_json
from .report import SCHEMA_VERSION
from .schema import problems
from .statistics import Change, Figure, Group, change, pooled_median

Profile = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One figure of two runs; better: whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool
    change: Change

    @property
    def verdict(self) -> str:
        """In a few words."""
        if not math.isfinite(self.change.high):
            return "one sample: no interval"
        if not self.change.differs:
            return "no difference"
        return "better" if (self.change.share > 0) == self.more_is_better else "worse"


def read_profile(file: Path) -> dict[str, Any]:
    """A profile that `profile --json` wrote; ProfileError for anything else."""
    try:
        value = read_json(file)
    except OSError as error:
        raise ProfileError(f"{file}: {error.strerror or one_line(error)}.") from None
    except ValueError as error:
        raise ProfileError(
            f"{file} is not JSON ({one_line(error)}); give what `profile --json` wrote."
        ) from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise ProfileError(
            f"{file} has schema version {version!r}, expected {SCHEMA_VERSION}; give what "
            "`profile --json` of this version wrote."
        )
    if problem := next(problems(value), None) or next(_unmeasured(value), None):
        raise ProfileError(f"{file} is no whole profile: {problem}; measure again.")
    return dict(value)


def _unmeasured(profile: Profile) -> Iterator[str]:
    """Samples that are missing or not above 0, which no measurement gives: in place, one by one."""
    if not profile["answers"]:
        yield "answers is empty"
    for number, answer in enumerate(profile["answers"]):
        at = f"answers[{number}]"
        if not answer["canvases"]:
            yield f"{at}.canvases is empty"
        times = ("prefill_seconds", "first_canvas_seconds", "seconds")
        yield from _not_above_0(answer, at, ("prompt_tokens", "generated_tokens", *times))
        for place, canvas in enumerate(answer["canvases"]):
            at = f"answers[{number}].canvases[{place}]"
            yield from _not_above_0(canvas, at, ("steps", "tokens", "commit_ms"))
            if not canvas["step_ms"] or min(canvas["step_ms"]) <= 0:
                yield f"{at}.step_ms is empty or not above 0"


def _not_above_0(value: Mapping[str, Any], at: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if value[name] is not None and value[name] <= 0:
            yield f"{at}.{name} is {value[name]}, expected more than 0"


def require_comparable(first: Profile, second: Profile) -> None:
    """ProfileError for two runs of different work, naming the first difference."""
    for what, one, other in _conditions(first, second):
        if one != other:
            raise ProfileError(
                f"the two runs differ in {what}: {_shown(one)} and {_shown(other)}; measure under "
                "the same conditions, or compare all the same with --anyway."
            )


def compare(first: Profile, second: Profile) -> list[Row]:
    """Every figure that both runs have samples of."""
    rows = []
    for name, unit, more_is_better, figure in FIGURES:
        one, other = _samples(name, first), _samples(name, second)
        if one and other:
            rows.append(Row(name, unit, more_is_better, change(one, other, figure)))
    return rows


def _per_step(groups: Sequence[Group]) -> float:
    """Groups of (tokens, steps) -> tokens a step."""
    return float(sum(group[0] for group in groups) / sum(group[1] for group in groups))


FIGURES: tuple[tuple[str, str, bool, Figure], ...] = (
    ("step", "ms", False, pooled_median),
    ("commit", "ms", False, pooled_median),
    ("prefill", "tokens/s", True, pooled_median),
    ("first canvas", "s", False, pooled_median),
    ("tokens a step", "", True, _per_step),
    ("tokens/s", "", True, _per_step),
)


def _samples(name: str, profile: Profile) -> list[Group]:
    answers = profile["answers"]
    canvases = [canvas for answer in answers for canvas in answer["canvases"]]
    match name:
        case "step":
            return [canvas["step_ms"] for canvas in canvases]
        case "commit":
            return [[c["commit_ms"]] for c in canvases if c["commit_ms"] is not None]
        case "prefill":
            return [[a["prompt_tokens"] / a["prefill_seconds"]] for a in answers]
        case "first canvas":
            return [[answer["first_canvas_seconds"]] for answer in answers]
        case "tokens a step":
            return [(c["tokens"], c["steps"]) for c in canvases]
        case _:
            return [(answer["generated_tokens"], answer["seconds"]) for answer in answers]


def _conditions(first: Profile, second: Profile) -> Iterator[tuple[str, Any, Any]]:
    def both(*path: str) -> tuple[Any, Any]:
        one: Any = first
        other: Any = second
        for name in path:
            one, other = one[name], other[name]
        return one, other

    for name in first["sampler"]:
        yield f"the sampler ({name})", *both("sampler", name)
    for name in ("layers", "parameters", "canvas_length", "vocab_size"):
        yield f"the model ({name})", *both("model", name)
    yield "quantisation", *both("model", "quantization")
    yield "the dtype", *both("model", "dtype")
    yield "the workload (context)", _context(first), _context(second)
    for name in ("kind", "steps", "prompt_tokens", "prompts"):
        yield f"the workload ({name})", *both("workload", name)


def _context(profile: Profile) -> Any:
    """Positions behind which a run was measured: fixed steps have some though none were asked for.

    None where every prompt had its own.
    """
    workload = profile["workload"]
    own = workload["kind"] == "adaptive"
    return workload["context"] or (None if own else workload["prompt_tokens"])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
