"""`chat`: a conversation, question by question."""

from pathlib import Path
from typing import Annotated

import typer

from .. import options

LoadFile = Annotated[
    Path | None,
    typer.Option(
        "--load",
        metavar="FILE",
        help="Go on with a conversation that /save has written.",
        show_default=False,
    ),
]


def command(
    load: LoadFile = None,
    system: options.System = None,
    think: options.Think = False,
    model: options.ModelName = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    force: options.Force = False,
    no_tune: options.NoTune = False,
    max_tokens: options.MaxTokens = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    entropy_bound: options.EntropyBound = None,
    t_min: options.TMin = None,
    t_max: options.TMax = None,
    stability: options.Stability = None,
    confidence: options.Confidence = None,
    stop: options.Stop = None,
    exact_self_conditioning: options.ExactSelfConditioning = False,
    visual: options.Visual = None,
) -> int:
    """Talk with a model; /help lists what can be typed beside questions.

    Ctrl-C stops an answer and keeps what is finished, Ctrl-D leaves. Without a terminal every line
    of standard input is a question, the answers go to standard output, and Ctrl-C ends the chat.
    """
    from ...diffusion.settings import Settings
    from ..answer.loading import load_session
    from . import saved
    from .conversation import Chat
    from .input import open_reader
    from .slash import COMMANDS
    from .talk import Talk

    settings = Settings(
        max_tokens=max_tokens,
        seed=seed,
        max_denoising_steps=steps,
        entropy_bound=entropy_bound,
        t_min=t_min,
        t_max=t_max,
        stability_threshold=stability,
        confidence_threshold=confidence,
        stop=tuple(stop or ()),
        exact_self_conditioning=exact_self_conditioning,
    )
    earlier = saved.load(load) if load else saved.Conversation("", None, ())
    choice = options.ModelChoice(model, dtype, offline, force, tuned=not no_tune)
    session = load_session(choice, settings)
    session.restore(earlier.messages, earlier.system if system is None else system)
    reader = open_reader(f"/{name}" for name in COMMANDS)
    talk = Talk(session, settings, think, said=list(earlier.messages))
    return Chat(talk, reader, visual).run()
