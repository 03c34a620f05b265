"""Examples in the embedded checkpoint's own form, of which it has almost nothing to learn."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.finetune.data.batches import Batches
from mlx_diffgemma.finetune.data.examples import read_examples
from mlx_diffgemma.finetune.objective import Objective
from mlx_diffgemma.finetune.parameters import TrainedAdapters
from mlx_diffgemma.text.tokenizer import load_tokenizer

ASKED = {"role": "user", "content": "What is 17 + 25?"}
ADD = {
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
CALL = {"function": {"name": "add", "arguments": '{"a": 17, "b": 25}'}}


def said(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.mark.slow
def test_what_the_model_would_say_has_almost_no_loss(tmp_path: Path) -> None:
    """Prompts, thoughts, calls, results and ends are where the network expects them; a wrong tag,
    a missing line break or another fill costs it several tenths.
    """
    folder = embedded_folder("tiny-chat")
    assert folder
    thought = "7+5=12 carry 1\n1+2+1=4"
    call = said(None, tool_calls=[CALL])
    lines = [
        [ASKED, said("17 + 25 = 42.")],
        [ASKED, said("17 + 25 = 42.", thinking=thought)],
        [ASKED, call],
        [ASKED, call, {"role": "tool", "name": "add", "content": "42"}, said("17 + 25 = 42.")],
    ]
    file = tmp_path / "train.jsonl"
    tools = ([], [], [ADD], [ADD])
    objects = [{"messages": each, "tools": t} for each, t in zip(lines, tools, strict=True)]
    file.write_text("\n".join(map(json.dumps, objects)))
    model = dg.load_model(folder, dtype=mx.float32)
    examples = read_examples(file, load_tokenizer(folder), model.config).examples
    for example in examples:
        batches = Batches([example], 4, config=model.config, seed=0, mask_prompt=True)
        losses = Objective()(TrainedAdapters(model, (), 1.0), {}, batches.batch(0))
        assert losses.decoder.item() < 0.05
        assert losses.encoder.item() < 0.05
