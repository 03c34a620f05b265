"""`generate`: one prompt, one answer."""

from dataclasses import dataclass
from pathlib import Path

from . import options
from .parameters import argument, flattened, option


@dataclass(frozen=True)
class PromptOptions:
    """The prompt, from one of three places."""

    prompt: str | None = argument(
        "PROMPT", "The prompt. Without one, or as -, standard input is read."
    )
    prompt_file: Path | None = option("--prompt-file", "A UTF-8 file with the prompt.", "FILE")


@flattened()
def command(
    given: PromptOptions,
    prompting: options.PromptingOptions,
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
    from .record.outfile import taken_by
    from .record.trace import open_trace
    from .terminal.progress import Bar

    settings = sampler.settings()
    text, _ = read_text(given.prompt, given.prompt_file, PROMPT)
    with open_trace(output, taken_by(model.name, prompt_file=given.prompt_file)) as trace:
        bar = Bar("reading the prompt")
        session = load_session(model, settings)
        turn = session.turn(text, settings=settings, progress=bar, **vars(prompting))
        return show_turn(turn, output, trace, bar)
