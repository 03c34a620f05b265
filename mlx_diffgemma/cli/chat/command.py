"""`chat`: a conversation, question by question."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import options
from ..form_options import FormOptions, require_compatible, require_files_for_chat
from ..macs.options import refuse_group
from ..parameters import flag, flattened, option
from ..terminal.passing import LOADING_PROGRAM, Announced

if TYPE_CHECKING:
    from ...conversation.session import Session
    from .saved import SavedConversation


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
    given: ChatOptions,
    seen: options.MediaOptions,
    prompting: options.PromptingOptions,
    held: FormOptions,
    model: options.ModelOptions,
    mode: options.ModeOptions,
    sampler: options.SamplerOptions,
    output: options.OutputOptions,
) -> int:
    """Talk with a model; /help lists what can be typed beside questions.

    Ctrl-C stops an answer and keeps what is finished, in mode ar every token; Ctrl-D leaves.
    Without a terminal every line of standard input is a question, the answers go to standard
    output, and Ctrl-C ends the chat.
    """
    with Announced(LOADING_PROGRAM):
        from ..answer.form import read_form
        from ..answer.loading import load_session
        from ..answer.media import read_media
        from . import saved
        from .history import history_file
        from .input import open_reader
        from .loop import Chat
        from .slash import completions
        from .switch import greet
        from .talk import Talk

    refuse_group("chat")
    require_files_for_chat(seen, held)
    require_compatible(seen, held, sampler)
    settings, system = sampler.settings(mode), prompting.system
    earlier = saved.load(given.load) if given.load else saved.SavedConversation("", None, ())
    form, media = read_form(held), read_media(seen, model.name, more_may_come=True)
    session = load_session(model, settings, media)
    _begin(session, given.load, earlier, system)
    reader = open_reader(completions(), None if given.no_history else history_file())
    greet(reader, session)
    talk = Talk(
        session,
        settings,
        model,
        think=prompting.think,
        image_tokens=seen.image_tokens,
        pictures=output.visual is not False,
        form=form,
        said=list(earlier.messages),
    )
    talk.attach(media.images, media.video)
    return Chat(talk, reader, output, strict=held.strict).run()


def _begin(
    session: "Session", file: Path | None, earlier: "SavedConversation", system: str | None
) -> None:
    """Restore what was said before, under the system text of --system where one is given.

    file: what it was loaded from, None for a new conversation.
    """
    from ..terminal.streams import say
    from .saved import loaded_line

    session.restore(earlier.messages, earlier.system if system is None else system)
    if file:
        say(loaded_line(file, earlier, session.system))
