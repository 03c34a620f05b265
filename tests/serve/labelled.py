"""A small random checkpoint whose vocabulary has more than 255 labels of one token."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from string import ascii_uppercase

from checkpoints import Sizes, write_checkpoint

from mlx_diffgemma.checkpoint.hub import local_folder
from mlx_diffgemma.conversation.front import open_front
from mlx_diffgemma.conversation.loading import load
from mlx_diffgemma.serve.engine.engine import Facts
from mlx_diffgemma.serve.engine.loaded import LoadedEngine

CONTEXT, CANVAS = 32_768, 64
PIECES = r"(?<![A-Za-z])[A-Z]{2}(?![A-Za-z])|[\s\S]"  # a pair of capitals alone, else a character


def write_labelled(folder: Path) -> Path:
    """tiny-chat's characters and template, and every pair of capitals, in a random network."""
    source = local_folder("tiny-chat")
    assert source is not None
    content = json.loads((source / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    for pair in map("".join, product(ascii_uppercase, repeat=2)):
        vocab[pair] = len(vocab)
    content["pre_tokenizer"]["pattern"]["Regex"] = PIECES
    write_checkpoint(
        folder,
        Sizes(
            layers="sf",
            vocab_size=len(vocab),
            sliding_window=64,
            canvas_length=CANVAS,
            max_position_embeddings=CONTEXT,
            std=0.03,
            sharpness=4.0,
        ),
    )
    (folder / "tokenizer.json").write_text(json.dumps(content))
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / name, folder)
    return folder


def labelled_engine(folder: Path) -> LoadedEngine:
    """The engine of a folder, not loaded yet."""
    front = open_front(folder, "labelled")
    facts = Facts("labelled", CONTEXT, CANVAS, created=1_764_000_000, sees=False)
    return LoadedEngine(front, facts, lambda: load(folder))
