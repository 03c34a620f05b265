"""`profile`: the cost of a step on this machine; `profile compare`: two such measurements."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import ArgumentError
from ..macs.options import ShareOptions, started
from ..options import ModelOptions
from ..parameters import flattened, source
from . import options

if TYPE_CHECKING:
    from ..macs.group import Group
    from .measure import Plan

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@flattened(without=("no_tune",), last=("adapter", "dtype", "offline", "force", "gentle"))
def command(
    ctx: typer.Context,
    *,
    model: ModelOptions,
    workload: options.WorkloadOptions,
    measure: options.MeasureOptions,
    tuning: options.TuneOptions,
    files: options.FileOptions,
    shared: ShareOptions,
) -> int:
    """Measure a model on this machine: steps, prefill, tokens per step, memory, and its bounds.

    Two canvases warm up, then at least five are measured. The default, 16 steps behind 1024 tokens,
    compares machines; --steps adaptive measures what answers take. Ctrl-C prints what is finished,
    and writes it to the files. Several Macs are measured with --components, and what the link
    between them takes of each layer.
    """
    if ctx.invoked_subcommand is not None:
        return _refuse_options(ctx)
    if tuning.tune or tuning.tune_dtype:
        return _tune(ctx, model, tuning)
    from ..macs.group import joined
    from ..macs.launch import launch

    if shared.wanted:
        measure.require_shareable(gentle=model.gentle)
    if shared.launches:
        return launch(shared, started(ctx))
    with joined(shared) as group:
        return group.code(_measure(model, workload, measure, files, group, shared.macs))


def _measure(
    model: ModelOptions,
    workload: options.WorkloadOptions,
    measure: options.MeasureOptions,
    files: options.FileOptions,
    group: "Group",
    macs: Path | None,
) -> int:
    from ...machine.identity import this_machine
    from ..record.outfile import Wanted, open_files, taken_by
    from .measure import EVENTS, PROFILE, Plan, measure_model

    if group.share.rank:  # rank 0 writes all files
        files = options.FileOptions()
    # Figures that machines are compared by: untuned, and pauses measured apart.
    plain = replace(model, no_tune=True, gentle=False)
    asked, seconds, machine = workload.workload(), measure.sustained_seconds(), this_machine()
    measure = measure if group.share.alone else replace(measure, components=True)
    plan = Plan(asked, measure, seconds, machine, group, gentle=model.gentle, send=files.send)
    json_file = _to_send(files, plan, model.name) if files.send else files.json_file
    wanted = [
        Wanted("--json", json_file, PROFILE) if json_file else None,
        Wanted("--trace", files.trace, EVENTS) if files.trace else None,
    ]
    models = [name for name in (model.name, measure.baseline) if name]
    reads = [place for name in models for place in taken_by(name, macs=macs)]
    with open_files(wanted, reads, overwrite=files.overwrite) as outputs:
        return measure_model(plain, plan, outputs)


def _to_send(files: options.FileOptions, plan: "Plan", model: str) -> Path:
    """The file of --send: that of --json, which has to be one, or a new one."""
    from ..record.outfile import is_standard_output
    from .send import file_to_send

    if files.json_file is None:
        kind = "fixed" if plan.workload.fixed else "adaptive"
        return file_to_send(plan.machine, model, kind)
    if is_standard_output(files.json_file):
        raise ArgumentError(
            "--send writes a file to post, not standard output; name one to --json."
        )
    return files.json_file


def _tune(ctx: typer.Context, model: ModelOptions, tuning: options.TuneOptions) -> int:
    from .tune import tune

    if not tuning.tune:
        raise ArgumentError("--tune-dtype goes with --tune; give both.")
    allowed = {field.name for group in (model, tuning) for field in fields(group)}
    for name in _given(ctx):
        if name not in allowed or name in ("adapter", "gentle"):
            raise ArgumentError(f"{_typed(ctx, name)} and --tune measure apart; leave one out.")
    return tune(replace(model, no_tune=True), tune_dtype=tuning.tune_dtype)


@app.command("compare")
@flattened()
def compare_command(given: options.ComparisonOptions) -> int:
    """Compare two measurements: by how much B differs from A, and whether that is more than noise.

    Intervals are 95%, by a bootstrap over canvases; where one contains 0 there is no difference.
    """
    from ...profile.comparison import compare, read_profile, require_comparable
    from ..terminal.output import write_lines
    from .comparison import comparison_lines

    files = given.first, given.second
    first, second = (read_profile(file) for file in files)
    if not given.anyway:
        require_comparable(first, second, files)
    write_lines(comparison_lines(compare(first, second), {"A": first, "B": second}))
    return 0


def _refuse_options(ctx: typer.Context) -> int:
    """ArgumentError for options of a measurement before a command that makes none."""
    if name := next(_given(ctx), None):
        raise ArgumentError(
            f"{_typed(ctx, name)} before {ctx.invoked_subcommand} "
            f"means nothing; see `{ctx.command_path} {ctx.invoked_subcommand} --help`."
        )
    return 0


def _given(ctx: typer.Context) -> Iterator[str]:
    """The parameters that the user has set, a default's value among them."""
    return (name for name in ctx.params if source(ctx, name) == "COMMANDLINE")


def _typed(ctx: typer.Context, name: str) -> str:
    """An option as a user types it."""
    return next(option.opts[0] for option in ctx.command.params if option.name == name)
