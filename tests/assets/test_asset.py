"""tiny-sudoku: an ordinary folder, whole, small and in float16; the names of what is embedded."""

import json
import shutil
import subprocess
import sys
from hashlib import sha256

import jinja2
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from mlx_diffgemma.assets import EMBEDDED, TASKS, Task, embedded_folder
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.images.prepare import target_size

FOLDER = embedded_folder("tiny-sudoku")
NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm",
    "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2",
)
VISION_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
# sha256 over the text tensors in the order of their names: name, shape and bytes of each
TEXT_HASH = "7f4b111f77ce84f9cf57f32255d4db932ff25a0f34f39467865cf3a50c91f52b"

# Index into data/puzzles.json and the prompt's ids as the trainer wrote them down.
# fmt: off
PROMPT_IDS = {
    0: [2, 4, 6, 10,
        53, 48, 48, 48, 51, 48, 48, 57, 55, 10, 48, 48, 48, 48, 54, 48, 48, 48, 48, 10,
        48, 57, 48, 48, 52, 48, 56, 48, 48, 10, 54, 48, 48, 48, 48, 53, 52, 48, 51, 10,
        48, 51, 48, 52, 49, 48, 53, 48, 56, 10, 48, 49, 48, 51, 48, 48, 48, 55, 48, 10,
        49, 48, 48, 54, 48, 48, 57, 48, 48, 10, 48, 56, 50, 48, 48, 52, 48, 48, 48, 10,
        57, 48, 52, 48, 48, 56, 51, 53, 50, 5, 10, 4, 7, 10],
    100: [2, 4, 6, 10,
          48, 48, 56, 55, 52, 51, 48, 48, 48, 10, 49, 52, 54, 48, 57, 48, 48, 48, 48, 10,
          48, 51, 55, 48, 50, 48, 48, 52, 48, 10, 48, 48, 50, 48, 48, 48, 48, 48, 54, 10,
          56, 48, 57, 48, 48, 48, 48, 53, 52, 10, 54, 49, 48, 48, 48, 55, 51, 48, 50, 10,
          48, 48, 53, 48, 49, 48, 56, 48, 55, 10, 57, 48, 51, 48, 55, 53, 48, 54, 49, 10,
          48, 50, 49, 56, 54, 52, 53, 48, 57, 5, 10, 4, 7, 10],
    199: [2, 4, 6, 10,
          48, 48, 50, 54, 51, 48, 55, 48, 53, 10, 48, 48, 51, 48, 48, 48, 57, 49, 48, 10,
          48, 56, 55, 57, 52, 48, 51, 50, 54, 10, 48, 53, 54, 49, 50, 57, 52, 51, 55, 10,
          57, 48, 52, 51, 48, 55, 48, 56, 48, 10, 51, 48, 49, 56, 48, 52, 48, 48, 57, 10,
          48, 48, 48, 50, 49, 54, 56, 53, 52, 10, 50, 48, 48, 52, 57, 53, 49, 55, 48, 10,
          48, 49, 53, 55, 48, 48, 54, 57, 48, 5, 10, 4, 7, 10],
}
# fmt: on


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def layer_shapes(config, kind):
    """Tensors of one decoder layer: name -> shape."""
    full = kind == "full_attention"
    hidden, dense = config["hidden_size"], config["intermediate_size"]
    experts, inner = config["num_experts"], config["moe_intermediate_size"]
    head = config["global_head_dim" if full else "head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_global_key_value_heads" if full else "num_key_value_heads"] * head
    shapes = {
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "self_attn.q_norm.weight": (head,),
        "self_attn.k_norm.weight": (head,),
        **mlp_shapes("mlp", hidden, dense),
        "experts.gate_up_proj": (experts, 2 * inner, hidden),
        "experts.down_proj": (experts, hidden, inner),
        "router.proj.weight": (experts, hidden),
        "router.scale": (hidden,),
        "router.per_expert_scale": (experts,),
        "layer_scalar": (1,),
        **{f"{norm}.weight": (hidden,) for norm in NORMS},
    }
    if full:  # keys serve as values
        del shapes["self_attn.v_proj.weight"]
    return shapes


