"""The beginning of a chat: what it goes on with is read, and the model loaded, on all Macs."""

from dataclasses import dataclass
from functools import partial

from ...conversation.session import Session
from ...generation.settings import Settings
from ...share.jobs import Jobs
from ..answer import loading
from ..answer.form import GivenForm, read_form
from ..answer.media import Media, read_media
from ..form_options import FormOptions
from ..macs.group import Group
from ..macs.loading import find_together, followed, load_found_together
from ..macs.terminal import require_input
from ..options import MediaOptions, ModelOptions, OutputOptions, PromptingOptions
from ..terminal.streams import say
from . import saved
from .history import history_file
from .input import open_reader
from .loop import Chat
from .options import ChatOptions
from .slash import completions
from .switch import greet
from .talk import Talk
from .together import Others, follow


@dataclass(frozen=True)
class Typed:
    """The options of a chat, and the settings that they come to."""

    given: ChatOptions
    seen: MediaOptions
    prompting: PromptingOptions
    held: FormOptions
    model: ModelOptions
    settings: Settings
    output: OutputOptions


@dataclass(frozen=True)
class Begun:
    """What a chat begins with, read on the Mac that somebody types at."""

    earlier: saved.SavedConversation
    form: GivenForm
    media: Media


def chat(group: Group, typed: Typed) -> int:
    """Talk until the input ends, on other Macs until rank 0 ends the chat; the exit code."""
    begun: list[Begun] = []
    group.of_rank_0(lambda: begun.append(_read(group, typed)))
    if group.share.alone:
        session = loading.load_session(typed.model, typed.settings, begun[0].media)
        return _talked(session, Others(), begun[0], typed)
    source, cut = find_together(group, typed.model, typed.settings, {})
    session = load_found_together(group, source, typed.model, cut)
    jobs = Jobs(group.share)
    if begun:
        return _talked(session, Others(jobs), begun[0], typed)
    followed(partial(follow, session, jobs))
    return 0


def _read(group: Group, typed: Typed) -> Begun:
    """What the chat begins with; of several Macs rank 0 has to have an input."""
    if not group.share.alone:
        require_input()
    file = typed.given.load
    earlier = saved.load(file) if file else saved.SavedConversation("", None, ())
    form = read_form(typed.held)
    return Begun(earlier, form, read_media(typed.seen, typed.model.name, more_may_come=True))


def _talked(session: Session, others: Others, begun: Begun, typed: Typed) -> int:
    """The exit code of a chat with a session that is loaded."""
    talk = Talk(
        session,
        typed.settings,
        typed.model,
        think=typed.prompting.think,
        image_tokens=typed.seen.image_tokens,
        pictures=typed.output.visual is not False,
        form=begun.form,
        others=others,
    )
    _restore(talk, begun.earlier, typed)
    reader = open_reader(completions(), None if typed.given.no_history else history_file())
    greet(reader, session)
    talk.attach(begun.media.images, begun.media.video)
    return Chat(talk, reader, typed.output, strict=typed.held.strict).run()


def _restore(talk: Talk, earlier: saved.SavedConversation, typed: Typed) -> None:
    """Restore what was said before, under the system text of --system where one is given."""
    system = typed.prompting.system
    talk.restore(earlier.messages, earlier.system if system is None else system)
    if typed.given.load:
        say(saved.loaded_line(typed.given.load, earlier, talk.session.system))
