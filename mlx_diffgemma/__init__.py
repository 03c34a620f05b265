"""DiffusionGemma on Apple silicon: text by denoising a canvas, natively in MLX.

    import mlx_diffgemma as dg

    session = dg.load("tiny-sudoku")
    puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    print(session.ask(puzzle).text)

`load` gives a Session (a conversation), `load_model` the network alone, `denoise` the loop on
token ids. Names are imported when they are first used, so that `--help` need not load MLX.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    CheckpointError,
    ConvertError,
    DiffGemmaError,
    FitError,
    HubError,
    KernelError,
    KernelWarning,
    NumericsError,
    ProfileError,
    PromptError,
    SettingsError,
)

if TYPE_CHECKING:
    from .conversation.fill import FillTurn
    from .conversation.reply import Filled, Reply
    from .conversation.session import Session, load, load_model
    from .conversation.turn import Turn
    from .diffusion.denoise import Frame, denoise
    from .diffusion.noise import CounterNoise, Noise
    from .diffusion.pinned import FillFrame
    from .diffusion.settings import Settings
    from .model.cache import Prefix
    from .model.text import Model
    from .version import __version__

_LAZY = {
    "__version__": "version",
    "CounterNoise": "diffusion.noise",
    "FillFrame": "diffusion.pinned",
    "FillTurn": "conversation.fill",
    "Filled": "conversation.reply",
    "Frame": "diffusion.denoise",
    "Model": "model.text",
    "Noise": "diffusion.noise",
    "Prefix": "model.cache",
    "Reply": "conversation.reply",
    "Session": "conversation.session",
    "Settings": "diffusion.settings",
    "Turn": "conversation.turn",
    "denoise": "diffusion.denoise",
    "load": "conversation.session",
    "load_model": "conversation.session",
}

__all__ = [
    "CheckpointError",
    "ConvertError",
    "CounterNoise",
    "DiffGemmaError",
    "FillFrame",
    "FillTurn",
    "Filled",
    "FitError",
    "Frame",
    "HubError",
    "KernelError",
    "KernelWarning",
    "Model",
    "Noise",
    "NumericsError",
    "Prefix",
    "ProfileError",
    "PromptError",
    "Reply",
    "Session",
    "Settings",
    "SettingsError",
    "Turn",
    "__version__",
    "denoise",
    "load",
    "load_model",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
