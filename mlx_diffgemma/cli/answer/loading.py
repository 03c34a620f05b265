"""A session for a command: the model found, asked for, checked and loaded, with a bar."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import ProfileError
from ..options import ModelOptions
from ..terminal.progress import Bar
from ..terminal.streams import say
from .consent import ask_on_terminal

if TYPE_CHECKING:
    import mlx.core as mx

    from ...checkpoint.hub import Source
    from ...conversation.session import Session
    from ...diffusion.settings import Settings
    from ...machine.choices import Choices


def load_session(options: ModelOptions, settings: "Settings") -> "Session":
    """The session; what cannot work is found before a download, or before the weights are read."""
    from ...checkpoint.config import read_config
    from ...checkpoint.hub import default_model, find_model
    from ...conversation.session import load
    from ...kernels.dispatch import require_usable
    from ..terminal.output import require_output

    require_output()
    require_usable()
    name = default_model() if options.model is None else options.model
    source = find_model(name, offline=options.offline, consent=ask_on_terminal())
    settings.resolved(read_config(source.folder).sampler, 0)
    dtype = _mlx_dtype(options.dtype)
    choices = None if options.no_tune else _recalled(source, options.dtype)
    with Bar("loading layers") as bar:
        return load(name, dtype, offline=True, force=options.force, progress=bar, choices=choices)


def _mlx_dtype(name: str | None) -> "mx.Dtype | None":
    """MLX's dtype of this name."""
    if name is None:
        return None
    import mlx.core as mx

    dtype: mx.Dtype = getattr(mx, name)
    return dtype


def _recalled(source: "Source", dtype: str | None) -> "Choices | None":
    """The choices tuned for this machine and model; a warning and None for a broken file."""
    from ...machine.tuning import place_of, recall

    try:
        choices = recall(lambda: place_of(source.folder, source.revision, dtype))
    except ProfileError as error:
        say(f"warning: {error}")
        return None
    # A dtype asked for by name is the user's, and not the one that was tuned.
    return replace(choices, dtype=None) if choices and dtype else choices
