"""A session for a command: the model found, asked for, checked and loaded, with a bar."""

import sys
from collections.abc import Callable
from dataclasses import replace

from ...checkpoint.adapter import require_adapter
from ...checkpoint.config import read_config
from ...checkpoint.hub import Source
from ...conversation import loading
from ...conversation.session import Session
from ...errors import ProfileError
from ...generation.settings import Settings
from ...kernels.dispatch import require_usable, tell_before_trials
from ...machine.choices import Choices
from ...machine.dtypes import mlx_dtype
from ...machine.tuning import recall
from ...share.part import Cut
from ...share.share import ALONE, Share
from ..models.consent import ask_on_terminal, find
from ..options import ModelOptions
from ..terminal.keys import in_foreground
from ..terminal.output import require_output
from ..terminal.passing import Announced
from ..terminal.progress import Bar
from ..terminal.streams import is_terminal, say
from .media import Media


def load_session(options: ModelOptions, settings: Settings, media: Media | None = None) -> Session:
    """The session; what cannot work is found before a download, or before the weights are read."""
    return load_found(find_checked(options, settings, media), options)


def find_checked(options: ModelOptions, settings: Settings, media: Media | None = None) -> Source:
    """The model's folder, asked for where it is not here; what cannot work is found without it."""
    require_output()
    require_usable()
    tell_before_trials(trials_line())
    if options.adapter is not None:
        require_adapter(options.adapter)
    consent = ask_on_terminal(options.dtype)
    source = find(options.name, offline=options.offline, consent=consent)
    config = read_config(source.folder)
    settings.require_trained(config, loading.name_of(source.folder))
    settings.resolved(config, 0)
    if media is not None:
        media.require_sight(config)
    return source


def load_found(
    source: Source,
    options: ModelOptions,
    look: Callable[[], None] | None = None,
    share: Share = ALONE,
    cut: Cut = "rows",
) -> Session:
    """The session with a folder that was found, with a bar; look: called between two layers.

    share, cut: this process's part of the network; see `loading.load_source`.
    """
    dtype = mlx_dtype(options.dtype) if options.dtype else None
    choices = None if options.no_tune else recalled(source, options.dtype)
    with Announced(f"loading {options.name}") as announced, Bar("loading layers") as bar:
        drawn = announced.until(bar)

        def progress(done: int, total: int) -> None:
            if look:
                look()
            drawn(done, total)

        return loading.load_source(
            source,
            dtype,
            force=options.force,
            progress=progress,
            choices=choices,
            adapter=options.adapter,
            gentle=options.gentle,
            share=share,
            cut=cut,
        )


def trials_line() -> Callable[[], None]:
    """What says once, to people alone, that kernels are tried: a first run takes longer."""
    said = False

    def say_once() -> None:
        nonlocal said
        if not said and is_terminal(sys.stderr) and in_foreground(sys.stderr.fileno()):
            say("trying the Metal kernels on this machine; what is found is kept for later runs.")
        said = True

    return say_once


def recalled(source: Source, dtype: str | None) -> Choices | None:
    """The choices tuned for this machine and model; a warning and None for a broken file."""
    try:
        choices = recall(lambda: loading.place_of(source.folder, source.revision, dtype))
    except ProfileError as error:
        say(f"warning: {error}")
        return None
    # A dtype asked for by name is the user's, and not the one that was tuned.
    return replace(choices, dtype=None) if choices and dtype else choices
