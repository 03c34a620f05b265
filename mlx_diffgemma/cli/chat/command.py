"""`chat`: a conversation, question by question."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .. import options
from ..form_options import FormOptions, require_compatible, require_files_for_chat
from ..macs.options import ShareOptions, refuse_group, started
from ..parameters import flag, flattened, option
from ..terminal.passing import LOADING_PROGRAM, Announced

if TYPE_CHECKING:
    from ...conversation.session import Session
    from ...generation.settings import Settings
    from ..answer.form import GivenForm
    from ..answer.media import Media
    from ..macs.group import Group
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
        from ..answer.form import read_form
        from ..answer.media import read_media
        from ..macs.group import joined
        from ..macs.launch import launch_at_terminal
        from ..macs.terminal import take_streams
        from . import saved
        from .history import history_file
        from .input import open_reader
        from .loop import Chat
        from .slash import completions
        from .switch import greet
        from .talk import Talk
        from .together import Others

    require_files_for_chat(seen, held)
    require_compatible(seen, held, sampler)
    settings, system = sampler.settings(mode), prompting.system
    shared.require_mode(settings.mode)
    if not shared.wanted:
        refuse_group("chat")
    if shared.launches:
        return launch_at_terminal(shared, started(ctx))

    def read() -> None:
        if not group.share.alone:
            take_streams()
        earlier = saved.load(given.load) if given.load else saved.SavedConversation("", None, ())
        form, media = read_form(held), read_media(seen, model.name, more_may_come=True)
        begun.append(Begun(earlier, form, media))

    begun: list[Begun] = []
    with joined(shared) as group:
        group.of_rank_0(read)
        session = _loaded(group, model, settings, begun)
        if session is None:
            return 0
        (at,) = begun
        talk = Talk(
            session,
            settings,
            model,
            think=prompting.think,
            image_tokens=seen.image_tokens,
            pictures=output.visual is not False,
            form=at.form,
            others=Others(_jobs(group)),
        )
        _begin(talk, given.load, at.earlier, system)
        reader = open_reader(completions(), None if given.no_history else history_file())
        greet(reader, session)
        talk.attach(at.media.images, at.media.video)
        return Chat(talk, reader, output, strict=held.strict).run()


@dataclass(frozen=True)
class Begun:
    """What a chat begins with, read on the Mac that somebody types at."""

    earlier: "SavedConversation"
    form: "GivenForm"
    media: "Media"


def _loaded(
    group: "Group", model: options.ModelOptions, settings: "Settings", begun: list[Begun]
) -> "Session | None":
    """The session; None at the end of a chat that another Mac has led."""
    from ..answer.loading import load_session
    from ..macs.loading import find_together, followed, load_found_together
    from .together import follow

    if group.share.alone:
        return load_session(model, settings, begun[0].media)
    source, cut = find_together(group, model, settings, {})
    session = load_found_together(group, source, model, cut)
    if begun:
        return session
    followed(lambda: follow(session, _jobs(group)))
    return None


def _jobs(group: "Group") -> Any:
    """The way to the other Macs, None without any."""
    from ...share.jobs import Jobs

    return None if group.share.alone else Jobs(group.share)


def _begin(talk: Any, file: Path | None, earlier: "SavedConversation", system: str | None) -> None:
    """Restore what was said before, under the system text of --system where one is given.

    file: what it was loaded from, None for a new conversation.
    """
    from ..terminal.streams import say
    from .saved import loaded_line

    talk.restore(earlier.messages, earlier.system if system is None else system)
    if file:
        say(loaded_line(file, earlier, talk.session.system))
