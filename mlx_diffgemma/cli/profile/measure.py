"""The work of `profile`: a model loaded, measured, and its figures printed and written."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...conversation.session import Session
from ...machine.awake import awake
from ...machine.identity import Machine
from ...profile import encoder_head, reads
from ...profile.baseline import load_baseline, require_autoregressive
from ...profile.chrome_trace import chrome_trace
from ...profile.condition import condition
from ...profile.measurement import Measurement
from ...profile.report import to_json, without_prompts
from ...profile.run import run
from ...profile.workload import Workload
from ..answer.media import Media
from ..errors import exit_code
from ..macs.group import Group
from ..macs.loading import digested, load_together
from ..models.consent import ask_on_terminal, find
from ..options import ModelOptions
from ..record.outfile import Kind, OutFile, json_object
from ..terminal.output import write_lines
from ..terminal.progress import Bar
from ..terminal.streams import say
from .options import MeasureOptions
from .send import short_name, where_to_post
from .text import lines


def _is_profile(file: Path) -> bool:
    return {"schema_version", "machine", "answers"} <= json_object(file).keys()


def _is_events(file: Path) -> bool:
    value = json_object(file)
    return "traceEvents" in value and value.get("displayTimeUnit") == "ms" and "otherData" in value


PROFILE, EVENTS = Kind("profile", _is_profile), Kind("Chrome trace", _is_events)


@dataclass(frozen=True)
class Plan:
    """A measurement to make.

    sustained_seconds: how long it goes on; group: the Macs that share the model; gentle: answers
    with pauses, too; send: its figures are written to be handed in.
    """

    workload: Workload
    measure: MeasureOptions
    sustained_seconds: float | None
    machine: Machine
    group: Group = field(default_factory=Group)
    gentle: bool = False
    send: bool = False


def measure_model(model: ModelOptions, plan: Plan, outputs: Sequence[OutFile | None]) -> int:
    """The whole measurement, or after an interrupt or an error the answers that are finished.

    outputs: for the figures and for the trace.
    """
    measured = _prepared(model, plan)
    try:
        with awake():
            _run(measured, plan)
    except (KeyboardInterrupt, Exception) as error:  # out of memory after an hour, for one
        measured.complete = False
        _hand_over(measured, outputs, send=plan.send)
        if not isinstance(error, KeyboardInterrupt):
            raise
        say(f"interrupted: {measured.progress} measured.")
        return exit_code(error)
    _hand_over(measured, outputs, send=plan.send)
    return 0


def _hand_over(measured: Measurement, outputs: Sequence[OutFile | None], *, send: bool) -> None:
    """Print the report and write the files, each whatever becomes of the others.

    Nobody may be reading what is printed: what was measured is kept all the same. A file on
    standard output takes the report's place there.
    """
    if not measured.records:
        return
    profile = to_json(measured)
    written = without_prompts(profile) if send else profile
    with ExitStack() as stack:
        for out, content in zip(outputs, (written, chrome_trace(measured)), strict=True):
            if out:
                stack.callback(_write, out, content, to_post=send and content is written)
        if not any(out and out.is_stdout for out in outputs):
            write_lines(lines(profile))


def _write(out: OutFile, content: Mapping[str, Any], *, to_post: bool) -> None:
    out.write_line(content)
    out.finish()
    if to_post:
        say(where_to_post(out.file))


def _run(measured: Measurement, plan: Plan) -> None:
    asked = plan.measure
    with Bar("measuring") as bar:
        run(
            measured,
            components=asked.components,
            gentle=plan.gentle,
            sustained=plan.sustained_seconds,
            progress=bar,
        )
    if asked.encoder_head:
        with Bar("reading causally") as bar:
            measured.encoder_head = encoder_head.measure_encoder_head(
                measured.session, measured.records, progress=bar
            )
    if asked.decide:
        tokens = measured.records[0].question.tokens
        with Bar("deciding") as bar:
            measured.decide = reads.measure_reads(
                measured.session, measured.machine, tokens, progress=bar
            )


def _prepared(model: ModelOptions, plan: Plan) -> Measurement:
    """The model loaded, the baseline beside it, and nothing measured yet."""
    other, baseline = None, plan.measure.baseline
    if baseline is not None:
        consent = ask_on_terminal(foreign=True)
        other = find(baseline, offline=model.offline, consent=consent).folder
        require_autoregressive(short_name(baseline), other)
    session = _session(model, plan)
    measured = Measurement(
        session, short_name(model.name), plan.workload, plan.machine, condition()
    )
    if baseline is not None and other:
        measured.baseline = load_baseline(short_name(baseline), other, session, force=model.force)
    return measured


def _session(model: ModelOptions, plan: Plan) -> Session:
    """The session, on each Mac with its share of the model, for the same workload."""
    facts = digested(plan.workload)
    session, _ = load_together(plan.group, model, plan.workload.settings, Media, facts)
    return session
