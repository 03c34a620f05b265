"""A session on every Mac of a group, with the same facts, each with its share of the network."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from ...conversation.session import Session
from ...errors import FitError
from ...generation.settings import Settings
from ..answer import loading
from ..answer.media import Media
from ..options import ModelOptions, OutputOptions
from .agreed import Found, agreed, digest
from .ended import RANK
from .group import Group


def load_together(
    group: Group,
    options: ModelOptions,
    settings: Settings,
    read: Callable[[], Media],
    others: Mapping[str, object],
) -> tuple[Session, Media]:
    """The session and what is to be seen, on a Mac alone as `load_session` has it.

    read: reads images and a video of this Mac. others: facts beside those of the model, on which
    all Macs have to agree. ShareError, ArgumentError and FitError: see `agreed`.
    """
    if group.share.alone:
        media = read()
        return _load_alone(options, settings, media), media
    seen: list[Media] = []

    def find() -> Found:
        seen.append(read())
        source = loading.find_checked(options, settings, seen[0])
        choices = None if options.no_tune else loading.recalled(source, options.dtype)
        return Found(source, choices, options, settings)

    found, cut = agreed(group, find, others)
    with group.waiting():
        session = loading.load_found(
            found.source,
            options,
            group.alive,
            share=group.share,
            cut=cut,
        )
    return session, seen[0]


def _load_alone(options: ModelOptions, settings: Settings, media: Media) -> Session:
    """As ever; where mlx.launch has started several and nobody asked for a share, with advice."""
    try:
        return loading.load_session(options, settings, media)
    except FitError as error:
        if RANK not in os.environ:
            raise
        raise FitError(
            *error.args, " Each process holds all of it: --share layers gives each a part."
        ) from None


def digested(*given: object) -> dict[str, object]:
    """What was typed beside prompt and settings, as a fact to agree on."""
    return {"options": digest(repr(given).encode())}


def own_output(group: Group, output: OutputOptions) -> OutputOptions:
    """The output of this rank: rank 0's is what was asked for, another one writes no file."""
    return output if group.share.rank == 0 else replace(output, trace=None)
