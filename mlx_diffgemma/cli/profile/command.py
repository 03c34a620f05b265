"""`profile`: the cost of a step on this machine; `profile compare`: two such measurements."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import ArgumentError, exit_code
from ..options import ModelOptions
from ..parameters import flattened
from ..terminal.streams import say
from . import options

if TYPE_CHECKING:
    from ...profile.measurement import Measurement
    from ...profile.workload import Workload
    from ..record.outfile import OutFile

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@flattened(without=("no_tune",), last=("dtype", "offline", "force"))
def command(
    ctx: typer.Context,
    *,
    model: ModelOptions,
    workload: options.WorkloadOptions,
    measure: options.MeasureOptions,
    tuning: options.TuneOptions,
    files: options.FileOptions,
) -> int:
    """Measure a model on this machine: steps, prefill, tokens per step, memory, and its bounds.

    Two canvases warm up, then at least five are measured. The default, 16 steps behind 1024 tokens,
    compares machines; --steps adaptive measures what answers take. Ctrl-C prints what is finished.
    """
    if ctx.invoked_subcommand is not None:
        return _refuse_options(ctx)
    if tuning.tune or tuning.tune_dtype:
        return _tune(ctx, model, tuning)
    from ..record.outfile import OutFile

    untuned = replace(model, no_tune=True)  # figures that machines are compared by
    plan = Plan(workload.workload(), measure, measure.sustained_seconds())
    if files.json_file and files.trace and files.json_file.resolve() == files.trace.resolve():
        raise ArgumentError(f"--json and --trace both name {files.trace}; give two files.")
    with ExitStack() as stack:
        outputs = [
            stack.enter_context(OutFile(file, what)) if file else None
            for file, what in ((files.json_file, "the profile"), (files.trace, "the trace"))
        ]
        return _measure(untuned, plan, outputs)


def _tune(ctx: typer.Context, model: ModelOptions, tuning: options.TuneOptions) -> int:
    from .tune import tune

    if not tuning.tune:
        raise ArgumentError("--tune-dtype goes with --tune; give both.")
    allowed = {field.name for group in (model, tuning) for field in fields(group)}
    for name in _given(ctx):
        if name not in allowed:
            raise ArgumentError(f"{_typed(ctx, name)} and --tune measure apart; leave one out.")
    return tune(replace(model, no_tune=True), tune_dtype=tuning.tune_dtype)


@app.command("compare")
def compare_command(
    first: options.FirstFile,
    second: options.SecondFile,
    anyway: options.Anyway = False,
) -> int:
    """Compare two measurements: by how much B differs from A, and whether that is more than noise.

    Intervals are 95%, by a bootstrap over canvases; where one contains 0 there is no difference.
    """
    from ...profile.comparison import compare, read_profile, require_comparable
    from ..terminal.output import write_lines
    from .text import comparison_lines

    profiles = read_profile(first), read_profile(second)
    if not anyway:
        require_comparable(*profiles)
    write_lines(comparison_lines(compare(*profiles)))
    return 0


@dataclass(frozen=True)
class Plan:
    """A measurement to make; sustained_seconds: how long it goes on."""

    workload: "Workload"
    measure: options.MeasureOptions
    sustained_seconds: float | None


def _measure(model: ModelOptions, plan: Plan, outputs: "list[OutFile | None]") -> int:
    measured = _prepared(model, plan)
    try:
        _run(measured, plan)
    except (KeyboardInterrupt, Exception) as error:  # out of memory after an hour, for one
        if measured.records:
            _show(measured)
        if not isinstance(error, KeyboardInterrupt):
            raise
        count = len(measured.records)
        say(f"interrupted: {count} of {plan.workload.answers} answers measured.")
        return exit_code(error)
    try:
        _show(measured)
    finally:  # nobody may be reading what is printed: what was measured is kept all the same
        _write(measured, outputs)
    return 0


def _run(measured: "Measurement", plan: Plan) -> None:
    from ...profile.encoder_head import measure_encoder_head
    from ...profile.run import run
    from ..terminal.progress import Bar

    with Bar("measuring") as bar:
        run(
            measured,
            components=plan.measure.components,
            sustained=plan.sustained_seconds,
            progress=bar,
        )
    if plan.measure.encoder_head:
        with Bar("reading causally") as bar:
            measured.encoder_head = measure_encoder_head(
                measured.session, measured.records, progress=bar
            )


def _prepared(model: ModelOptions, plan: Plan) -> "Measurement":
    """The model loaded, the baseline beside it, and nothing measured yet."""
    from ...checkpoint.hub import find_model
    from ...diffusion.settings import Settings
    from ...machine.identity import this_machine
    from ...profile.baseline import load_baseline, require_autoregressive
    from ...profile.condition import condition
    from ...profile.measurement import Measurement
    from ..answer.consent import ask_on_terminal
    from ..answer.loading import load_session

    other, baseline = None, plan.measure.baseline
    if baseline is not None:
        other = find_model(baseline, offline=model.offline, consent=ask_on_terminal()).folder
        require_autoregressive(_model_name(baseline), other)
    session = load_session(model, Settings())
    name, workload = _model_name(model.model), plan.workload
    measured = Measurement(session, name, workload, this_machine(), condition())
    if baseline is not None and other:
        short = _model_name(baseline)
        measured.baseline = load_baseline(short, other, session, force=model.force)
    return measured


def _model_name(given: str | None) -> str:
    """The user's name for a model; of a folder its last part: paths are nobody's business."""
    from ...checkpoint.hub import default_model

    name = default_model() if given is None else given
    folder = Path(name)
    return folder.resolve().name if folder.exists() else name


def _show(measured: "Measurement") -> None:
    from ...profile.report import to_json
    from ..terminal.output import write_lines
    from .text import lines

    write_lines(lines(to_json(measured)))


def _write(measured: "Measurement", outputs: "list[OutFile | None]") -> None:
    import json

    from ...profile.chrome_trace import chrome_trace
    from ...profile.report import to_json

    for output, content in zip(outputs, (to_json, chrome_trace), strict=True):
        if output:
            output.write_text(
                json.dumps(content(measured), allow_nan=False, ensure_ascii=False) + "\n"
            )


def _refuse_options(ctx: typer.Context) -> int:
    """ArgumentError for options of a measurement before a command that makes none."""
    for name in _given(ctx):
        raise ArgumentError(
            f"{_typed(ctx, name)} before {ctx.invoked_subcommand} "
            f"means nothing; see `{ctx.command_path} {ctx.invoked_subcommand} --help`."
        )
    return 0


def _given(ctx: typer.Context) -> Iterator[str]:
    """The parameters that the user has set, a default's value among them."""
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield name


def _typed(ctx: typer.Context, name: str) -> str:
    """An option as a user types it."""
    return next(option.opts[0] for option in ctx.command.params if option.name == name)
