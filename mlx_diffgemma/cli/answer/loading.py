"""A session for a command: the model found, asked for, checked and loaded, with a bar."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import ProfileError
from ..errors import say
from ..options import ModelChoice
from ..terminal.progress import Bar
from .consent import ask_on_terminal

if TYPE_CHECKING:
    from ...checkpoint.hub import Source
    from ...conversation.session import Session
    from ...diffusion.settings import Settings
    from ...machine.choices import Choices


def load_session(choice: ModelChoice, settings: "Settings") -> "Session":
    """The session; what cannot work is found before a download, or before the weights are read."""
    from ...checkpoint.config import read_config
    from ...checkpoint.hub import default_model, find_model
    from ...conversation.engine import load_engine
    from ...conversation.session import Session
    from ...kernels.dispatch import require_usable
    from ...machine.dtypes import mlx_dtype
    from ..terminal.output import require_output

    require_output()
    require_usable()
    name = default_model() if choice.name is None else choice.name
    source = find_model(name, offline=choice.offline, consent=ask_on_terminal())
    settings.resolved(read_config(source.folder).sampler, 0)
    dtype = mlx_dtype(choice.dtype) if choice.dtype else None
    choices = _recalled(source, choice.dtype) if choice.tuned else None
    with Bar("loading layers") as bar:
        engine = load_engine(source, dtype, force=choice.force, progress=bar, choices=choices)
    return Session(engine)


def _recalled(source: "Source", dtype: str | None) -> "Choices | None":
    """What was tuned for this machine and model; a broken file is said, and nothing is tuned."""
    from ...conversation.engine import place_of
    from ...machine.tuning import recall

    try:
        choices = recall(lambda: place_of(source.folder, source.revision, dtype))
    except ProfileError as error:
        say(f"warning: {error}")
        return None
    # A dtype asked for by name is the user's, and not the one that was tuned.
    return replace(choices, dtype=None) if choices and dtype else choices
