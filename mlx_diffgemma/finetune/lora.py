"""Adapters to train: the modules they stand on, chosen by name, and their first values.

Axes: I inputs, O outputs, R rank, E experts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import mlx.core as mx

from ..checkpoint.adapter import CONFIG, TENSORS, LoraParameters, config_of, transposed
from ..checkpoint.config import ModelConfig
from ..checkpoint.layout import Shapes, matrix_shapes
from ..convert.pack import to_bytes
from ..convert.table import Output
from ..convert.write import shard_header
from ..errors import Setting, SettingsError, brief
from ..machine.files import WholeFile, json_bytes
from ..model.adapters import random_key

GROUPS: Mapping[str, str] = {
    "attention": "self_attn.*",
    "mlp": "mlp.*",
    "experts": "experts.*",
    "router": "router.proj",
    "self-conditioning": "self_conditioning.*",
    "all": "*",
}
"""Short names of targets, and the pattern that each stands for."""

DEFAULT_TARGETS = ("attention", "mlp")
DEFAULT_RANK, DEFAULT_SCALE = 8, 2.0


def select(config: ModelConfig, targets: Sequence[str] = DEFAULT_TARGETS) -> tuple[str, ...]:
    """The modules that `targets` name, in the order of the network.

    A target is a name of GROUPS, or a shell pattern for a module's whole name or its end behind a
    dot: `q_proj`, `layers.[0-3].mlp.*`. SettingsError for one that names no module.
    """
    modules = matrix_shapes(config.text)
    chosen: set[str] = set()
    for target in targets:
        found = {module for module in modules if _matches(module, GROUPS.get(target, target))}
        if not found:
            raise _unknown(target, modules)
        chosen |= found
    if not chosen:
        raise SettingsError(Setting("targets"), " are none, expected one at least.")
    return tuple(module for module in modules if module in chosen)


def variables(config: ModelConfig, modules: Sequence[str], rank: int) -> Shapes:
    """The shape of each variable by its name: NAME.lora_a [I, R] and NAME.lora_b [R, O].

    Those of experts are [E, I, R] and [E, R, O]. SettingsError for a rank that is none, or larger
    than a matrix has.
    """
    shapes = matrix_shapes(config.text)
    made: Shapes = {}
    for module in modules:
        *experts, outputs, inputs = shapes[module]
        _require_rank(rank, module, min(outputs, inputs))
        made[f"{module}.lora_a"] = (*experts, inputs, rank)
        made[f"{module}.lora_b"] = (*experts, rank, outputs)
    return made


def initial(
    config: ModelConfig, modules: Sequence[str], rank: int, seed: int
) -> dict[str, mx.array]:
    """First values, float32: a uniform in +-1 / sqrt(I), b zero, so that nothing changes yet.

    A module's depend on the seed and its name alone. Source: mlx_lm.tuner.lora, LoRALinear.
    """
    return dict(_values(variables(config, modules, rank), seed))


def save_adapter(
    folder: Path, values: Mapping[str, mx.array], parameters: LoraParameters, base: Path, name: str
) -> None:
    """Write values, in float32, to a folder that `open_adapter` and mlx-lm read.

    base: the checkpoint that they were trained on, and its name for people. Both files are written
    before one of them takes an old one's place; OSError where that fails, which changes nothing.
    """
    modules = [each.rpartition(".")[0] for each in values if each.endswith(".lora_a")]
    stored = {each: transposed(array.astype(mx.float32)) for each, array in values.items()}
    outputs = [Output(each, "F32", array.shape, 32) for each, array in stored.items()]
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with WholeFile(folder / TENSORS) as tensors, WholeFile(folder / CONFIG) as config:
            config.append(json_bytes(config_of(parameters, modules, base, name), indent=2))
            tensors.append(shard_header(outputs))
            for each in list(stored):
                tensors.append(to_bytes(mx.contiguous(stored.pop(each))).tobytes())
            tensors.finish()
            config.finish()
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _values(shapes: Shapes, seed: int) -> Iterator[tuple[str, mx.array]]:
    for name, shape in shapes.items():
        if name.endswith(".lora_b"):
            yield name, mx.zeros(shape)
            continue
        bound = shape[-2] ** -0.5
        yield name, mx.random.uniform(-bound, bound, shape, key=random_key(seed, name))


def _matches(module: str, pattern: str) -> bool:
    return fnmatchcase(module, pattern) or fnmatchcase(module, f"*.{pattern}")


def _require_rank(rank: int, module: str, most: int) -> None:
    if rank < 1:
        raise SettingsError(Setting("lora_rank"), f" is {rank}, expected 1 or more.")
    if rank > most:
        raise SettingsError(
            Setting("lora_rank"),
            f" is {rank}, but {module} has rank {most} at most; take a lower rank or other ",
            Setting("targets"),
            ".",
        )


def _unknown(target: str, modules: Iterable[str]) -> SettingsError:
    ends = sorted({module.rpartition(".")[2] for module in modules})
    values = ": on full layers V is K" if "v_proj" in target else ""
    return SettingsError(
        Setting("targets"),
        f" has {brief(target)}, which names no module{values}; expected one of "
        f"{', '.join(GROUPS)}, or the end of a name with * where it may go on, such as "
        f"layers.0.*: {', '.join(ends)}.",
    )
