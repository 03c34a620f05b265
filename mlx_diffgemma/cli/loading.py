"""A session for a command: the model found, asked for, checked and loaded, with a bar."""

from typing import TYPE_CHECKING

from .consent import ask_on_terminal
from .options import ModelChoice, mlx_dtype
from .progress import Bar

if TYPE_CHECKING:
    from ..diffusion.settings import Settings
    from ..session import Session


def load_session(choice: ModelChoice, settings: "Settings") -> "Session":
    """The session; what cannot work is found before a download, or before the weights are read."""
    from ..config import read_config
    from ..hub import default_model, find_model
    from ..kernels.dispatch import require_usable
    from ..session import load

    require_usable()
    name = default_model() if choice.name is None else choice.name
    source = find_model(name, offline=choice.offline, consent=ask_on_terminal())
    settings.resolved(read_config(source.folder).sampler, 0)
    dtype = mlx_dtype(choice.dtype)
    with Bar("loading layers") as bar:
        return load(name, dtype, offline=True, force=choice.force, progress=bar)
