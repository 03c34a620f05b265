"""A session on every Mac of a group, with the same facts, each with its share of the network."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ...checkpoint.hub import Source
from ...conversation.session import Session
from ...errors import FitError
from ...generation.settings import Settings
from ...share.part import Cut
from ..answer import loading
from ..answer.media import Media
from ..options import ModelOptions, OutputOptions
from ..terminal.signals import signals_held
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
        return _found(options, settings, seen[0])

    found, cut = agreed(group, find, others)
    return load_found_together(group, found.source, options, cut), seen[0]


def find_together(
    group: Group, options: ModelOptions, settings: Settings, others: Mapping[str, object]
) -> tuple[Source, Cut]:
    """The model on this Mac and the cut, of which all have agreed; "rows" for a Mac alone.

    For the errors see `agreed`; `load_found_together` loads it.
    """
    if group.share.alone:
        return loading.find_checked(options, settings), "rows"
    found, cut = agreed(group, partial(_found, options, settings), others)
    return found.source, cut


def load_found_together(group: Group, source: Source, options: ModelOptions, cut: Cut) -> Session:
    """The session of a folder that `find_together` found, once all Macs have theirs."""
    with group.waiting():
        return loading.load_found(source, options, group.alive, share=group.share, cut=cut)


def _found(options: ModelOptions, settings: Settings, media: Media | None = None) -> Found:
    source = loading.find_checked(options, settings, media)
    choices = None if options.no_tune else loading.recalled(source, options.dtype)
    return Found(source, choices, options, settings)


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


def followed(follow: Callable[[], None]) -> None:
    """Do what rank 0 tells; signals are rank 0's, which lets all end."""
    with suppress(KeyboardInterrupt), signals_held():
        follow()
