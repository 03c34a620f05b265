"""DiffusionGemma on Apple silicon: text by denoising a canvas, natively in MLX.

    import mlx_diffgemma as dg

    session = dg.load("tiny-chat")
    print(session.ask("What is 17 + 25?").text)

`load` gives a Session (a conversation), `load_model` the network alone, `denoise` the loop on
token ids. Names are imported when they are first used, so that `--help` need not load MLX.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conversation.fill import FillTurn as FillTurn
    from .conversation.loading import load as load
    from .conversation.loading import load_model as load_model
    from .conversation.reply import Filled as Filled
    from .conversation.reply import Reply as Reply
    from .conversation.session import Session as Session
    from .conversation.turn import Turn as Turn
    from .decide.decision import Decision as Decision
    from .decide.questions import Choice as Choice
    from .decide.questions import Noul as Noul
    from .decide.questions import Score as Score
    from .diffusion.denoise import denoise as denoise
    from .diffusion.pinned import FillFrame as FillFrame
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigFileError as ConfigFileError
    from .errors import ConstraintError as ConstraintError
    from .errors import ConvertError as ConvertError
    from .errors import DataError as DataError
    from .errors import DiffGemmaError as DiffGemmaError
    from .errors import FitError as FitError
    from .errors import HubError as HubError
    from .errors import ImageError as ImageError
    from .errors import KernelError as KernelError
    from .errors import KernelWarning as KernelWarning
    from .errors import NumericsError as NumericsError
    from .errors import ProfileError as ProfileError
    from .errors import PromptError as PromptError
    from .errors import RequestError as RequestError
    from .errors import ServeError as ServeError
    from .errors import SettingsError as SettingsError
    from .errors import ShareError as ShareError
    from .errors import TrainingError as TrainingError
    from .errors import TurnError as TurnError
    from .generation.frame import Frame as Frame
    from .generation.noise import CounterNoise as CounterNoise
    from .generation.noise import Noise as Noise
    from .generation.settings import Settings as Settings
    from .images.pixels import Pixels as Pixels
    from .images.prepare import prepare_image as prepare_image
    from .images.video import Clip as Clip
    from .images.video import prepare_video as prepare_video
    from .model.prefix import Prefix as Prefix
    from .model.text import Model as Model
    from .notebook.show import show as show
    from .version import __version__ as __version__

_PUBLIC = {
    "conversation.fill": ("FillTurn",),
    "conversation.loading": ("load", "load_model"),
    "conversation.reply": ("Filled", "Reply"),
    "conversation.session": ("Session",),
    "conversation.turn": ("Turn",),
    "decide.decision": ("Decision",),
    "decide.questions": ("Choice", "Noul", "Score"),
    "diffusion.denoise": ("denoise",),
    "diffusion.pinned": ("FillFrame",),
    "errors": (
        *("CheckpointError", "ConfigFileError", "ConstraintError", "ConvertError", "DataError"),
        "DiffGemmaError",
        *("FitError", "HubError"),
        *(
            "ImageError",
            "KernelError",
            "KernelWarning",
            "NumericsError",
            "ProfileError",
            "PromptError",
            "RequestError",
        ),
        *("ServeError", "SettingsError", "ShareError", "TrainingError", "TurnError"),
    ),
    "generation.frame": ("Frame",),
    "generation.noise": ("CounterNoise", "Noise"),
    "generation.settings": ("Settings",),
    "images.pixels": ("Pixels",),
    "images.prepare": ("prepare_image",),
    "images.video": ("Clip", "prepare_video"),
    "model.prefix": ("Prefix",),
    "model.text": ("Model",),
    "notebook.show": ("show",),
    "version": ("__version__",),
}
"""A module -> the public names that it defines."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
