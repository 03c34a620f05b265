"""Comparison of two profiles: every difference, and a test against noise."""

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
LEAST, MOST = 1e-9, 1e12  # of a sample, whatever its unit: with these no ratio leaves a double


@dataclass(frozen=True)
class Row:
    """One figure of two runs."""

    name: str
    unit: str
    more_is_better: bool
    change: Change

    @property
    def verdict(self) -> str:
        """The change in a few words."""
        if not math.isfinite(self.change.high):
            return "one sample: no interval"
        if not self.change.differs:
            return "no difference"
        return "better" if (self.change.share > 0) == self.more_is_better else "worse"


def read_profile(file: Path) -> dict[str, Any]:
    """The profile in a file that `profile --json` wrote; ProfileError for any other file."""
    try:
        value = read_json(file)
    except OSError as error:
        raise ProfileError(f"{file}: {error.strerror or one_line(error)}.") from None
    except ValueError as error:
        raise ProfileError(
            f"{file} is not JSON ({one_line(error)}); give what `profile --json` wrote."
        ) from None
    if not isinstance(value, dict) or "schema_version" not in value:
        raise ProfileError(
            f"{file} is no profile: it has no schema_version; give what `profile --json` wrote."
        )
    version = value["schema_version"]
    if version != SCHEMA_VERSION:
        raise ProfileError(
            f"{file} has schema version {version!r}, expected {SCHEMA_VERSION}; give what "
            "`profile --json` of this version wrote."
        )
    if problem := next(problems(value), None) or next(_unmeasured(value), None):
        raise ProfileError(f"{file} is no whole profile: {problem}; measure again.")
    return dict(value)


def _unmeasured(profile: Profile) -> Iterator[str]:
    """One line for each sample that is missing or out of range, which no measurement gives."""
    if not profile["answers"]:
        yield "answers is empty"
    for row, answer in enumerate(profile["answers"]):
        at = f"answers[{row}]"
        if not answer["canvases"]:
            yield f"{at}.canvases is empty"
        times = ("prefill_seconds", "first_canvas_seconds", "seconds")
        yield from _unreal(answer, at, ("prompt_tokens", "generated_tokens", *times))
        for number, canvas in enumerate(answer["canvases"]):
            at = f"answers[{row}].canvases[{number}]"
            yield from _unreal(canvas, at, ("steps", "tokens", "commit_ms"))
            yield from _unreal_times(canvas["step_ms"], f"{at}.step_ms")
    for row, times in enumerate((profile.get("ar") or {}).get("answers_token_ms", ())):
        yield from _unreal_times(times, f"ar.answers_token_ms[{row}]")
    for row, read in enumerate(_reads(profile)):
        yield from _unreal_times(read["ms_samples"], f"decide.reads[{row}].ms_samples")


def _unreal_times(times: Sequence[float], at: str) -> Iterator[str]:
    if not times or not all(map(_real, times)):
        yield f"{at} is empty, or not all of it is {LEAST:g} to {MOST:g}"


def _unreal(value: Mapping[str, Any], at: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if value[name] is not None and not _real(value[name]):
            yield f"{at}.{name} is {value[name]:g}, expected {LEAST:g} to {MOST:g}"


def _real(sample: float) -> bool:
    return LEAST < sample < MOST


def require_comparable(first: Profile, second: Profile, files: tuple[Path, Path]) -> None:
    """ProfileError, with the first difference, for two runs of different work.

    A key that a file of before it lacks counts as null.
    """
    other = _conditions(second)
    for key, value in _conditions(first).items():
        if value != other.get(key):
            raise ProfileError(
                f"{files[0]} and {files[1]} differ in {key}: {_shown(value)} and "
                f"{_shown(other.get(key))}; measure under the same conditions, or compare all "
                "the same with --anyway."
            )


def is_complete(profile: Profile) -> bool:
    """False for a run that was interrupted; files of before the key tell nothing else."""
    return bool(profile.get("complete", True))


def compare(first: Profile, second: Profile) -> list[Row]:
    """Every figure that both runs have samples of."""
    one, other = _samples(first), _samples(second)
    return [
        Row(name, unit, more_is_better, change(one[name], other[name], figure))
        for name, (unit, more_is_better, figure) in FIGURES.items()
        if one[name] and other[name]
    ]


def _samples(profile: Profile) -> dict[str, list[Group]]:
    """The samples of each figure, by its name."""
    answers = profile["answers"]
    canvases = [canvas for answer in answers for canvas in answer["canvases"]]
    commits = [canvas["commit_ms"] for canvas in canvases]
    return {
        "step": [canvas["step_ms"] for canvas in canvases],
        "token": (profile.get("ar") or {}).get("answers_token_ms", []),
        "commit": [[ms] for ms in commits if ms is not None],
        "a read": [
            [ms]
            for read in _reads(profile)
            if (read["questions"], read["samples"]) == (1, 4)
            for ms in read["ms_samples"]
        ],
        "prefill": [[answer["prompt_tokens"] / answer["prefill_seconds"]] for answer in answers],
        "first canvas": [[answer["first_canvas_seconds"]] for answer in answers],
        "tokens a step": [(canvas["tokens"], canvas["steps"]) for canvas in canvases],
        "tokens/s": [(answer["generated_tokens"], answer["seconds"]) for answer in answers],
    }


def _reads(profile: Profile) -> Sequence[Mapping[str, Any]]:
    """The reads of decisions that were timed."""
    found: Sequence[Mapping[str, Any]] = (profile.get("decide") or {}).get("reads", ())
    return found


def _ratio(groups: Sequence[Group]) -> float:
    """Groups of (tokens, steps or seconds) -> tokens a step or a second."""
    return float(sum(group[0] for group in groups) / sum(group[1] for group in groups))


FIGURES: Mapping[str, tuple[str, bool, Figure]] = {
    "step": ("ms", False, pooled_median),
    "token": ("ms", False, pooled_median),
    "commit": ("ms", False, pooled_median),
    "a read": ("ms", False, pooled_median),
    "prefill": ("tokens/s", True, pooled_median),
    "first canvas": ("s", False, pooled_median),
    "tokens a step": ("", True, _ratio),
    "tokens/s": ("", True, _ratio),
}
"""Name -> unit, True where more is better, and the figure of the samples."""


def _conditions(profile: Profile) -> dict[str, Any]:
    """The choices that two runs must share, under their keys in a file."""
    model, workload = profile["model"], profile["workload"]
    sizes = ("layers", "parameters", "canvas_length", "vocab_size")
    names = ("kind", "steps", "prompt_tokens", "prompts")
    return {
        **{f"sampler.{name}": value for name, value in profile["sampler"].items()},
        **{f"model.{name}": model[name] for name in (*sizes, "quantization", "dtype")},
        "adapter": profile.get("adapter"),
        "workload.context": _context(workload),
        **{f"workload.{name}": workload[name] for name in names},
    }


def _context(workload: Profile) -> Any:
    """Prefix positions of a run's first canvases; None where every prompt had its own number.

    Fixed steps have one number even if no --context was given.
    """
    own = workload["kind"] == "adaptive"
    return workload["context"] or (None if own else workload["prompt_tokens"])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
