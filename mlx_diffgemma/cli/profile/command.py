"""`profile`: what a step costs on this machine; `profile compare`: two such measurements."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .. import options
from ..errors import ArgumentError, exit_code, say
from . import options as given

if TYPE_CHECKING:
    from ...profile.measurement import Measurement
    from ...profile.workload import Workload
    from ..record.outfile import OutFile

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def command(
    ctx: typer.Context,
    model: options.ModelName = None,
    steps: given.FixedSteps = "16",
    context: given.Context = None,
    canvases: given.Canvases = None,
    prompts: given.Prompts = None,
    seeds: given.Seeds = None,
    max_tokens: given.MaxTokens = None,
    seed: given.Seed = 0,
    components: given.Components = False,
    sustained: given.Sustained = None,
    baseline: given.BaselineModel = None,
    encoder_head: given.EncoderHead = False,
    tune: given.Tune = False,
    tune_dtype: given.TuneDtype = False,
    json_file: given.JsonFile = None,
    trace: given.TraceFile = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    force: options.Force = False,
) -> int:
    """Measure a model on this machine: steps, prefill, tokens per step, memory, and its bounds.

    Two canvases warm up, then at least five are measured. The default, 16 steps behind 1024 tokens,
    compares machines; --steps adaptive measures what answers take. Ctrl-C prints what is finished.
    """
    if ctx.invoked_subcommand is not None:
        return _refuse_options(ctx)
    choice = options.ModelChoice(model, dtype, offline, force, tuned=False)
    if tune or tune_dtype:
        return _tune(ctx, choice)
    from ...profile.workload import Workload
    from ..record.outfile import OutFile

    number = _steps(steps)
    _refuse_mixture(number is None, canvases, prompts, seeds, max_tokens)
    counts = {"canvases": canvases, "prompts": prompts, "seeds": seeds}
    workload = Workload(
        steps=number,
        context=context,
        max_tokens=max_tokens,
        seed=seed,
        **{name: value for name, value in counts.items() if value is not None},
    )
    seconds = None if sustained is None else _duration(sustained)
    if json_file and trace and json_file.resolve() == trace.resolve():
        raise ArgumentError(f"--json and --trace both name {trace}; give two files.")
    with ExitStack() as files:
        outputs = [
            files.enter_context(OutFile(file, what)) if file else None
            for file, what in ((json_file, "the profile"), (trace, "the trace"))
        ]
        plan = Plan(workload, components, seconds, baseline, encoder_head)
        return _measure(choice, plan, outputs)


def _tune(ctx: typer.Context, choice: options.ModelChoice) -> int:
    from .tune import tune

    if not ctx.params["tune"]:
        raise ArgumentError("--tune-dtype goes with --tune; give both.")
    allowed = {"model", "dtype", "offline", "force", "tune", "tune_dtype"}
    for name in ctx.params.keys() - allowed:
        if _is_given(ctx, name):
            raise ArgumentError(f"{_typed(name)} and --tune measure apart; leave one out.")
    return tune(choice, tune_dtype=ctx.params["tune_dtype"])


@app.command("compare")
def compare_command(
    first: given.FirstFile,
    second: given.SecondFile,
    anyway: given.Anyway = False,
) -> int:
    """Compare two measurements: by how much B differs from A, and whether that is more than noise.

    Intervals are 95%, by a bootstrap over canvases; where one contains 0 there is no difference.
    """
    from ...profile.comparison import compare, read_profile, require_comparable
    from ..terminal.output import write_out
    from .text import comparison_lines

    profiles = read_profile(first), read_profile(second)
    if not anyway:
        require_comparable(*profiles)
    write_out("\n".join(comparison_lines(compare(*profiles))) + "\n")
    return 0


@dataclass(frozen=True)
class Plan:
    """What to measure; sustained in seconds."""

    workload: "Workload"
    components: bool
    sustained: float | None
    baseline: str | None
    encoder_head: bool


def _measure(choice: options.ModelChoice, plan: Plan, outputs: "list[OutFile | None]") -> int:
    measured = _prepared(choice, plan)
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
        run(measured, components=plan.components, sustained=plan.sustained, progress=bar)
    if plan.encoder_head:
        with Bar("reading causally") as bar:
            measured.encoder_head = measure_encoder_head(
                measured.session, measured.records, progress=bar
            )


def _prepared(choice: options.ModelChoice, plan: Plan) -> "Measurement":
    """The model loaded, the baseline beside it, and nothing measured yet."""
    from ...checkpoint.hub import find_model
    from ...diffusion.settings import Settings
    from ...machine.identity import this_machine
    from ...profile.baseline import load_baseline, require_autoregressive
    from ...profile.condition import condition
    from ...profile.measurement import Measurement
    from ..answer.consent import ask_on_terminal
    from ..answer.loading import load_session

    other = None
    if plan.baseline is not None:
        other = find_model(plan.baseline, offline=choice.offline, consent=ask_on_terminal()).folder
        require_autoregressive(_model_name(plan.baseline), other)
    session = load_session(choice, Settings())
    name, workload = _model_name(choice.name), plan.workload
    measured = Measurement(session, name, workload, this_machine(), condition())
    if plan.baseline is not None and other:
        short = _model_name(plan.baseline)
        measured.baseline = load_baseline(short, other, session, force=choice.force)
    return measured


def _model_name(given_name: str | None) -> str:
    """What the user calls a model; of a folder its last part: paths are nobody's business."""
    from ...checkpoint.hub import default_model

    name = default_model() if given_name is None else given_name
    folder = Path(name)
    return folder.resolve().name if folder.exists() else name


