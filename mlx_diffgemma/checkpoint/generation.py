"""The sampler settings and stop ids that a checkpoint ships with, and the place of each.

They stand in generation_config.json; where there is none, in an object of config.json, as MLX
folders have it. Source: transformers 5.23, `generation_diffusion_gemma.py`.
"""

from dataclasses import dataclass, fields

from ..errors import CheckpointError, brief
from .files import is_there, read_object
from .places import Place, Section

SAMPLER = "EntropyBoundSamplerConfig"
IN_SAMPLER = ("entropy_bound",)  # settings that stand in the object sampler_config
MOST_ID = 2**31 - 1


@dataclass(frozen=True)
class SamplerDefaults:
    """The sampler settings a checkpoint ships with, as its files say them.

    They are checked where they are used (`Settings.resolved`): what a caller replaces is not.
    """

    max_denoising_steps: int = 48
    entropy_bound: float = 0.1
    t_min: float = 0.4
    t_max: float = 0.8
    stability_threshold: int = 1
    confidence_threshold: float = 0.005


@dataclass(frozen=True)
class TokenDefaults:
    """The sampling of single tokens that a checkpoint ships with, else Gemma 4's own.

    temperature: 0 takes the likeliest token; top_k: so many of the likeliest, 0 for all; top_p: of
    those, the fewest whose probabilities sum to it; min_p: of those, the ones at least so likely as
    that share of the likeliest.
    """

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.0


def generation_section(config: Section) -> Section:
    """The object with a checkpoint's settings; config: the whole of its config.json."""
    file = config.file.with_name("generation_config.json")
    if is_there(file):
        return Section(file, read_object(file))
    return config.section("generation_config")


def token_defaults(generation: Section) -> tuple[TokenDefaults, dict[str, Place]]:
    """The sampling of single tokens of a checkpoint, and the place of each value that it names."""
    named = [f.name for f in fields(TokenDefaults) if generation.values.get(f.name) is not None]
    places = {name: generation.place(name) for name in named}
    return TokenDefaults(**{name: generation.values[name] for name in named}), places


def sampler_defaults(generation: Section) -> tuple[SamplerDefaults, dict[str, Place]]:
    """The sampler settings of a checkpoint, and the place of each that it names."""
    sampler = generation.section("sampler_config")
    if (name := sampler.values.get("_cls_name", SAMPLER)) != SAMPLER:
        raise CheckpointError(
            f"{sampler.place('_cls_name')} is {brief(name)}, which is not supported, expected "
            f"{SAMPLER}."
        )
    values, places = {}, {}
    for field in fields(SamplerDefaults):
        section = sampler if field.name in IN_SAMPLER else generation
        if (value := section.values.get(field.name)) is not None:
            values[field.name], places[field.name] = value, section.place(field.name)
    return SamplerDefaults(**values), places


def stop_ids(generation: Section, config: Section) -> tuple[int, ...]:
    """The settings' stop ids; only without them those of config.json, and of its text_config."""
    for section in (generation, config, config.section("text_config")):
        if (value := section.values.get("eos_token_id")) is not None:
            ids = value if isinstance(value, list) else [value]
            if not all(type(i) is int and 0 <= i <= MOST_ID for i in ids):
                raise CheckpointError(
                    f"{section.place('eos_token_id')} is {brief(value)}, expected an id or a list "
                    "of ids."
                )
            return tuple(ids)
    return ()
