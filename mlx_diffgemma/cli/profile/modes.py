"""Mode ar in the report of `profile`, and the sentence on which mode is the faster one."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import counted
from ...model.memory import sized

Values = Mapping[str, Any]


def rows(profile: Values) -> Iterator[tuple[str, str]]:
    """The lines of mode ar beside those of a step; one that says why, where there are none."""
    found = profile["ar"]
    if found is None:
        yield "mode ar", missing(profile)
        return
    token = found["token_ms"]
    share = found["bound_share"]
    of_bound = "" if share is None else f"; {share:.0%} of the bound by the chip's memory"
    yield (
        "a token",
        f"{token['p50']:.4g} ms in mode ar (p10 {token['p10']:.4g}, p90 {token['p90']:.4g}), "
        f"{found['tokens_per_second']:.4g} tokens/s{of_bound}",
    )
    read, cached = (sized(round(found[name])) for name in ("weight_bytes", "cache_bytes"))
    yield (
        "a token reads",
        f"{read} of weights, {cached} of keys and values behind "
        f"{counted(found['prefix'], 'position')}; {found['launches']:,} launches (arithmetic)",
    )
    if found["rows"]:
        yield "rows at once", ", ".join(_row(row) for row in found["rows"])
    yield (
        "break-even",
        f"{found['break_even_steps']:.3g} steps a canvas take as long as its tokens in mode ar, "
        f"{found['break_even_steps_thinking']:.3g} with a thought",
    )


def _row(row: Values) -> str:
    ratio = "" if row["rows"] == 1 else f" ({row['ratio']:.2f}x)"
    return f"{row['rows']}: {row['ms']:.4g} ms{ratio}"


def missing(profile: Values) -> str:
    """The reason for which there are no figures of mode ar."""
    if "ar" not in profile["model"]["modes"]:
        return "none: this checkpoint was trained without the next-token loss"
    if profile.get("link"):
        return "not measured where several Macs share a model"
    if profile["sustained"]:
        return "not measured: a sustained run is of denoising alone"
    return "not measured: the run ended before"


def sentence(profile: Values) -> Iterator[str]:
    """The summary's sentence: below how many steps diffusion is faster, and if it was here."""
    found = profile["ar"]
    if found is None:
        return
    times = (
        f"Here a token takes {found['token_ms']['p50']:.3g} ms and a step "
        f"{profile['step_ms']['p50']:.3g} ms: "
    )
    yield f"{times}{_limit(profile, found)}{_measured(found)}"


def _limit(profile: Values, found: Values) -> str:
    even, canvas = found["break_even_steps"], profile["model"]["canvas_length"]
    if even < 1:
        return f"even 1 step takes longer than the {canvas} tokens of a canvas in mode ar; use ar."
    thought = found["break_even_steps_thinking"]
    return (
        f"where canvases of {canvas} tokens are filled, diffusion is faster below {even:.3g} steps "
        f"a canvas ({thought:.3g} with a thought), mode ar above."
    )


def _measured(found: Values) -> str:
    if found["ratio"] is None:
        return ""
    took = f" The measured answers took {found['steps']:.3g} steps a canvas:"
    if found["faster"] is None:
        return f"{took} as long as their tokens take in mode ar; use either."
    if found["faster"] == "diffusion":
        return f"{took} in mode ar their tokens take {found['ratio']:.3g}x as long; use diffusion."
    return f"{took} in mode ar their tokens come {1 / found['ratio']:.3g}x as fast; use ar."
