"""The public surface: what has a name, what it takes, and that naming it costs nothing."""

import inspect
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma import errors
from mlx_diffgemma.conversation.fill import FillOptions

ROOT = Path(__file__).parents[1]
NAMES = [
    "CheckpointError",
    "Choice",
    "Clip",
    "ConfigFileError",
    "ConstraintError",
    "ConvertError",
    "CounterNoise",
    "DataError",
    "Decision",
    "DiffGemmaError",
    "FillFrame",
    "FillTurn",
    "Filled",
    "FitError",
    "Frame",
    "HubError",
    "ImageError",
    "KernelError",
    "KernelWarning",
    "Model",
    "Noise",
    "Noul",
    "NumericsError",
    "Pixels",
    "Prefix",
    "ProfileError",
    "PromptError",
    "Reply",
    "RequestError",
    "Score",
    "ServeError",
    "Session",
    "Settings",
    "SettingsError",
    "ShareError",
    "TrainingError",
    "Turn",
    "TurnError",
    "__version__",
    "denoise",
    "load",
    "load_model",
    "prepare_image",
    "prepare_video",
    "show",
]


# --- names


def test_the_public_names_are_these() -> None:
    assert dg.__all__ == NAMES
    assert dir(dg) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_had(name: str) -> None:
    value = getattr(dg, name)
    if name != "__version__":
        assert value.__name__ == name
        assert inspect.getdoc(value)


def test_another_name_is_an_attribute_error() -> None:
    with raises(AttributeError, "'mlx_diffgemma' ... 'generate'"):
        dg.generate  # noqa: B018


def test_no_public_name_is_a_modules() -> None:
    """An import of that module would put it in the name's place."""
    assert set(NAMES).isdisjoint(module.name for module in pkgutil.iter_modules(dg.__path__))


def test_importing_the_package_loads_neither_mlx_nor_numpy() -> None:
    code = (
        "import sys, mlx_diffgemma as dg; dg.SettingsError; dg.__version__; "
        "print(sorted({'mlx', 'numpy', 'tokenizers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


# --- errors

TREE = {
    "CheckpointError": Exception,
    "ConfigFileError": Exception,
    "HubError": Exception,
    "SettingsError": ValueError,
    "ConstraintError": ValueError,
    "PromptError": ValueError,
    "RequestError": ValueError,
    "ImageError": ValueError,
    "TurnError": Exception,
    "FitError": Exception,
    "NumericsError": ArithmeticError,
    "KernelError": ValueError,
    "ConvertError": Exception,
    "DataError": ValueError,
    "ServeError": Exception,
    "ShareError": Exception,
    "ProfileError": Exception,
    "TrainingError": Exception,
}


@pytest.mark.parametrize(("name", "builtin"), TREE.items())
def test_every_error_is_a_leaf_of_one_tree(name: str, builtin: type[Exception]) -> None:
    error = getattr(dg, name)
    assert error is getattr(errors, name)
    assert dg.DiffGemmaError in error.__bases__
    assert issubclass(error, builtin)
    assert error.__subclasses__() == []


def test_the_tree_is_drawn_whole() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == {"DiffGemmaError", "KernelWarning", *TREE}
    assert all(name in str(errors.__doc__) for name in defined)


# --- what other programs call


def parameters(function: object) -> list[str]:
    """Names in order; "*" stands before those that must be named, "=" behind optional ones."""
    names: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in names:
            names.append("*")
        names.append(name if parameter.default is parameter.empty else f"{name}=")
    return names


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            "load",
            [
                *("model", "dtype=", "*", "offline=", "download=", "force=", "consent="),
                *("progress=", "choices=", "adapter=", "gentle=", "share=", "cut="),
            ],
        ),
        ("load_model", ["folder", "dtype=", "adapter="]),
        ("Model.encode", ["self", "tokens", "prefix=", "*", "images=", "chunk=", "progress="]),
        ("Model.image_features", ["self", "images"]),
        ("Model.decode", ["self", "canvas", "prefix", "soft="]),
        ("Model.logits", ["self", "hidden"]),
        ("Model.soft_embedding", ["self", "processed", "bias="]),
        ("CounterNoise", ["seed"]),
        ("Noise.canvas", ["self", "canvas", "length", "vocab"]),
        ("Noise.renoise", ["self", "canvas", "step", "length", "vocab"]),
        ("Noise.uniforms", ["self", "canvas", "step", "length"]),
        ("CounterNoise.canvas", ["self", "canvas", "length", "vocab"]),
        ("CounterNoise.renoise", ["self", "canvas", "step", "length", "vocab"]),
        ("CounterNoise.uniforms", ["self", "canvas", "step", "length"]),
        ("Session.reset", ["self"]),
        ("show", ["turn"]),
    ],
)
def test_functions_take_what_the_contract_says(function: str, expected: list[str]) -> None:
    owner, _, name = function.rpartition(".")
    found = getattr(getattr(dg, owner), name) if owner else getattr(dg, name)
    assert parameters(found) == expected


def test_the_loop_takes_what_the_contract_says_and_a_cache() -> None:
    expected = ["model", "prompt_tokens", "settings=", "noise=", "*", "canvas=", "soft="]
    more = ["images=", "prefix=", "progress=", "constraint="]
    assert parameters(dg.denoise) == [*expected, *more]


def test_a_question_takes_its_options_by_name() -> None:
    options = ["settings=", "system=", "think=", "raw=", "progress="]
    options += ["images=", "video=", "image_tokens=", "instead="]
    options += ["schema=", "pattern=", "choices=", "tools=", "tool_choice="]
    assert parameters(dg.Session.turn) == ["self", "prompt", "*", *options, "fields"]


def test_a_template_takes_its_options_by_name() -> None:
    options = ["prompt", "gaps", "settings", "system", "raw", "progress"]
    options += ["images", "video", "image_tokens"]
    settings = [field.name for field in fields(dg.Settings)]
    assert list(FillOptions.__annotations__) == [*settings, *options]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Filled", {"text", "holes", "token_ids", "finish_reason", "seed", "steps", "seconds"}),
        ("Filled", {"fields", "constraint"}),
        ("FillFrame", {"tokens", "entropies", "accepted", "pinned", "holes", "committed"}),
        ("Frame", {"canvas", "step", "tokens", "text", "entropies", "accepted", "committed"}),
        ("Settings", {"max_tokens", "seed", "max_denoising_steps", "entropy_bound", "t_min"}),
        ("Settings", {"t_max", "stability_threshold", "confidence_threshold", "stop"}),
        ("Settings", {"exact_self_conditioning"}),
        ("Reply", {"text", "token_ids", "finish_reason", "seed", "steps", "seconds", "sampler"}),
        ("Reply", {"constraint"}),
    ],
)
def test_records_have_the_fields_of_the_contract(name: str, expected: set[str]) -> None:
    record = getattr(dg, name)
    assert is_dataclass(record)
    assert expected <= {field.name for field in fields(record)}


def test_a_prefix_shows_its_keys_and_values() -> None:
    for name in ("keys", "values", "length"):
        assert isinstance(inspect.getattr_static(dg.Prefix, name), property)


def test_the_products_noise_is_a_noise() -> None:
    noise: dg.Noise = dg.CounterNoise(1)
    members = {name for name in vars(dg.Noise) if not name.startswith("_")}
    assert members == {"canvas", "renoise", "uniforms"}
    assert all(callable(getattr(noise, name)) for name in members)
