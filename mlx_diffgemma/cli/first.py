"""The first screen: what `mlx-diffgemma` alone shows."""

import os
from collections.abc import Iterator

from ..errors import ConfigFileError
from .help.page import Block, page_lines
from .terminal.streams import window

TRY = (
    ('mlx-diffgemma generate --model tiny-chat "What is 17 + 25?"', ""),
    ("mlx-diffgemma chat --model tiny-chat", ""),
)


def first_lines() -> Iterator[str]:
    """The lines of the screen; nothing is asked of the network."""
    return page_lines(tuple(_blocks()), window()[0])


def _blocks() -> Iterator[Block]:
    yield "DiffusionGemma writes by denoising. These work now, without a download:"
    yield TRY
    try:
        yield from _model()
    except ConfigFileError as error:
        yield f"The config file cannot be used: {error}"
    yield "All commands: mlx-diffgemma --help. Topics: mlx-diffgemma help."


def _model() -> Iterator[Block]:
    """The default model: is it here, and what to do next."""
    from ..checkpoint.default import default_model

    name = default_model()
    state, here = _state(name)
    yield f"{name}, the default, {state}."
    if here:
        yield (('mlx-diffgemma generate "Why is the sky blue?"', ""),)
    else:
        yield (
            ("mlx-diffgemma info", "what it needs, and what is there"),
            ("mlx-diffgemma pull", "downloads it"),
        )


def _state(name: str) -> tuple[str, bool]:
    """Whether a model is on this machine, in words; True where nothing of it is missing."""
    from ..assets import EMBEDDED
    from ..checkpoint.cache import PART, repo_folder

    if name in EMBEDDED:
        return "comes with the program", True
    if os.path.isdir(os.path.expanduser(name)):
        return "is on this machine", True
    cached = repo_folder(name)
    if not any(cached.glob("snapshots/*/*.safetensors")):
        return "is not on this machine yet", False
    if any(cached.glob(f"blobs/*{PART}")):
        return "is only in part on this machine", False
    return "is on this machine", True
