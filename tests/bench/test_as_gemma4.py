"""A DiffusionGemma folder as a Gemma 4 one: mlx-lm loads it strictly and computes the same.

tests/reference/test_autoregressive.py holds both against transformers.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import (
    Packing,
    Sizes,
    load_tensors,
    published,
    quantise_folder,
    random_tensors,
    write_checkpoint,
)
from compare import assert_close
from facts import assert_says, raises

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.profile.baseline import load_baseline
from mlx_diffgemma.profile.workload import Workload, first_questions

ROOT = Path(__file__).parents[2]
SCRIPTS = str(ROOT / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import as_gemma4 as module  # noqa: E402

SIZES = Sizes(hidden_size=64, intermediate_size=64, moe_intermediate_size=64)
TOKENS = [2, 17, 5, 90, 33, 101, 8, 77, 64, 12]


def written(folder: Path, out: Path) -> Path:
    module.write_gemma4(open_checkpoint(folder), out, lambda done, total: None)
    return out


def theirs(folder: Path) -> Any:
    """mlx-lm's logits of TOKENS; it raises for a tensor that is missing or left over."""
    from mlx_lm.utils import load_model

    network, _ = load_model(folder)
    return np.array(network(mx.array(TOKENS)[None])[0])


def ours(folder: Path) -> Any:
    model = dg.load_model(folder)
    return np.array(model.logits(model.encode_hidden(TOKENS, model.new_prefix()))[0])


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        ({}, {"strays": True}),
        ({"spelling": "per_layer", "layers": "sf"}, {"per_expert": True, "shards": 2}),
        ({"vision": True, "layers": "f"}, {}),
    ],
    ids=["fused", "one by one", "with vision"],
)
def test_plain_folders(tmp_path: Path, given: Any, layout: Any) -> None:
    folder = write_checkpoint(tmp_path / "in", Sizes(**given), **layout)
    out = written(folder, tmp_path / "out")
    assert_close(theirs(out), ours(folder), 2e-5, "logits")


def test_packed_folders(tmp_path: Path) -> None:
    """The integers are the source's own, gate and up parted; overrides bear the new names."""
    plain = write_checkpoint(tmp_path / "in", SIZES)
    default, kept = Packing("mxfp4", 4, 32), Packing("affine", 8, 64)
    folder = quantise_folder(plain, tmp_path / "q", default, published(default, kept))
    out = written(folder, tmp_path / "out")
    assert_close(theirs(out), ours(folder), 2e-5, "logits")
    before, after = load_tensors(folder), load_tensors(out)
    both = before["model.decoder.layers.1.experts.gate_up_proj.weight"]
    halves = [
        after[f"model.layers.1.experts.switch_glu.{part}_proj.weight"] for part in ("gate", "up")
    ]
    assert mx.array_equal(mx.concatenate(halves, axis=1), both)
    quantization = json.loads((out / "config.json").read_text())["quantization"]
    assert quantization["bits"] == 4
    assert quantization["model.layers.0.router.proj"]["bits"] == 8
    assert not [name for name in quantization if "experts" in name or "decoder" in name]


def test_the_encoders_scalars_are_taken() -> None:
    tensors = random_tensors(SIZES)
    renamed = module.as_gemma4(tensors)
    encoder = "model.encoder.language_model.layers.2.layer_scalar"
    assert renamed["model.layers.2.layer_scalar"] is tensors[encoder]
    dropped = {"self_conditioning", "decoder", "encoder", "vision"}
    assert not [name for name in renamed if any(word in name for word in dropped)]
    lost = {id(array) for array in tensors.values()} - {id(array) for array in renamed.values()}
    names = [name for name, array in tensors.items() if id(array) in lost]
    assert all("self_conditioning" in name or "decoder.layers" in name for name in names)
    assert len(names) == 4 + len(SIZES.layers)  # self-conditioning, the decoder's scalars


def test_settings_are_those_of_single_tokens(tmp_path: Path) -> None:
    """A sampler of canvases, and its cap at a canvas's tokens, would mislead transformers."""
    out = written(Path(str(embedded_folder("tiny-chat"))), tmp_path / "out")
    settings = json.loads((out / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [1, 5, 18]
    assert (settings["temperature"], settings["top_k"], settings["top_p"]) == (1.0, 64, 0.95)
    assert "max_new_tokens" not in settings
    config = json.loads((out / "config.json").read_text())
    assert {a.dtype for a in load_tensors(out).values()} == {mx.uint32, mx.float32}
    assert (config["model_type"], config["dtype"]) == ("gemma4_text", "float32")


def test_only_its_own_folder_is_replaced(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "in", Sizes(layers="f"))
    out = written(folder, tmp_path / "out")
    first = (out / "model.safetensors").stat().st_ino
    assert (written(folder, out) / "model.safetensors").stat().st_ino != first
    (out / "notes.txt").write_text("mine")
    with raises(dg.ConvertError, "out holds notes.txt ... did not write ... another name"):
        written(folder, out)
    with raises(dg.ConvertError, "in holds config.json ... did not write"):
        written(folder, folder)
    with raises(dg.ConvertError, "one inside the other"):
        written(folder, folder / "inside")
    (tmp_path / "file").write_text("mine")
    with raises(dg.ConvertError, "file is a file"):
        written(folder, tmp_path / "file")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "in", "out"]


def test_an_interruption_leaves_nothing_or_whole_shards(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "in", Sizes(layers="f"))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.write_gemma4(open_checkpoint(folder), tmp_path / "out", interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ("tiny-sudoku", "tiny-sudoku ... next-token loss ... tiny-chat"),
        ("no/such", "'no/such' is no folder ... Hub cache ... hf download"),
        ("", "'' is no folder"),
    ],
)
def test_what_is_no_checkpoint_for_it(model: str, facts: str) -> None:
    with raises(dg.CheckpointError, facts):
        module.open_source(model)


def test_a_gemma_4_folder_is_not_converted_again(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "in", Sizes(layers="f"))
    out = written(folder, tmp_path / "out")
    with raises(dg.CheckpointError, "model_type 'gemma4_text' ... expected 'diffusion_gemma'"):
        module.open_source(str(out))


def test_a_baseline_of_the_same_prompts(tmp_path: Path) -> None:
    """profile --baseline: the model's own template and ids, by mlx-lm, and the model's name."""
    out, session = tmp_path / "out", dg.load("tiny-chat")
    module.write_gemma4(module.open_source("tiny-chat"), out, lambda done, total: None)
    baseline = load_baseline("out", out, session)
    assert baseline.source == "tiny-chat"
    workload = Workload(steps=2, canvases=5, context=100)
    question = first_questions(session, workload)[0]
    assert baseline.tokens(session, workload, question) == list(question.tokens)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """As the page has it: written by the script, read by mlx-lm's own command."""
    command = [sys.executable, f"{SCRIPTS}/as_gemma4.py", "tiny-chat", str(tmp_path / "out")]
    ran = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert_says(ran.stdout.strip(), "265 tensors ... Gemma 4")
    prompt = "Tell me a story about a bear"
    options = ["--temp", "0", "--chat-template-config", '{"enable_thinking": false}']
    command = [sys.executable, "-W", "ignore", "-m", "mlx_lm", "generate", "--max-tokens", "300"]
    command += ["--model", str(tmp_path / "out"), "--prompt", prompt, *options]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    settings = dg.Settings(mode="ar", temperature=0)
    reply = dg.load("tiny-chat").ask(prompt, settings=settings)
    assert ran.stdout.split("==========\n")[1].strip() == reply.text
