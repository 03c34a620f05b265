"""`fill`: a template whose holes are denoised, and all else kept to the letter."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import typer

from . import options
from .macs.options import ShareOptions, started
from .parameters import flattened
from .settings_options import SamplerOptions
from .terminal.passing import LOADING_PROGRAM, Announced


@flattened(without=("think", "max_tokens", "stop", "plain"), last=("no_tune", "gentle"))
def command(
    ctx: typer.Context,
    given: options.TemplateOptions,
    seen: options.MediaOptions,
    prompting: options.PromptingOptions,
    model: options.ModelOptions,
    sampler: SamplerOptions,
    output: options.OutputOptions,
    shared: ShareOptions,
) -> int:
    """Fill the holes of a template; every other character comes out exactly as it is.

    [[...]] is a hole of at most --gap tokens, [[12]] one of at most 12, and [[year:[0-9]{4}]] one
    whose text matches a regular expression; a backslash in front makes text of it. A hole that
    needs fewer tokens ends sooner. tiny-sudoku takes a puzzle of 81 cells, 0, . or
    [[1]] for a blank, and keeps its givens in place.
    """
    with Announced(LOADING_PROGRAM):
        from ..errors import FitError
        from .answer.media import read_media
        from .answer.prompt import TEMPLATE, given_words, read_text, reads_stdin
        from .answer.turn import show_turn
        from .answer.unread import unread_input_said
        from .macs.group import joined
        from .macs.launch import launch
        from .macs.loading import digested, load_together, own_output
        from .record.outfile import taken_by
        from .record.trace import open_trace
        from .terminal.progress import Bar

    output.check()
    settings = sampler.settings()
    words = given_words(given.template, given.beside, *ctx.args)
    wanted = replace(TEMPLATE, stdin_taken=seen.takes_stdin)
    shared.require_no_stdin(wanted.stdin_taken or reads_stdin(words, given.template_file))
    if shared.launches:
        return launch(shared, started(ctx))
    with joined(shared) as group:
        file = given.template_file
        template, ending = group.of_rank_0(lambda: read_text(words, file, wanted))
        with group.agreeing():
            _check(template, given.gaps, prompting.raw, model.name)
        reads = taken_by(model.name, template_file=file, macs=shared.macs, **seen.files)
        output, unread = replace(output, plain=True), unread_input_said(words, file, wanted)
        with unread, open_trace(own_output(group, output), reads) as trace:
            read = partial(read_media, seen, model.name)
            facts = digested(prompting, given.gaps, given.prompt)
            session, media = load_together(group, model, settings, read, facts)
            bar = Bar("reading the prompt")
            with group.agreeing(own=(FitError,)):
                turn = session.fill_turn(
                    template,
                    prompt=given.prompt or "",
                    gaps=given.gaps,
                    settings=settings,
                    system=prompting.system,
                    raw=prompting.raw,
                    progress=bar,
                    **vars(media),
                )
                return group.code(show_turn(turn, output, trace, bar, ending))


def _check(template: str, gaps: Sequence[int] | None, raw: bool, model: str) -> None:
    """PromptError or SettingsError for a template before its model is loaded, or even asked for.

    A checkpoint with a task takes its problems. A repository says only once it is here whether it
    has one: until then it may have any.
    """
    from ..assets import TASKS
    from ..checkpoint.config import read_config
    from ..checkpoint.hub import local_folder
    from ..errors import PromptError
    from ..text.holes import read_template

    folder = local_folder(model)
    task = None if folder is None or raw else read_config(folder).task
    if task is not None:
        template, _ = TASKS[task]().template(template)
    try:
        read_template(template, gaps)
    except PromptError:
        if raw or folder is not None or not _is_problem(template):
            raise


def _is_problem(text: str) -> bool:
    """True where a text is a problem of any task."""
    from ..assets import TASKS
    from ..errors import PromptError

    for make in TASKS.values():
        with suppress(PromptError):
            make().template(text)
            return True
    return False
