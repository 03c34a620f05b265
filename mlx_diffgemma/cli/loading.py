"""A session for a command: the model found, asked for, checked and loaded, with a bar."""

from typing import TYPE_CHECKING

from .consent import ask_on_terminal
from .options import ModelChoice, mlx_dtype
from .progress import Bar

if TYPE_CHECKING:
    from ..diffusion.settings import Settings
    from ..session import Session


def load_session(choice: ModelChoice, settings: "Settings") -> "Session":
    """The session; what a checkpoint's own defaults make impossible is found before its weights."""
    from ..config import read_config
    from ..hub import default_model, find_model
    from ..session import load

    name = default_model() if choice.name is None else choice.name
    source = find_model(name, offline=choice.offline, consent=ask_on_terminal())
    settings.resolved(read_config(source.folder).sampler, 0)
    dtype = mlx_dtype(choice.dtype)
    with Bar("loading layers") as bar:
        return load(name, dtype, offline=True, force=choice.force, progress=bar)
