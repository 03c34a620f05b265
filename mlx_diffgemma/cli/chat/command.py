"""`chat`: a conversation, question by question."""

from pathlib import Path
from typing import Annotated

from .. import options
from ..parameters import flattened, option

LoadFile = Annotated[
    Path | None,
    option("--load", "Go on with a conversation that /save has written.", "FILE"),
]


@flattened()
def command(
    load: LoadFile = None,
    system: options.System = None,
    think: options.Think = False,
    *,
    model: options.ModelOptions,
    sampler: options.SamplerOptions,
    visual: options.Visual = None,
) -> int:
    """Talk with a model; /help lists what can be typed beside questions.

    Ctrl-C stops an answer and keeps what is finished, Ctrl-D leaves. Without a terminal every line
    of standard input is a question, the answers go to standard output, and Ctrl-C ends the chat.
    """
    from ..answer.loading import load_session
    from . import saved
    from .input import open_reader
    from .loop import Chat
    from .slash import COMMANDS
    from .talk import Talk

    settings = sampler.settings()
    earlier = saved.load(load) if load else saved.SavedConversation("", None, ())
    session = load_session(model, settings)
    session.restore(earlier.messages, earlier.system if system is None else system)
    reader = open_reader(f"/{name}" for name in COMMANDS)
    talk = Talk(session, settings, think, said=list(earlier.messages))
    return Chat(talk, reader, visual).run()