def _show(measured: "Measurement") -> None:
    from ...profile.report import to_json
    from ..terminal.output import write_out
    from .text import lines

    write_out("\n".join(lines(to_json(measured))) + "\n")


def _write(measured: "Measurement", outputs: "list[OutFile | None]") -> None:
    import json

    from ...profile.chrome_trace import chrome_trace
    from ...profile.report import to_json

    for output, content in zip(outputs, (to_json, chrome_trace), strict=True):
        if output:
            output.write_text(
                json.dumps(content(measured), allow_nan=False, ensure_ascii=False) + "\n"
            )


def _steps(text: str) -> int | None:
    """A number of steps, None for adaptive."""
    if text == "adaptive":
        return None
    try:
        return int(text)
    except ValueError:
        raise ArgumentError(
            f"--steps is {text!r}, expected a number from 1, or adaptive."
        ) from None


def _refuse_mixture(
    adaptive: bool, canvases: int | None, prompts: int | None, *others: int | None
) -> None:
    """ArgumentError for an option of the other workload."""
    if adaptive and canvases is not None:
        raise ArgumentError("--canvases goes with a number of --steps; take --prompts and --seeds.")
    names = zip(("--prompts", "--seeds", "--max-tokens"), (prompts, *others), strict=True)
    wrong = next((name for name, value in names if value is not None), None)
    if not adaptive and wrong:
        raise ArgumentError(f"{wrong} goes with --steps adaptive; take --canvases.")


def _refuse_options(ctx: typer.Context) -> int:
    """ArgumentError for options of a measurement before a command that makes none."""
    for name in ctx.params:
        if _is_given(ctx, name):
            raise ArgumentError(
                f"{_typed(name)} before {ctx.invoked_subcommand} "
                f"means nothing; see `{ctx.command_path} {ctx.invoked_subcommand} --help`."
            )
    return 0


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _typed(name: str) -> str:
    """An option as a user types it."""
    return f"--{name.removesuffix('_file').replace('_', '-')}"


def _duration(text: str) -> float:
    """Seconds in a time such as 10m, 90s or 1.5h."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ArgumentError(f"--sustained is {text!r}, expected a time such as 90s, 10m or 1h.")
    return seconds
