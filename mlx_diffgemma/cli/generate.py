"""`generate`: one prompt, one answer."""

from typing import Annotated

import typer

from . import options

PromptText = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help="The prompt. Without one, or as -, standard input is read.",
        show_default=False,
    ),
]


def command(
    prompt: PromptText = None,
    prompt_file: options.PromptFile = None,
    system: options.System = None,
    think: options.Think = False,
    raw: options.Raw = False,
    model: options.ModelName = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    force: options.Force = False,
    no_tune: options.NoTune = False,
    max_tokens: options.MaxTokens = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    entropy_bound: options.EntropyBound = None,
    t_min: options.TMin = None,
    t_max: options.TMax = None,
    stability: options.Stability = None,
    confidence: options.Confidence = None,
    stop: options.Stop = None,
    exact_self_conditioning: options.ExactSelfConditioning = False,
    visual: options.Visual = None,
    as_json: options.Json = False,
    trace: options.TraceFile = None,
) -> int:
    """Answer a prompt: the text goes to standard output, all else to standard error.

    Ctrl-C keeps the canvases that are finished. tiny-sudoku takes a puzzle of 81 cells, row by
    row, 0 or . for a blank, and answers with a checked solution.
    """
    from ..diffusion.settings import Settings
    from .answer.loading import load_session
    from .answer.prompt import read_prompt
    from .answer.turn import show_turn
    from .record.trace import open_trace
    from .terminal.progress import Bar

    settings = Settings(
        max_tokens=max_tokens,
        seed=seed,
        max_denoising_steps=steps,
        entropy_bound=entropy_bound,
        t_min=t_min,
        t_max=t_max,
        stability_threshold=stability,
        confidence_threshold=confidence,
        stop=tuple(stop or ()),
        exact_self_conditioning=exact_self_conditioning,
    )
    text = read_prompt(prompt, prompt_file)
    with open_trace(trace) as recorder:
        bar = Bar("reading the prompt")
        choice = options.ModelChoice(model, dtype, offline, force, tuned=not no_tune)
        session = load_session(choice, settings)
        turn = session.turn(
            text, settings=settings, system=system, think=think, raw=raw, progress=bar
        )
        return show_turn(
            turn,
            as_json=as_json,
            visual=visual,
            puzzle=session.task is not None and not raw,
            trace=recorder,
            bar=bar,
        )
