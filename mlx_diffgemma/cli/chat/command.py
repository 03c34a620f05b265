"""`chat`: a conversation, question by question."""

from dataclasses import dataclass
from pathlib import Path

import typer

from .. import options
from ..form_options import FormOptions, require_compatible, require_files_for_chat
from ..macs.options import ShareOptions, refuse_group, started
from ..parameters import flag, flattened, option
from ..terminal.passing import LOADING_PROGRAM, Announced


@dataclass(frozen=True)
class ChatOptions:
    """The conversation to go on with, and the lines of earlier ones."""

    load: Path | None = option(
        "--load", "Go on with a conversation that /save has written.", "FILE"
    )
    no_history: bool = flag(
        "--no-history",
        "Neither know the lines of earlier chats nor keep those of this one. Default: on a "
        "terminal, the last 1,000 are kept.",
    )


@flattened(without=("raw", "as_json", "trace", "overwrite"))
def command(
    ctx: typer.Context,
    given: ChatOptions,
    seen: options.MediaOptions,
    prompting: options.PromptingOptions,
    held: FormOptions,
    model: options.ModelOptions,
    mode: options.ModeOptions,
    sampler: options.SamplerOptions,
    output: options.OutputOptions,
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
