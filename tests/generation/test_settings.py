"""Settings are checked where they are made, say so in one line, and mix with a checkpoint's own."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from facts import raises
from fake_model import tiny_config

from mlx_diffgemma.checkpoint.config import ModelConfig
from mlx_diffgemma.checkpoint.generation import SamplerDefaults, TokenDefaults
from mlx_diffgemma.checkpoint.places import Place
from mlx_diffgemma.errors import CheckpointError, DiffGemmaError, SettingsError
from mlx_diffgemma.generation.settings import Settings, merged

NAN, INFINITY = float("nan"), float("inf")

WHOLE_64_BITS = "from 0 to 18446744073709551615"
REFUSED = {
    "max_tokens": ((0, -5, 2.0, "9", True, 2**31), "at least 1"),
    "seed": ((-1, 2**64, 1.5, False), WHOLE_64_BITS),
    "max_denoising_steps": ((0, -1, 2**31), "at least 1"),
    "stability_threshold": ((-1, 0.5), "at least 0"),
    "entropy_bound": ((0, -0.1, NAN, INFINITY, "0.1", True, 1e308, 1e-320), "above 0"),
    "t_min": ((-0.1, NAN, 1e39), "at least 0"),
    "t_max": ((0.0, INFINITY, 1e308, [0.8]), "above 0"),
    "confidence_threshold": ((0.0, -1), "above 0"),
}
REFUSED_IN_AR = {
    "temperature": ((-0.5, NAN, INFINITY, "1", True), "at least 0"),
    "top_k": ((-1, 2.0, True), "at least 0"),
    "top_p": ((0, -0.1, 1.5, NAN), "above 0 up to 1"),
    "min_p": ((2, -0.1, NAN), "at least 0 up to 1"),
}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, value, allowed) for name, (values, allowed) in REFUSED.items() for value in values],
)
def test_a_value_out_of_range_is_refused_in_one_line(
    name: str, value: object, allowed: str
) -> None:
    with raises(SettingsError, f"{name} is {value!r}", allowed):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(n, value, allowed) for n, (values, allowed) in REFUSED_IN_AR.items() for value in values],
)
def test_a_value_of_mode_ar_out_of_range_is_refused_in_one_line(
    name: str, value: object, allowed: str
) -> None:
    with raises(SettingsError, f"{name} is {value!r}", allowed):
        Settings(mode="ar", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "times",
    [
        *((-1, 2), (0, 1), (1, NAN), (1,), (1, 2, 3, 4), (INFINITY, INFINITY)),
        *("1,2", 5, (True, 1), ("1", 2), (1, 2, -3)),
    ],
)
def test_times_that_are_none_are_refused(times: object) -> None:
    with raises(SettingsError, "auto_times is", "expected milliseconds above 0"):
        Settings(mode="auto", auto_times=times)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "times", [(1, 2), [447, 18.1], (INFINITY, 1), (1, INFINITY), (1, 2, 3), (1, 2, INFINITY)]
)
def test_times_may_be_infinite_and_have_a_third(times: tuple[float, ...]) -> None:
    assert Settings(mode="auto", auto_times=times).auto_times == tuple(times)


OTHER_MODES = [
    ("diffusion", {"temperature": 0}, "ar or auto"),  # 0 is a setting, too
    ("diffusion", {"top_k": 0}, "ar or auto"),
    ("diffusion", {"top_p": 0.9}, "ar or auto"),
    ("diffusion", {"min_p": 0.0}, "ar or auto"),
    ("diffusion", {"lookup": True}, "ar or auto"),
    ("diffusion", {"auto_times": (1, 2)}, "auto"),
    ("ar", {"auto_times": (1, 2)}, "auto"),
    ("ar", {"entropy_bound": 0.1}, "diffusion or auto"),
    ("ar", {"stability_threshold": 0}, "diffusion or auto"),
    ("ar", {"exact_self_conditioning": True}, "diffusion or auto"),
]


@pytest.mark.parametrize(("mode", "given", "modes"), OTHER_MODES)
def test_a_setting_of_another_mode_is_refused_with_both_named(
    mode: str, given: dict[str, object], modes: str
) -> None:
    (name,) = given
    with raises(SettingsError, f"{name} is for mode {modes}, and the mode is {mode} ... {modes}"):
        Settings(mode=mode, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["AR", "", None, ["ar"]])
def test_an_unknown_mode_is_refused(mode: object) -> None:
    with raises(SettingsError, f"mode is {mode!r} ... diffusion, ar, auto"):
        Settings(mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "times", "certain"),
    [
        ("diffusion", None, "diffusion"),
        ("ar", None, "ar"),
        ("auto", None, "auto"),
        ("auto", (1, 2), "auto"),
        ("auto", (INFINITY, 2), "ar"),
        ("auto", (1, INFINITY), "diffusion"),
    ],
)
def test_infinite_times_make_the_mode_certain(
    mode: str, times: tuple[float, float] | None, certain: str
) -> None:
    assert Settings(mode=mode, auto_times=times).certain_mode == certain


def test_fields_given_beside_settings_are_merged() -> None:
    given = Settings(seed=3, mode="ar")
    assert merged(given, {"temperature": 0, "max_tokens": None}) == replace(given, temperature=0)
    assert merged(None, {"mode": "ar", "temperature": 0}) == Settings(mode="ar", temperature=0)
    with raises(SettingsError, "seed is given"):
        merged(given, {"seed": 3})
    with pytest.raises(TypeError, match="sed"):
        merged(given, {"sed": 3})
    with pytest.raises(TypeError, match="sed"):
        merged(given, {"sed": None})


@pytest.mark.parametrize(
    ("name", "digits"),
    [("max_tokens", 400), ("seed", 400), ("t_max", 400), ("seed", 5000), ("t_min", 5000)],
)
def test_a_number_of_any_length_is_refused_in_one_short_line(name: str, digits: int) -> None:
    """float() of such a number is an OverflowError, and str() above 4,300 digits a ValueError."""
    with raises(SettingsError, f"{name} is", "expected", most=120):
        Settings(**{name: 10**digits})


@pytest.mark.parametrize(
    ("stop", "facts"), [("END", "'END' ... sequence"), (("a", ""), "''"), ((3,), "3")]
)
def test_stop_texts_that_are_none_are_refused(stop: object, facts: str) -> None:
    with raises(SettingsError, "stop", facts):
        Settings(stop=stop)  # type: ignore[arg-type]


def test_a_refusal_is_a_known_error_and_a_value_error() -> None:
    assert issubclass(SettingsError, DiffGemmaError)
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize(("t_min", "t_max"), [(0.8, 0.4), (0.5, 0.5)])
def test_t_min_has_to_be_below_t_max(t_min: float, t_max: float) -> None:
    with raises(SettingsError, f"t_min {t_min} ... below ... t_max {t_max}"):
        Settings(t_min=t_min, t_max=t_max)


@pytest.mark.parametrize(
    "allowed",
    [
        {"max_tokens": 1},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"max_denoising_steps": 1},
        {"stability_threshold": 0},
        {"entropy_bound": 1e-30},
        {"entropy_bound": 1000},
        {"t_min": 0, "t_max": 1e-3},
        {"confidence_threshold": 5},
        {"stop": ()},
        {"stop": ("\n", "END")},
    ],
)
def test_the_ends_of_each_range_are_allowed(allowed: dict[str, object]) -> None:
    settings = Settings(**allowed)  # type: ignore[arg-type]
    assert {name: getattr(settings, name) for name in allowed} == allowed


def test_stop_texts_may_come_as_any_sequence() -> None:
    assert Settings(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="num_beams"):
        Settings(num_beams=2)  # type: ignore[call-arg]


def test_settings_are_frozen_and_compare_by_value() -> None:
    settings = Settings(seed=3, stop=("x",))
    with pytest.raises(FrozenInstanceError):
        settings.seed = 4  # type: ignore[misc]
    assert settings == Settings(seed=3, stop=("x",))
    assert hash(settings) == hash(Settings(seed=3, stop=("x",)))


def test_the_fields_are_the_contract() -> None:
    assert [field.name for field in fields(Settings)] == [
        "max_tokens",
        "seed",
        "max_denoising_steps",
        "entropy_bound",
        "t_min",
        "t_max",
        "stability_threshold",
        "confidence_threshold",
        "stop",
        "exact_self_conditioning",
        "mode",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "lookup",
        "auto_times",
    ]
    defaults = Settings()
    assert (defaults.stop, defaults.exact_self_conditioning) == ((), False)
    assert {getattr(defaults, field.name) for field in fields(Settings)[:8]} == {None}


# --- mixing with the checkpoint's defaults

OWN = SamplerDefaults(
    max_denoising_steps=9,
    entropy_bound=0.3,
    t_min=0.2,
    t_max=0.6,
    stability_threshold=2,
    confidence_threshold=0.01,
)


FILE = Path("folder/generation_config.json")


def shipped(sampler: SamplerDefaults = OWN, **places: str) -> ModelConfig:
    """A checkpoint with these defaults; places: the keys that its file gives them under."""
    where: Mapping[str, Place] = {name: Place(FILE, key) for name, key in places.items()}
    return replace(tiny_config(sampler=sampler), sampler_places=where)


def test_what_is_unset_comes_from_the_checkpoint() -> None:
    resolved = Settings().resolved(shipped(), seed=5)
    assert resolved.sampler == OWN
    assert resolved.seed == 5


def test_what_is_set_goes_before_the_checkpoint() -> None:
    resolved = Settings(seed=8, entropy_bound=0.7, stability_threshold=0).resolved(
        shipped(), seed=5
    )
    assert resolved.seed == 8
    assert resolved.sampler == SamplerDefaults(9, 0.7, 0.2, 0.6, 0, 0.01)


def test_a_given_seed_of_zero_is_a_seed() -> None:
    assert Settings(seed=0).resolved(shipped(), seed=5).seed == 0


def test_a_mix_that_contradicts_itself_names_both_places() -> None:
    """Once both were named as if the caller had given them."""
    config = shipped(t_min="t_min", t_max="t_max")
    with raises(SettingsError, f"t_min 0.7 must be below t_max 0.6 in {FILE}"):
        Settings(t_min=0.7).resolved(config, seed=0)
    with raises(SettingsError, f"t_min 0.2 in {FILE} must be below t_max 0.1"):
        Settings(t_max=0.1).resolved(config, seed=0)
    with raises(SettingsError, "t_min 0.7 must be below the default t_max 0.6"):
        Settings(t_min=0.7).resolved(shipped(), seed=0)


def test_temperatures_of_the_checkpoint_that_contradict_each_other_are_its_own_fault() -> None:
    crossed = replace(OWN, t_min=0.7, t_max=0.6)
    config = shipped(crossed, t_min="generation_config.t_min")
    facts = (f"generation_config.t_min 0.7 in {FILE} must be below the default t_max 0.6", "t_min")
    with raises(CheckpointError, *facts):
        Settings().resolved(config, seed=0)
    assert Settings(t_min=0.5).resolved(config, seed=0).sampler == replace(
        OWN, t_min=0.5, t_max=0.6
    )


BROKEN = {
    "max_denoising_steps": (0, 8.0, True, "8", 10**400, [8]),
    "entropy_bound": (0, NAN, 1e308, "0.1", False, {}),
    "t_min": (-0.1, 10**400, "x"),
    "t_max": (NAN, INFINITY, True),
    "stability_threshold": (-1, 1.0),
    "confidence_threshold": (0.0, "low"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BROKEN.items() for value in values]
)
def test_a_bad_value_of_the_checkpoint_is_an_error_of_its_file_where_it_is_used(
    name: str, value: object
) -> None:
    """Once `--steps is 0`, exit code 2, for a file that nobody on the command line had named."""
    config = shipped(replace(OWN, **{name: value}), **{name: f"sampler.{name}"})  # type: ignore[arg-type]
    with raises(CheckpointError, f"{FILE}: sampler.{name} is", "expected", "give", name):
        Settings().resolved(config, seed=0)
    given = Settings(**{name: getattr(OWN, name)}).resolved(config, seed=0)
    assert given.sampler == OWN


@pytest.mark.parametrize(("name", "value"), [("temperature", "x"), ("top_k", -1), ("top_p", 0.0)])
def test_a_bad_value_of_the_checkpoint_harms_the_mode_that_uses_it(
    name: str, value: object
) -> None:
    own = replace(TokenDefaults(), **{name: value})  # type: ignore[arg-type]
    config = replace(shipped(**{name: name}), token_sampler=own)
    for mode in ("ar", "auto"):
        with raises(CheckpointError, f"{FILE}: {name} is {value!r}", "give", name):
            Settings(mode=mode).resolved(config, seed=0)
    assert Settings().resolved(config, seed=0).sampler == OWN
    broken = replace(config, token_sampler=TokenDefaults(), sampler=replace(OWN, t_max=-1.0))
    assert Settings(mode="ar").resolved(broken, seed=0).tokens == TokenDefaults()
    assert Settings(mode="ar", temperature=0).resolved(broken, seed=0).tokens.temperature == 0


def test_a_mode_that_a_model_was_not_trained_for_is_refused_by_its_name() -> None:
    config = replace(tiny_config(), modes=("diffusion",))
    Settings().require_trained(config, "some-model")
    for mode in ("ar", "auto"):
        with raises(SettingsError, f"some-model ... next-token loss ... mode is {mode}"):
            Settings(mode=mode).require_trained(config, "some-model")


def test_defaults_made_in_python_are_the_checkpoints_too() -> None:
    config = shipped(SamplerDefaults(max_denoising_steps=0))
    with raises(CheckpointError, "checkpoint's max_denoising_steps is 0 ... at least 1"):
        Settings().resolved(config, seed=0)
