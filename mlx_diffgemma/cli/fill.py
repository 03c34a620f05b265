"""`fill`: a template whose holes are denoised, and all else kept to the letter."""

from pathlib import Path
from typing import Annotated

from . import options
from .parameters import argument, flattened

TemplateText = Annotated[
    str | None,
    argument("TEMPLATE", "The template. Without one, or as -, standard input is read."),
]


@flattened(without=("max_tokens", "stop"), last=("no_tune",))
def command(
    text: TemplateText = None,
    *,
    template: options.TemplateOptions,
    system: options.System = None,
    raw: options.Raw = False,
    model: options.ModelOptions,
    sampler: options.SamplerOptions,
    output: options.OutputOptions,
) -> int:
    """Fill the holes of a template; every other character comes out exactly as it is.

    [[...]] is a hole of at most --gap tokens, [[12]] one of at most 12; a backslash in front makes
    text of it. A hole that needs fewer ends sooner. tiny-sudoku takes a puzzle of 81 cells, 0, . or
    [[1]] for a blank, and keeps its givens in place.
    """
    from .answer.loading import load_session
    from .answer.prompt import TEMPLATE, read_text
    from .answer.turn import show_turn
    from .record.trace import open_trace
    from .terminal.progress import Bar

    settings = sampler.settings()
    content, ending = read_text(text, template.template_file, TEMPLATE)
    _check(content, template.gaps, model.model, raw)
    with open_trace(output.trace) as trace:
        bar = Bar("reading the prompt")
        turn = load_session(model, settings).fill_turn(
            content,
            prompt=template.prompt or "",
            gaps=template.gaps,
            settings=settings,
            system=system,
            raw=raw,
            progress=bar,
        )
        puzzle = turn.puzzle is not None
        ending = "" if puzzle else ending
        return show_turn(turn, output, puzzle=puzzle, trace=trace, bar=bar, ending=ending)


def _check(text: str, gaps: list[int] | None, model: str | None, raw: bool) -> None:
    """Find a wrong template before a model is loaded, or even asked for."""
    from ..assets import embedded_folder, embedded_task
    from ..checkpoint.hub import default_model
    from ..text.holes import read_template

    name = default_model() if model is None else model
    may_be_a_puzzle = embedded_folder(name) or embedded_task(Path(name))
    if raw or not may_be_a_puzzle:
        read_template(text, gaps)
