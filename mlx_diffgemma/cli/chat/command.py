"""`chat`: a conversation, question by question."""

import typer

from .. import options as common
from ..form_options import FormOptions, require_compatible, require_files_for_chat
from ..macs.options import ShareOptions, refuse_group, started
from ..parameters import flattened
from ..settings_options import ModeOptions, SamplerOptions
from ..terminal.passing import LOADING_PROGRAM, Announced
from .options import ChatOptions


@flattened(without=("raw", "as_json", "trace", "overwrite"))
def command(
    ctx: typer.Context,
    given: ChatOptions,
    seen: common.MediaOptions,
    prompting: common.PromptingOptions,
    held: FormOptions,
    model: common.ModelOptions,
    mode: ModeOptions,
    sampler: SamplerOptions,
    output: common.OutputOptions,
    shared: ShareOptions,
) -> int:
    """Talk with a model; /help lists what can be typed beside questions.

    Ctrl-C stops an answer and keeps what is finished, in mode ar every token; Ctrl-D leaves.
    Without a terminal every line of standard input is a question, the answers go to standard
    output, and Ctrl-C ends the chat.
    """
    with Announced(LOADING_PROGRAM):
        from ..macs.group import joined
        from ..macs.launch import launch_at_terminal
        from .begin import Typed, chat

    require_files_for_chat(seen, held)
    require_compatible(seen, held, sampler)
    settings = sampler.settings(mode)
    shared.require_mode(settings.mode)
    if not shared.wanted:
        refuse_group("chat")
    if shared.launches:
        return launch_at_terminal(shared, started(ctx))
    with joined(shared) as group:
        return chat(group, Typed(given, seen, prompting, held, model, settings, output))
