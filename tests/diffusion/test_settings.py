"""Settings are checked where they are made, say so in one line, and mix with a checkpoint's own."""

from dataclasses import FrozenInstanceError, fields

import pytest

from mlx_diffgemma.checkpoint.config import SamplerDefaults
from mlx_diffgemma.diffusion.settings import Settings
from mlx_diffgemma.errors import DiffGemmaError, SettingsError

NAN, INFINITY = float("nan"), float("inf")

REFUSED = [
    ("max_tokens", 0, "max_tokens is 0, expected a whole number of at least 1."),
    ("max_tokens", -5, "max_tokens is -5, expected a whole number of at least 1."),
    ("max_tokens", 2.0, "max_tokens is 2.0, expected a whole number of at least 1."),
    ("max_tokens", "9", "max_tokens is '9', expected a whole number of at least 1."),
    ("max_tokens", True, "max_tokens is True, expected a whole number of at least 1."),
    ("seed", -1, "seed is -1, expected a whole number from 0 to 18446744073709551615."),
    (
        "seed",
        2**64,
        "seed is 18446744073709551616, expected a whole number from 0 to 18446744073709551615.",
    ),
    ("seed", 1.5, "seed is 1.5, expected a whole number from 0 to 18446744073709551615."),
    ("seed", False, "seed is False, expected a whole number from 0 to 18446744073709551615."),
    ("max_denoising_steps", 0, "max_denoising_steps is 0, expected a whole number of at least 1."),
    (
        "max_denoising_steps",
        -1,
        "max_denoising_steps is -1, expected a whole number of at least 1.",
    ),
    (
        "stability_threshold",
        -1,
        "stability_threshold is -1, expected a whole number of at least 0.",
    ),
    (
        "stability_threshold",
        0.5,
        "stability_threshold is 0.5, expected a whole number of at least 0.",
    ),
    ("entropy_bound", 0, "entropy_bound is 0, expected a number above 0."),
    ("entropy_bound", -0.1, "entropy_bound is -0.1, expected a number above 0."),
    ("entropy_bound", NAN, "entropy_bound is nan, expected a number above 0."),
    ("entropy_bound", INFINITY, "entropy_bound is inf, expected a number above 0."),
    ("entropy_bound", "0.1", "entropy_bound is '0.1', expected a number above 0."),
    ("entropy_bound", True, "entropy_bound is True, expected a number above 0."),
    ("t_min", -0.1, "t_min is -0.1, expected a number of at least 0."),
    ("t_min", NAN, "t_min is nan, expected a number of at least 0."),
    ("t_max", 0.0, "t_max is 0.0, expected a number above 0."),
    ("t_max", INFINITY, "t_max is inf, expected a number above 0."),
    ("confidence_threshold", 0.0, "confidence_threshold is 0.0, expected a number above 0."),
    ("confidence_threshold", -1, "confidence_threshold is -1, expected a number above 0."),
    ("stop", "END", "stop is the text 'END', expected a sequence of texts."),
    ("stop", ("a", ""), "a stop text is '', expected at least one character."),
    ("stop", (3,), "a stop text is 3, expected at least one character."),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_value_out_of_range_is_refused_in_one_line(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(**{name: value})
    assert str(error.value) == message


def test_a_refusal_is_a_known_error_and_a_value_error() -> None:
    assert issubclass(SettingsError, DiffGemmaError)
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize(("t_min", "t_max"), [(0.8, 0.4), (0.5, 0.5)])
def test_t_min_has_to_be_below_t_max(t_min: float, t_max: float) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(t_min=t_min, t_max=t_max)
    assert str(error.value) == f"t_min {t_min} must be below t_max {t_max}."


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
    with pytest.raises(TypeError, match="top_p"):
        Settings(top_p=0.9)  # type: ignore[call-arg]


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


def test_what_is_unset_comes_from_the_checkpoint() -> None:
    resolved = Settings().resolved(OWN, seed=5)
    assert resolved.sampler == OWN
    assert resolved.seed == 5


def test_what_is_set_goes_before_the_checkpoint() -> None:
    resolved = Settings(seed=8, entropy_bound=0.7, stability_threshold=0).resolved(OWN, seed=5)
    assert resolved.seed == 8
    assert resolved.sampler == SamplerDefaults(9, 0.7, 0.2, 0.6, 0, 0.01)


def test_a_given_seed_of_zero_is_a_seed() -> None:
    assert Settings(seed=0).resolved(OWN, seed=5).seed == 0


def test_a_mix_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(SettingsError) as error:
        Settings(t_min=0.7).resolved(OWN, seed=0)
    assert str(error.value) == "t_min 0.7 must be below t_max 0.6."


def test_a_checkpoint_with_broken_defaults_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_denoising_steps is 0"):
        Settings().resolved(SamplerDefaults(max_denoising_steps=0), seed=0)
