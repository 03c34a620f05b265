"""A step by part in the report of `profile`, and the experts that the router chose."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import counted
from ...model.memory import sized

Values = Mapping[str, Any]


def component_lines(profile: Values) -> Iterator[str]:
    """A table of the parts, and what waiting for them took."""
    fences = profile["fences"]
    yield f"{'a step by part':<18}{'ms':>10}{'share':>8}{'GFLOP':>10}{'read':>12}{'of bound':>10}"
    for name, part in profile["components"].items():
        share = "" if part["share"] is None else f"{part['share']:.1%}"
        counted = part["gflop"] > 0
        work = f"{part['gflop']:.4g}" if counted else ""
        read = sized(round(part["bytes"])) if counted else ""
        bound = "" if part["bound_share"] is None else f"{part['bound_share']:.0%}"
        row = f"{name:<18}{part['ms']:>10.4g}{share:>8}{work:>10}{read:>12}{bound:>10}"
        yield row.rstrip()
    total = sum(part["ms"] for part in profile["components"].values())
    yield f"{'sum':<18}{total:>10.4g}   the same steps without fences {fences['plain_step_ms']:.4g}"
    yield waiting(fences)


def waiting(fences: Values) -> str:
    """The time that fences took: a difference of two times, which noise may make negative."""
    times = counted(round(fences["fences_per_step"]), "time")
    if fences["overhead_ms"] <= 0:
        return f"waiting {times} a step took less than its steps differ by: nothing is taken off"
    return (
        f"waiting {times} a step took {fences['overhead_ms']:.3g} ms "
        f"({fences['overhead_share']:.1%} of it), taken off above"
    )


def link_lines(link: Values) -> Iterator[str]:
    """What each Mac computes of a step, and what it waits for between layers and sends."""
    yield f"the link by {link['share']}: ms of a step in its fenced repetition, wait + transfer"
    for rank in link["ranks"]:
        layer = f"{rank['layer_wait_ms']:.3g} + {rank['layer_transfer_ms']:.3g}"
        rows, layers = counted(rank["rows"], "row"), counted(rank["layers"], "layer")
        yield f"  {rank['mac']}: {rows}, {layers}; a layer {layer}"
        for each in rank["messages"]:
            took = f"{each['wait_ms']:.3g} + {each['transfer_ms']:.3g}"
            size = sized(each["bytes"])
            yield f"    {each['name']:<18}{each['calls']:>5} x {size:>9} in all  {took}"


def routing_lines(routing: Values, work: Values) -> Iterator[str]:
    """The router's choices: experts that are used, their rows, tiles and bytes."""
    touched, by_step = routing["touched"], routing["touched_by_step"]
    yield (
        f"experts of a layer used in a step: {touched['mean']:.4g} of {routing['experts']} "
        f"({touched['least']} to {touched['most']}; {by_step[0]:.4g} in a canvas's first step, "
        f"{by_step[-1]:.4g} in the last; {work['text_experts']} is the share published for text)"
    )
    rows = (f"{row['experts']:.3g} x {_span(row)}" for row in routing["rows_per_expert"])
    yield f"  experts by rows       {', '.join(rows)}"
    yield (
        f"  tiles of {routing['tile_rows']} rows      {routing['tiles']:.4g} a layer; "
        f"{routing['tile_waste']:.0%} of their rows are empty, {routing['granule_waste']:.0%} in "
        f"steps of {routing['granule_rows']}"
    )
    yield f"  their weights         {sized(round(routing['expert_bytes']))} a step, read once"


def decision_lines(found: Values) -> Iterator[str]:
    """Reads of decisions by questions and samples, and a new question on a state."""
    state, question = found["state_ms"], found["question_ms"]
    yield (
        f"decisions about a state of {counted(found['state_tokens'], 'token')}, which takes "
        f"{state['p50']:.4g} ms to encode"
    )
    yield f"  {'questions':<11}{'samples':>8}{'rows':>7}{'ms':>10}{'GFLOP':>10}{'bytes':>12}"
    for read in found["reads"]:
        rows, size = read["samples"] * read["width"], sized(round(read["bytes"]))
        bound = read["bound_ms"]
        of_bound = "" if bound is None else f"; {bound / read['ms']['p50']:.0%} of the chip's bound"
        yield (
            f"  {read['questions']:<11}{read['samples']:>8}{rows:>7}{read['ms']['p50']:>10.4g}"
            f"{read['gflop']:>10.4g}{size:>12}{of_bound}"
        )
    yield (
        f"  a new question of {counted(found['question_tokens'], 'token')} on the state, read with "
        f"4 samples: {question['p50']:.4g} ms, {found['questions_per_second']:.3g} a second"
    )


def _span(row: Values) -> str:
    if row["most"] is None:
        return f"{row['least']}+"
    return f"{row['least']}" if row["least"] == row["most"] else f"{row['least']}-{row['most']}"
