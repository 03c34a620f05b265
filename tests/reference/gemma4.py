"""The causal encoder and the tied head as Gemma 4, run by transformers and by mlx-lm.

Both load the folder that scripts/bench/as_gemma4.py writes, and both strictly: no tensor missing,
none left over.
"""

import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Gemma4ForCausalLM

from mlx_diffgemma.convert.read import open_checkpoint

SCRIPTS = str(Path(__file__).parents[2] / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

from as_gemma4 import write_gemma4  # noqa: E402

F32 = NDArray[np.float32]


def as_gemma4_folder(folder: Path, out: Path) -> Path:
    """The Gemma 4 folder of a checkpoint, written to `out`."""
    write_gemma4(open_checkpoint(folder), out, lambda done, total: None)
    return out


class Transformers:
    """Gemma4ForCausalLM on a folder of plain numbers; eager attention and eager experts."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        model, loading = Gemma4ForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="eager",
            experts_implementation="eager",
            output_loading_info=True,
        )
        assert not any(loading.values()), loading
        self.model = model.eval()

    def logits(self, tokens: list[int]) -> F32:
        """tokens [L] -> [L, V]."""
        with torch.no_grad():
            output: F32 = self.model(torch.tensor([tokens])).logits[0].float().numpy()
        return output

    def greedy(self, tokens: list[int], count: int) -> list[int]:
        """Up to `count` tokens behind `tokens`, to the stop id and with it."""
        with torch.no_grad():
            ids = torch.tensor([tokens])
            mask = torch.ones_like(ids)
            written = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=count, do_sample=False
            )
        return list(written[0, len(tokens) :].tolist())


class MlxLm:
    """mlx-lm's gemma4_text on any folder, packed or not."""

    def __init__(self, folder: Path) -> None:
        from mlx_lm.utils import load_model

        self.model: Any = load_model(folder)[0]

    def logits(self, tokens: list[int], *, one_by_one: bool = False) -> F32:
        """tokens [L] -> [L, V]."""
        cache = self.model.make_cache()
        pieces = [[token] for token in tokens] if one_by_one else [tokens]
        rows = [self.model(mx.array(piece)[None], cache=cache)[0] for piece in pieces]
        return np.concatenate([np.array(row.astype(mx.float32)) for row in rows])

    def greedy(self, tokens: list[int], count: int) -> list[int]:
        """`count` tokens behind `tokens`, past any stop id."""
        from mlx_lm.generate import generate_step

        steps = generate_step(mx.array(tokens), self.model, max_tokens=count)
        return [int(token) for token, _ in steps]
