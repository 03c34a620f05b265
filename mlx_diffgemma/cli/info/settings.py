"""The settings of `info --settings`: the value that each would have, and where it is from."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...checkpoint.config import ModelConfig, read_config
from ...checkpoint.default import MODEL_VARIABLE, default_model
from ...checkpoint.hub import find_model
from ...errors import HubError, SettingsError, brief
from ...generation.prompt import DEFAULT_MAX_TOKENS
from ...generation.settings import FIELDS, SAMPLER, TOKENS, Settings
from ...machine.user_config import KEYS, UserConfig, read_user_config
from ..configured import Given, blamed
from ..explain import OPTION_OF

COLUMN = 17  # where a setting's origin begins
UNSET = {
    "max_tokens": f"{DEFAULT_MAX_TOKENS}, or what fits",
    "seed": "new for each answer",
    "auto_times": "as measured",
    "theme": "chosen for the terminal",
}
"""The words for a setting without a value, where "none" would be wrong."""


@dataclass(frozen=True)
class Effective:
    """A value, and its origin: default, checkpoint, config, environment or option.

    value: None where nothing is set, or where the checkpoint that sets it is not here.
    """

    value: Any
    origin: str


@dataclass(frozen=True)
class Overview:
    """The config file, all settings by the names of their fields, and the model's config."""

    config: UserConfig
    settings: Mapping[str, Effective]
    model: ModelConfig | None  # None where it is not on this machine


def gather_settings(typed: str | None, revision: str | None = None) -> Overview:
    """The settings of an answer without options; typed: the model, where one is.

    Asks no network. ConfigFileError for a value that would be refused.
    """
    config = read_user_config()
    name = default_model() if typed is None else typed
    model = _config_here(name, revision)
    own = {key: value for key, value in config.values.items() if key != "model"}
    _require_in_range(own, config)
    given = Given({"model": name, **own}, ())
    settings = {"model": Effective(name, _model_origin(typed, config))}
    for key in dict.fromkeys((*KEYS, *Settings.__dataclass_fields__)):
        if key in own and not given.rests(key):
            settings[key] = Effective(own[key], "config")
        elif key != "model":
            settings[key] = _without(key, model)
    return Overview(config, settings, model)


def _config_here(name: str, revision: str | None) -> ModelConfig | None:
    try:
        return read_config(find_model(name, offline=True, revision=revision).folder)
    except HubError:
        return None


def _model_origin(typed: str | None, config: UserConfig) -> str:
    """As `default_model` looks."""
    if typed is not None:
        return "option"
    if os.environ.get(MODEL_VARIABLE):
        return "environment"
    return "config" if "model" in config.values else "default"


def _require_in_range(own: Mapping[str, Any], config: UserConfig) -> None:
    try:
        Settings(**{key: value for key, value in own.items() if key in FIELDS})
    except SettingsError as error:
        raise blamed(error, config, own) from None


def _without(key: str, model: ModelConfig | None) -> Effective:
    """A setting that nobody gives: the checkpoint's where it may have one, else the default."""
    if key not in (*SAMPLER, *TOKENS):
        unset = False if KEYS.get(key) is bool else None
        return Effective(getattr(Settings(), key, unset), "default")
    if model is None:
        return Effective(None, "checkpoint")
    value = getattr(model.token_sampler if key in TOKENS else model.sampler, key)
    return Effective(value, "checkpoint" if key in model.sampler_places else "default")


def describe_settings(overview: Overview) -> dict[str, Any]:
    """The object of `info --settings --json`."""
    config = overview.config
    return {
        "config": {
            "path": None if config.file is None else str(config.file),
            "exists": config.text is not None,
        },
        "settings": {key: vars(setting) for key, setting in overview.settings.items()},
    }


def settings_lines(overview: Overview) -> Iterator[str]:
    """The overview for people."""
    for key, setting in overview.settings.items():
        option = OPTION_OF.get(key, f"--{key}").replace("_", "-")
        name = f"{option:<{COLUMN - 1}} "  # a long one moves its own line alone
        yield f"{name}{setting.origin:<11}{_written(key, setting)}"
    there = "" if overview.config.text is not None else ", which is not there"
    yield f"config file: {overview.config.file or 'none, without a home'}{there}"


def _written(key: str, setting: Effective) -> str:
    if isinstance(setting.value, bool):
        return "on" if setting.value else "off"
    if setting.value is None and setting.origin == "checkpoint":
        return "its own; it is not on this machine"
    if setting.value in (None, ()):
        return UNSET.get(key, "none")
    return brief(setting.value) if key == "system" else str(setting.value)
