"""`generate`: one prompt, one answer."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import typer

from . import options
from .form_options import FormOptions, require_compatible
from .macs.options import ShareOptions, started
from .parameters import argument, flattened, option
from .settings_options import ModeOptions, SamplerOptions
from .terminal.passing import LOADING_PROGRAM, Announced


@dataclass(frozen=True)
class PromptOptions:
    """The prompt, from one of three places; standard input also beside one of the others."""

    prompt: str | None = argument(
        "PROMPT", "The prompt, in quotes. Without one, or as -, standard input is read."
    )
    beside: str | None = argument(
        "-", "Adds standard input, behind the prompt; - PROMPT puts it in front."
    )
    prompt_file: Path | None = option(
        "--prompt-file", "A UTF-8 file with the prompt; - adds standard input.", "FILE"
    )


@flattened()
def command(
    ctx: typer.Context,
    given: PromptOptions,
    seen: options.MediaOptions,
    prompting: options.PromptingOptions,
    held: FormOptions,
    model: options.ModelOptions,
    mode: ModeOptions,
    sampler: SamplerOptions,
    output: options.OutputOptions,
    shared: ShareOptions,
) -> int:
    """Answer a prompt: the text goes to standard output, all else to standard error.

    Ctrl-C keeps the canvases that are finished, and in mode ar every token. tiny-chat knows 22
    kinds of short question. tiny-sudoku takes a puzzle of 81 cells, row by row, 0 or . for a blank,
    or a picture of one, and answers with a checked solution.
    """
    with Announced(LOADING_PROGRAM):
        from ..errors import FitError
        from .answer.form import read_form
        from .answer.media import read_media
        from .answer.prompt import PROMPT, given_words, read_text
        from .answer.turn import show_turn
        from .answer.unread import unread_input_said, without_stdin
        from .macs.group import joined
        from .macs.launch import launch
        from .macs.loading import digested, load_together, own_output
        from .record.outfile import taken_by
        from .record.trace import open_trace
        from .terminal.progress import Bar

    output.check()
    require_compatible(seen, held, sampler)
    settings = sampler.settings(mode)
    words = given_words(given.prompt, given.beside, *ctx.args)
    wanted = replace(
        PROMPT,
        optional=seen.given,
        stdin_taken=seen.takes_stdin or held.stdin_option is not None,
        as_it_is=prompting.raw,
    )
    shared.require_mode(settings.mode)
    wanted = without_stdin(shared, words, given.prompt_file, wanted)
    if shared.launches:
        read_form(held)  # each rank would say what is wrong with it
        return launch(shared, started(ctx))
    with joined(shared) as group:
        text = group.of_rank_0(lambda: read_text(words, given.prompt_file, wanted)[0])
        files = {"prompt_file": given.prompt_file, "macs": shared.macs, **seen.files, **held.files}
        unread = unread_input_said(words, given.prompt_file, wanted)
        with unread, open_trace(own_output(group, output), taken_by(model.name, **files)) as trace:
            form, bar = read_form(held), Bar("reading the prompt")
            read, facts = partial(read_media, seen, model.name), digested(prompting, form)
            session, media = load_together(group, model, settings, read, facts)
            asked = {**vars(media), **vars(prompting), **form.options}
            with group.agreeing(own=(FitError,)):
                turn = session.turn(text, settings=settings, progress=bar, **asked)
                return group.code(show_turn(turn, output, trace, bar, strict=held.strict))
