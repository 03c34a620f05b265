"""The checkpoints of the package behind a server's engine."""

from pathlib import Path

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.front import open_front
from mlx_diffgemma.serve.engine import Facts
from mlx_diffgemma.serve.loaded import LoadedEngine

ASSETS = Path(dg.__file__).parent / "assets"


def tiny_engine(name: str) -> LoadedEngine:
    """The engine of tiny-chat or tiny-sudoku; its weights are loaded at the first question."""
    front = open_front(ASSETS / name, name)
    config = front.config
    sees = config.vision is not None
    facts = Facts(name, front.context_length, config.canvas_length, 1_700_000_000, sees)
    return LoadedEngine(front, facts, lambda: dg.load(ASSETS / name))
