"""The embedded checkpoints as engines of a server."""

from __future__ import annotations

from mlx_diffgemma.checkpoint.hub import local_folder
from mlx_diffgemma.conversation.front import open_front
from mlx_diffgemma.conversation.loading import load
from mlx_diffgemma.serve.engine.engine import Facts
from mlx_diffgemma.serve.engine.loaded import LoadedEngine


def tiny_engine(name: str = "tiny-chat", mode: str = "diffusion") -> LoadedEngine:
    """The engine of an embedded checkpoint, not loaded yet."""
    folder = local_folder(name)
    assert folder is not None
    front = open_front(folder, name)
    facts = Facts(
        name,
        front.context_length,
        front.config.canvas_length,
        created=1_764_000_000,
        sees=front.config.vision is not None,
        mode=mode,
    )
    return LoadedEngine(front, facts, lambda: load(name))
