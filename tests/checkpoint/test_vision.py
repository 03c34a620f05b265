"""The vision part of config.json, image ids and budgets: what is read, and what is refused by name.

The published values stand in test_config.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Sizes, config_of, edit_json
from facts import raises

from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.checkpoint.vision import BUDGETS, ImageIds
from mlx_diffgemma.errors import CheckpointError

VOCAB = 131


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The config.json of a checkpoint that sees; no tensor is looked at."""
    config = config_of(Sizes("sf", vocab_size=VOCAB, vision=True))
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def changed(folder: Path, **values: Any) -> ModelConfig:
    """The config with other values in vision_config; None takes a key away."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    merged = config["vision_config"] | values
    config["vision_config"] = {key: value for key, value in merged.items() if value is not None}
    file.write_text(json.dumps(config))
    return read_config(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hidden_size", None, "missing ... 1 to 2,147,483,647"),
        ("hidden_size", 0, "0 ... 1 to 2,147,483,647"),
        ("hidden_size", 16.0, "16.0"),
        ("hidden_size", True, "True"),
        ("intermediate_size", "24", "'24'"),
        ("num_hidden_layers", 1025, "1025 ... 1 to 1,024"),
        ("num_attention_heads", None, "missing"),
        ("num_key_value_heads", 1, "1, expected 2"),
        ("head_dim", None, "missing"),
        ("head_dim", 6, "6 ... multiple of 4"),
        ("position_embedding_size", -1, "-1"),
        ("rms_norm_eps", 0, "0 ... positive"),
        ("rms_norm_eps", "small", "'small'"),
        ("patch_size", 14, "14 ... 16"),
        ("pooling_kernel_size", 2, "2 ... 3"),
        ("hidden_activation", "silu", "'silu' ... 'gelu_pytorch_tanh'"),
        ("attention_bias", True, "True ... False"),
        ("use_clipped_linears", True, "True ... False"),
        ("standardize", "yes", "'yes' ... true or false"),
        ("rope_parameters", [], "[], expected an object"),
    ],
)
def test_values_that_are_refused_by_name(folder: Path, key: str, value: Any, said: str) -> None:
    with raises(CheckpointError, folder / "config.json", f"vision_config.{key}", said):
        changed(folder, **{key: value})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rope_type", "proportional", "'axial' or 'default'"),
        ("rope_theta", -100.0, "-100.0 ... positive"),
    ],
)
def test_angles_that_are_refused_by_name(folder: Path, key: str, value: Any, said: str) -> None:
    with raises(CheckpointError, f"vision_config.rope_parameters.{key}", said):
        changed(folder, rope_parameters={"rope_type": "axial", "rope_theta": 100.0, key: value})


def test_two_names_of_one_kind_of_angle_are_read_alike(folder: Path) -> None:
    """ "default" at launch, "axial" where a current transformers has saved it again."""
    configs = [
        changed(folder, rope_parameters={"rope_type": name, "rope_theta": 10.0}).vision
        for name in ("axial", "default")
    ]
    assert configs[0] == configs[1]
    assert configs[0] is not None
    assert configs[0].rope_theta == 10.0


def test_what_may_be_left_out(folder: Path) -> None:
    """The reference's own values stand for them; none of them decides a shape."""
    left_out = ("rope_parameters", "rms_norm_eps", "standardize", "num_key_value_heads")
    vision = changed(folder, **dict.fromkeys(left_out)).vision
    assert vision is not None
    assert (vision.rope_theta, vision.rms_norm_eps, vision.standardize) == (100.0, 1e-6, False)


# --- ids


def test_the_ids_of_an_image(folder: Path) -> None:
    config = read_config(folder)
    assert config.image_ids == ImageIds(begin=VOCAB - 3, soft=VOCAB - 2, end=VOCAB - 1)
    assert config.image_token_id == VOCAB - 2


@pytest.mark.parametrize("key", ["boi_token_id", "image_token_id", "eoi_token_id"])
@pytest.mark.parametrize("value", [VOCAB, -1, "<|image|>", 5.0, True])
def test_ids_outside_the_vocabulary(folder: Path, key: str, value: Any) -> None:
    edit_json(folder / "config.json", **{key: value})
    with raises(CheckpointError, folder / "config.json", key, value, f"0 to {VOCAB - 1}"):
        read_config(folder)


@pytest.mark.parametrize("key", ["boi_token_id", "eoi_token_id"])
def test_an_id_that_lacks_beside_the_others(folder: Path, key: str) -> None:
    edit_json(folder / "config.json", **{key: None})
    with raises(CheckpointError, key, "missing"):
        read_config(folder)


def test_ids_that_are_equal(folder: Path) -> None:
    edit_json(folder / "config.json", boi_token_id=7, image_token_id=7, eoi_token_id=9)
    with raises(CheckpointError, "image_token_id", "7, 7, 9", "three"):
        read_config(folder)


def test_a_tower_without_ids_is_read(folder: Path) -> None:
    """Nothing can be asked about an image; text can."""
    edit_json(folder / "config.json", image_token_id=None)
    config = read_config(folder)
    assert config.vision is not None
    assert (config.image_ids, config.image_token_id) == (None, None)


# --- budgets


def processor(folder: Path, content: str) -> None:
    (folder / "processor_config.json").write_text(content)


def test_budgets_where_no_processor_says_any(folder: Path) -> None:
    vision = read_config(folder).vision
    assert vision is not None
    assert (vision.soft_tokens, vision.budgets) == (280, BUDGETS)


@pytest.mark.parametrize("content", ["{}", '{"image_processor": null}', '{"image_processor": {}}'])
def test_a_processor_that_names_no_budget(folder: Path, content: str) -> None:
    processor(folder, content)
    vision = read_config(folder).vision
    assert vision is not None
    assert vision.soft_tokens == 280


def test_a_budget_of_its_own_is_offered_beside_the_five(folder: Path) -> None:
    processor(folder, '{"image_processor": {"max_soft_tokens": 99}}')
    vision = read_config(folder).vision
    assert vision is not None
    assert (vision.soft_tokens, vision.budgets) == (99, (70, 99, 140, 280, 560, 1120))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"image_processor": {"max_soft_tokens": 0}}',
            "image_processor.max_soft_tokens is 0 ... 1 to 1,120",
        ),
        (
            '{"image_processor": {"max_soft_tokens": 1121}}',
            "image_processor.max_soft_tokens is 1121",
        ),
        (
            '{"image_processor": {"max_soft_tokens": "280"}}',
            "image_processor.max_soft_tokens is '280'",
        ),
        ('{"image_processor": []}', "image_processor is [] ... an object"),
        ("{", "a JSON object"),
        ("[]", "a JSON object"),
    ],
)
def test_a_processor_that_is_broken(folder: Path, content: str, said: str) -> None:
    processor(folder, content)
    with raises(CheckpointError, folder / "processor_config.json", said):
        read_config(folder)


def test_a_processor_beside_a_text_only_config_is_not_looked_at(folder: Path) -> None:
    processor(folder, "{")
    edit_json(folder / "config.json", vision_config=None)
    assert read_config(folder).vision is None
