"""`fill`: a template whose holes are denoised, and all else kept to the letter."""

from pathlib import Path
from typing import Annotated

import typer

from . import options

TemplateText = Annotated[
    str | None,
    typer.Argument(
        metavar="TEMPLATE",
        help="The template. Without one, or as -, standard input is read.",
        show_default=False,
    ),
]


def command(
    template: TemplateText = None,
    template_file: options.TemplateFile = None,
    prompt: options.FillPrompt = None,
    gap: options.Gap = None,
    system: options.System = None,
    raw: options.Raw = False,
    model: options.ModelName = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    force: options.Force = False,
    seed: options.Seed = None,
    steps: options.Steps = None,
    entropy_bound: options.EntropyBound = None,
    t_min: options.TMin = None,
    t_max: options.TMax = None,
    stability: options.Stability = None,
    confidence: options.Confidence = None,
    exact_self_conditioning: options.ExactSelfConditioning = False,
    visual: options.Visual = None,
    as_json: options.Json = False,
    trace: options.TraceFile = None,
    no_tune: options.NoTune = False,
) -> int:
    """Fill the holes of a template; every other character comes out exactly as it is.

    [[...]] is a hole of at most --gap tokens, [[12]] one of at most 12; a backslash in front makes
    text of it. A hole that needs fewer ends sooner. tiny-sudoku takes a puzzle of 81 cells, 0, . or
    [[1]] for a blank, and keeps its givens in place.
    """
    from ..diffusion.settings import Settings
    from .answer.loading import load_session
    from .answer.prompt import TEMPLATE, read_lines
    from .answer.turn import show_turn
    from .record.trace import open_trace
    from .terminal.progress import Bar

    settings = Settings(
        seed=seed,
        max_denoising_steps=steps,
        entropy_bound=entropy_bound,
        t_min=t_min,
        t_max=t_max,
        stability_threshold=stability,
        confidence_threshold=confidence,
        exact_self_conditioning=exact_self_conditioning,
    )
    text, ending = read_lines(template, template_file, TEMPLATE)
    _check(text, gap, model, raw)
    with open_trace(trace) as recorder:
        bar = Bar("reading the prompt")
        choice = options.ModelChoice(model, dtype, offline, force, tuned=not no_tune)
        session = load_session(choice, settings)
        turn = session.fill_turn(
            text,
            prompt=prompt or "",
            gaps=gap,
            settings=settings,
            system=system,
            raw=raw,
            progress=bar,
        )
        return show_turn(
            turn,
            as_json=as_json,
            visual=visual,
            puzzle=turn.puzzle is not None,
            trace=recorder,
            bar=bar,
            ending=ending if turn.puzzle is None else "",
        )


def _check(text: str, gaps: list[int] | None, model: str | None, raw: bool) -> None:
    """Finds a wrong template before a model is loaded, or even asked for."""
    from ..assets import embedded_folder, embedded_task
    from ..checkpoint.hub import default_model
    from ..text.holes import read_template

    name = default_model() if model is None else model
    may_be_a_puzzle = embedded_folder(name) or embedded_task(Path(name))
    if raw or not may_be_a_puzzle:
        read_template(text, gaps)
