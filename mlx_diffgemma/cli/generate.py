"""`generate`: one prompt, one answer."""

from pathlib import Path
from typing import Annotated

from . import options
from .parameters import argument, flattened, option

PromptText = Annotated[
    str | None,
    argument("PROMPT", "The prompt. Without one, or as -, standard input is read."),
]
PromptFile = Annotated[
    Path | None, option("--prompt-file", "A UTF-8 file with the prompt.", "FILE")
]


@flattened()
def command(
    prompt: PromptText = None,
    prompt_file: PromptFile = None,
    system: options.System = None,
    think: options.Think = False,
    raw: options.Raw = False,
    *,
    model: options.ModelOptions,
    sampler: options.SamplerOptions,
    output: options.OutputOptions,
) -> int:
    """Answer a prompt: the text goes to standard output, all else to standard error.

    Ctrl-C keeps the canvases that are finished. tiny-sudoku takes a puzzle of 81 cells, row by
    row, 0 or . for a blank, and answers with a checked solution.
    """
    from .answer.loading import load_session
    from .answer.prompt import PROMPT, read_text
    from .answer.turn import show_turn
    from .record.trace import open_trace
    from .terminal.progress import Bar

    settings = sampler.settings()
    text, _ = read_text(prompt, prompt_file, PROMPT)
    with open_trace(output.trace) as trace:
        bar = Bar("reading the prompt")
        session = load_session(model, settings)
        puzzle = session.task is not None and not raw
        turn = session.turn(
            text, settings=settings, system=system, think=think, raw=raw, progress=bar
        )
        return show_turn(turn, output, puzzle=puzzle, trace=trace, bar=bar)
