"""`fill`: a template whose holes are denoised, and all else kept to the letter."""

from pathlib import Path

import typer

from . import options
from .parameters import flattened


@flattened(without=("think", "max_tokens", "stop"), last=("no_tune",))
def command(
    ctx: typer.Context,
    given: options.TemplateOptions,
    prompting: options.PromptingOptions,
    model: options.ModelOptions,
    sampler: options.SamplerOptions,
    output: options.OutputOptions,
) -> int:
    """Fill the holes of a template; every other character comes out exactly as it is.

    [[...]] is a hole of at most --gap tokens, [[12]] one of at most 12; a backslash in front makes
    text of it. A hole that needs fewer ends sooner. tiny-sudoku takes a puzzle of 81 cells, 0, . or
    [[1]] for a blank, and keeps its givens in place.
    """
    from ..assets import embedded_folder, embedded_task
    from ..text.holes import read_template
    from .answer.loading import load_session
    from .answer.prompt import TEMPLATE, given_words, read_text
    from .answer.turn import show_turn
    from .answer.unread import unread_input_said
    from .record.outfile import taken_by
    from .record.trace import open_trace
    from .terminal.progress import Bar

    output.check()
    settings = sampler.settings()
    words = given_words(given.template, given.beside, *ctx.args)
    template, ending = read_text(words, given.template_file, TEMPLATE)
    may_be_a_puzzle = embedded_folder(model.name) or embedded_task(Path(model.name))
    if prompting.raw or not may_be_a_puzzle:
        read_template(template, given.gaps)  # an error before a model is loaded, or even asked for
    reads = taken_by(model.name, template_file=given.template_file)
    unread = unread_input_said(words, given.template_file, TEMPLATE)
    with unread, open_trace(output, reads) as trace:
        bar = Bar("reading the prompt")
        turn = load_session(model, settings).fill_turn(
            template,
            prompt=given.prompt or "",
            gaps=given.gaps,
            settings=settings,
            system=prompting.system,
            raw=prompting.raw,
            progress=bar,
        )
        return show_turn(turn, output, trace, bar, ending)
