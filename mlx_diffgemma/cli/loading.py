"""From the options that choose a model to a session with it."""

from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from ..diffusion.settings import Settings
    from ..session import Session


def model_name(choice: options.ModelChoice) -> str:
    """What the user calls the model, or the default."""
    from ..hub import default_model

    return default_model() if choice.name is None else choice.name


def load_session(choice: options.ModelChoice, settings: "Settings | None" = None) -> "Session":
    """The session; what a checkpoint's own defaults make impossible is found before its weights."""
    from ..config import read_config
    from ..hub import find_model
    from ..session import load
    from .consent import ask_on_terminal
    from .progress import Bar

    name = model_name(choice)
    source = find_model(name, offline=choice.offline, consent=ask_on_terminal())
    if settings:
        settings.resolved(read_config(source.folder).sampler, 0)
    dtype = options.mlx_dtype(choice.dtype)
    with Bar("loading layers") as bar:
        return load(name, dtype, offline=True, force=choice.force, progress=bar)
