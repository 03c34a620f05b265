"""`fill`: a template whose holes are denoised, and all else kept to the letter."""

from pathlib import Path

from . import options
from .parameters import flattened


@flattened(without=("think", "max_tokens", "stop"), last=("no_tune",))
def command(
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
    from .answer.prompt import TEMPLATE, read_text
    from .answer.turn import show_turn
    from .record.outfile import taken_by
    from .record.trace import open_trace
    from .terminal.progress import Bar

    settings = sampler.settings()
    template, ending = read_text(given.template, given.template_file, TEMPLATE)
    may_be_a_puzzle = embedded_folder(model.name) or embedded_task(Path(model.name))
    if prompting.raw or not may_be_a_puzzle:
        read_template(template, given.gaps)  # an error before a model is loaded, or even asked for
    with open_trace(output, taken_by(model.name, template_file=given.template_file)) as trace:
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