def mlp_shapes(prefix, hidden, inner):
    return {
        f"{prefix}.gate_proj.weight": (inner, hidden),
        f"{prefix}.up_proj.weight": (inner, hidden),
        f"{prefix}.down_proj.weight": (hidden, inner),
    }


def text_shapes(config):
    """Every tensor of the text network: name -> shape."""
    hidden = config["hidden_size"]
    shapes = {
        "model.decoder.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.decoder.norm.weight": (hidden,),
        "model.decoder.self_conditioning.pre_norm.weight": (hidden,),
        **mlp_shapes("model.decoder.self_conditioning", hidden, config["intermediate_size"]),
    }
    for n, kind in enumerate(config["layer_types"]):
        for name, shape in layer_shapes(config, kind).items():
            shapes[f"model.decoder.layers.{n}.{name}"] = shape
        shapes[f"model.encoder.language_model.layers.{n}.layer_scalar"] = (1,)
    return shapes


def vision_shapes(config, text_hidden):
    """Every tensor of the vision tower and its projection: name -> shape."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tower, embedder = "model.encoder.vision_tower", "patch_embedder"
    shapes = {
        "model.encoder.embed_vision.embedding_projection.weight": (text_hidden, hidden),
        f"{tower}.{embedder}.input_proj.weight": (hidden, 3 * config["patch_size"] ** 2),
        f"{tower}.{embedder}.position_embedding_table": (
            *(2, config["position_embedding_size"]),
            hidden,
        ),
        f"{tower}.std_bias": (hidden,),
        f"{tower}.std_scale": (hidden,),
    }
    for n in range(config["num_hidden_layers"]):
        layer = f"{tower}.encoder.layers.{n}"
        for name, shape in mlp_shapes(f"{layer}.mlp", hidden, inner).items():
            shapes[name.replace(".weight", ".linear.weight")] = shape
        for matrix in "qkvo":
            shapes[f"{layer}.self_attn.{matrix}_proj.linear.weight"] = (hidden, hidden)
        for norm in "qk":
            shapes[f"{layer}.self_attn.{norm}_norm.weight"] = (config["head_dim"],)
        for norm in VISION_NORMS:
            shapes[f"{layer}.{norm}.weight"] = (hidden,)
    return shapes


def test_the_folder_holds_what_it_should_and_stays_small():
    files = {path.name: path.stat() for path in FOLDER.iterdir()}
    assert sorted(files) == [
        "MODEL.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sum(stat.st_size for stat in files.values()) <= 4_500_000


def test_every_tensor_is_float16_finite_and_of_the_architecture():
    tensors, config = load_file(FOLDER / "model.safetensors"), read("config.json")
    text, vision = config["text_config"], config["vision_config"]
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        **text_shapes(text),
        **vision_shapes(vision, text["hidden_size"]),
    }
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float16, name
        assert np.isfinite(tensor).all(), name
    assert sum(tensor.size for tensor in tensors.values()) == 1_823_420 + 365_280


def test_the_text_network_is_the_one_that_was_trained_on_text():
    """To the bit: the tower came later, and what solves a puzzle given as text did not move."""
    tensors = load_file(FOLDER / "model.safetensors")
    found = sha256()
    for name in sorted(text_shapes(read("config.json")["text_config"])):
        found.update(name.encode() + str(tensors[name].shape).encode() + tensors[name].tobytes())
    assert found.hexdigest() == TEXT_HASH


def test_the_config_computes_in_float32_and_has_the_trained_sizes():
    config = read("config.json")
    assert config["dtype"] == "float32"
    assert config["model_type"] == "diffusion_gemma"
    assert config["canvas_length"] == 90
    assert config["text_config"]["rope_parameters"]["sliding_attention"]["rope_theta"] == 41.2
    assert read("generation_config.json")["eos_token_id"] == 1


def prompt_ids(content):
    """The ids of a turn with this content, by the checkpoint's own template and tokenizer."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(read("tokenizer_config.json")["chat_template"])
    text = template.render(
        messages=[{"role": "user", "content": content}],
        bos_token="<bos>",
        add_generation_prompt=True,
    )
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("index", PROMPT_IDS)
def test_a_rendered_prompt_has_the_ids_of_training(index, puzzles):
    content = TASKS["sudoku"]().prepare(puzzles[index]["puzzle"])
    assert prompt_ids(content) == PROMPT_IDS[index]
    assert prompt_ids([{"type": "text", "text": content}]) == PROMPT_IDS[index]


