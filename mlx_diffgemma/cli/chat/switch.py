"""Another model for a chat that goes on: the same messages, which it encodes anew."""

from dataclasses import replace

import mlx.core as mx

from ...checkpoint.config import read_config
from ...checkpoint.hub import Source
from ...checkpoint.vision import require_vision
from ...conversation.session import Session
from ...errors import DiffGemmaError
from ...machine.memory import available_memory
from ...model.memory import fit_check, plan_memory
from ..answer.loading import find_checked, load_found
from ..errors import FileError
from ..options import ModelOptions
from ..terminal.streams import say
from .reader import LineReader
from .talk import Talk


class ModelGoneError(FileError):
    """Neither another model nor the one before can be loaded: the chat ends."""


def greeting(session: Session) -> str:
    """The model and the positions it has."""
    return f"{session.name}, context {session.context_length:,}"


def greet(reader: LineReader, session: Session) -> None:
    """Say on a terminal, once it is this program's own, what can be talked with."""
    if reader.interactive:
        reader.wait()
        say(f"{greeting(session)}. /help lists commands, Ctrl-D leaves.")


def switch(talk: Talk, name: str) -> None:
    """Go on with another model; the one before stays where that cannot be had."""
    talk.others.require_none("/model MODEL")
    options, system = replace(talk.options, model=name, adapter=None), talk.session.system
    with talk.interruptible():
        source = find_checked(options, talk.settings)
        config = read_config(source.folder)
        if any(message.media for message in talk.said):
            require_vision(config.vision)
        if not options.force:
            fit_check(source.folder, options.dtype)(0)
        there = available_memory()
        if there is None or _needed(source, options) + mx.get_active_memory() <= there:
            session = load_found(source, options)
        else:
            session = _in_its_place(talk, source, options)
    session.restore(talk.said, system)
    talk.session, talk.options = session, options


def _needed(source: Source, options: ModelOptions) -> int:
    """The bytes that a model takes with one canvas."""
    plan = plan_memory(source.folder, options.dtype)
    return plan(plan.config.canvas_length).needed_bytes


def _in_its_place(talk: Talk, source: Source, options: ModelOptions) -> Session:
    """A model where there is room for one alone; after an error the one before is loaded again."""
    system = talk.session.system
    del talk.session  # nothing else holds its weights
    mx.clear_cache()
    try:
        return load_found(source, options)
    except BaseException:
        say("the model from before is loaded again.")
        try:
            talk.session = load_found(find_checked(talk.options, talk.settings), talk.options)
        except DiffGemmaError as error:
            raise ModelGoneError(*error.args, " The chat ends.") from error
        talk.session.restore(talk.said, system)
        raise