def test_a_picture_stands_where_the_digits_of_a_text_do():
    """No line break before it and no end of the turn behind it: cell for cell the same places."""
    before, picture, after = [2, 4, 6], 26, [4, 7, 10]
    assert prompt_ids([{"type": "image"}]) == [*before, picture, *after]
    ids = read_config(FOLDER).image_ids
    assert ids == ImageIds(begin=14, soft=picture, end=15)
    assert len([*before, ids.begin, *[picture] * 90, ids.end, *after]) == len(PROMPT_IDS[0])


def test_an_image_has_ninety_of_ninety_nine_soft_tokens():
    vision = read_config(FOLDER).vision
    assert vision.soft_tokens == 99
    assert target_size(480, 432, vision.soft_tokens) == (480, 432)


def test_an_answer_fills_the_canvas_with_its_stop_id(puzzles):
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    solution = puzzles[0]["solution"]
    answer = "\n".join(solution[start : start + 9] for start in range(0, 81, 9))
    ids = tokenizer.encode(answer, add_special_tokens=False).ids
    assert len(ids) + 1 == read("config.json")["canvas_length"]
    assert tokenizer.decode(ids) == answer


def test_embedded_folders_are_found_by_name_alone():
    assert list(EMBEDDED) == ["tiny-chat", "tiny-sudoku"]
    assert all(embedded_folder(name).is_dir() for name in EMBEDDED)
    for name in [
        "",
        ".",
        "..",
        "tiny-sudoku/",
        "Tiny-Sudoku",
        "data",
        "org/tiny-sudoku",
        str(FOLDER),
    ]:
        assert embedded_folder(name) is None, name


def test_the_checkpoint_says_what_it_was_trained_for(tmp_path):
    """By its config.json: once by the folder it lay in, so that a copy talked nonsense."""
    assert read("config.json")["mlx_diffgemma"] == {"task": "sudoku", "modes": ["diffusion"]}
    copy = shutil.copytree(FOLDER, tmp_path / "copy")
    for folder in (FOLDER, copy):
        config = read_config(folder)
        assert (config.task, config.modes) == ("sudoku", ("diffusion",))


def test_tasks_are_found_by_name():
    assert list(TASKS) == ["sudoku"]
    task: Task = TASKS["sudoku"]()
    assert task.prepare("." * 81) == "\n".join(["0" * 9] * 9)
    with pytest.raises(PromptError):
        task.prepare("hello")


def test_asking_about_assets_loads_nothing_heavy():
    code = """
import sys, mlx_diffgemma
before = set(sys.modules)
import mlx_diffgemma.assets
new = set(sys.modules) - before
heavy = {"importlib.resources", "numpy", "mlx.core", "mlx_diffgemma.assets.sudoku"}
assert not new & heavy, new & heavy
mlx_diffgemma.assets.embedded_folder("tiny-sudoku")
mlx_diffgemma.assets.TASKS["sudoku"]()
new = set(sys.modules) - before
assert "mlx_diffgemma.assets.sudoku" in new
assert not new & {"numpy", "mlx.core"}, new
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
