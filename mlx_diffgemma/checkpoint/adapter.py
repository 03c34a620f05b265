"""The folder of an adapter: adapters.safetensors and adapter_config.json, in mlx-lm's layout.

Tensors are NAME.lora_a [I, R] and NAME.lora_b [R, O], those of experts [E, R, I] and [E, O, R], as
mlx_lm.tuner.lora has them (LoRALinear, LoRASwitchLinear), and are used all or not at all. In memory
experts' are [E, I, R] and [E, R, O]. Axes: I inputs, O outputs, R rank, E experts.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import CheckpointError, brief, shown
from ..machine.dtypes import FLOATS
from .config import OWN_KEY, read_config
from .files import MANIFEST, is_there, read_object, read_optional, whole
from .keep import EXPERTS, INPUTS, OUTPUTS, Keep, Keeps
from .layout import DECODER, Shapes, matrix_shapes
from .places import Section
from .shards import TensorInfo, read_header
from .tensors import StoredTensors, load_arrays

TENSORS, CONFIG = "adapters.safetensors", "adapter_config.json"
PARTS = ("lora_a", "lora_b")
REMEDY = "save the adapter again, or download it again"
SPELLING = re.compile(r"(model\.)?(decoder|encoder\.language_model|encoder)\.")


@dataclass(frozen=True)
class LoraParameters:
    """The numbers that adapter_config.json has for all adapters; scale is a plain factor."""

    rank: int
    scale: float
    dropout: float = 0.0


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's folder whose headers were checked against a model; no weight is read yet.

    tensors: by NAME.lora_a and NAME.lora_b, as the network spells NAME. keeps: of the weights that
    it stands on; of the adapter the same inputs, outputs or experts alone are read.
    """

    folder: Path
    parameters: LoraParameters
    tensors: Mapping[str, TensorInfo]
    keeps: Keeps = field(default_factory=dict)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that the adapters stand on, in the order of the network."""
        return tuple(name.rpartition(".")[0] for name in self.tensors if name.endswith(PARTS[0]))

    @property
    def num_parameters(self) -> int:
        """Numbers in all adapters."""
        return sum(info.num_items for info in self.tensors.values())

    @property
    def shapes(self) -> Shapes:
        """The shape in memory of what is kept of each value, by name."""
        own = {name: (self._kept(name), info.shape) for name, info in self.tensors.items()}
        return {
            name: _in_memory(keep.shape(whole) if keep else whole)
            for name, (keep, whole) in own.items()
        }

    def load(self) -> dict[str, mx.array]:
        """What is kept of the values, by name, in the dtype of the file.

        CheckpointError for NaN and Inf.
        """
        arrays, values = load_arrays(self.folder / TENSORS), {}
        for name, info in self.tensors.items():
            keep = self._kept(name)
            array = values[name] = keep.read(info) if keep else arrays.pop(info.name)
            if not bool(mx.isfinite(array).all()):
                raise CheckpointError(
                    f"{self.tensors[name].name} in {self.folder / TENSORS} holds NaN or Inf, "
                    f"expected finite numbers; {REMEDY}."
                )
        return {name: transposed(array) for name, array in values.items()}

    def _kept(self, name: str) -> Keep | None:
        """What is kept of a tensor in the file; None for all of it.

        A has a weight's inputs, B its outputs. Experts' have the weight's axes, others' the
        opposite ones.
        """
        module, _, part = name.rpartition(".")
        keep = self.keeps.get(module)
        if keep is None or keep.axis == {PARTS[0]: OUTPUTS, PARTS[1]: INPUTS}[part]:
            return None
        if keep.axis == EXPERTS or len(self.tensors[name].shape) == 3:
            return keep
        return replace(keep, axis={INPUTS: OUTPUTS, OUTPUTS: INPUTS}[keep.axis])


def transposed(array: mx.array) -> mx.array:
    """A tensor of experts with its last axes exchanged, from the file's order to memory's or back.

    All others are the same in both.
    """
    return array.swapaxes(-1, -2) if array.ndim == 3 else array


def _in_memory(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:1], *reversed(shape[1:])) if len(shape) == 3 else shape


def require_adapter(folder: Path) -> None:
    """CheckpointError where a path is no folder with the files of an adapter."""
    expected = f"expected a folder with {CONFIG} and {TENSORS}"
    if not os.path.isdir(folder):
        got = "a file" if os.path.exists(folder) else "not found"
        raise CheckpointError(f"{folder}: {got}, {expected}.")
    for name in (CONFIG, TENSORS):
        if not is_there(folder / name):
            raise CheckpointError(f"{folder}: no {name}, {expected}; {REMEDY}.")


def open_adapter(folder: str | Path, base: Path) -> AdapterFiles:
    """The adapter in `folder`, made for the checkpoint in `base`; no weight is read.

    CheckpointError for a folder that is none, for one that is not whole, and for an adapter of
    another model or another rank.
    """
    folder = Path(folder)
    require_adapter(folder)
    section = Section(folder / CONFIG, read_object(folder / CONFIG))
    parameters = _parameters(section)
    _require_base(section, base)
    tensors = _tensors(folder, matrix_shapes(read_config(base).text), parameters.rank)
    _require_keys(section.section("lora_parameters"), tensors)
    return AdapterFiles(folder, parameters, tensors)


def identity(base: Path) -> str:
    """A hash that tells a trained network from another of the same sizes, however it is packed.

    It is that of its norms before attention and at the end, in bfloat16, which no packing touches,
    and of the adapters that were fused into its weights.
    """
    stored, digest = StoredTensors(base, read_config(base)), sha256()
    digest.update("".join(fused_adapters(base)).encode())
    layers = range(len(stored.config.text.layers))
    files: dict[Path, dict[str, mx.array]] = {}
    for at in (*(f"{DECODER}.layers.{n}.input_layernorm" for n in layers), f"{DECODER}.norm"):
        info = stored.info(f"{at}.weight")
        if info.file not in files:
            files[info.file] = load_arrays(info.file)
        rounded = files[info.file].pop(info.name).astype(mx.bfloat16).view(mx.uint16)
        digest.update(np.asarray(rounded).astype("<u2").tobytes())
    return digest.hexdigest()


def fused_adapters(base: Path) -> list[str]:
    """The hashes of the adapters that were fused into a checkpoint's weights, in order."""
    listed = read_optional(base / MANIFEST).get("adapters") or []
    return [str(key) for key in listed] if isinstance(listed, list) else []


def config_of(
    parameters: LoraParameters, modules: Sequence[str], base: Path, name: str
) -> dict[str, Any]:
    """The content of adapter_config.json; name: of the base model, for people."""
    return {
        "fine_tune_type": "lora",
        "model": name,
        "num_layers": len(read_config(base).text.layers),
        "lora_parameters": {
            "rank": parameters.rank,
            "scale": parameters.scale,
            "dropout": parameters.dropout,
            "keys": list(modules),
        },
        OWN_KEY: {"base": identity(base)},
    }


def _parameters(section: Section) -> LoraParameters:
    kind = section.values.get("fine_tune_type", "lora")
    if kind != "lora":
        raise CheckpointError(
            f"{section.place('fine_tune_type')} is {brief(kind)}, expected 'lora'; no other kind "
            "of adapter can be applied."
        )
    lora = section.section("lora_parameters")
    if not lora.values:
        raise CheckpointError(
            f"{section.place('lora_parameters')} is missing, expected rank and scale as mlx-lm "
            f"writes them; {REMEDY}."
        )
    try:
        rank = whole(lora.values.get("rank"), "rank")
    except ValueError as error:
        raise CheckpointError(f"{lora.file}: {error}; {REMEDY}.") from None
    scale, dropout = (_real(lora, key) for key in ("scale", "dropout"))
    if not 0 <= dropout < 1:
        raise CheckpointError(f"{lora.place('dropout')} is {dropout:g}, expected 0 to below 1.")
    return LoraParameters(rank, scale, dropout)


def _real(lora: Section, key: str) -> float:
    value = lora.values.get(key)
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        got = "missing" if value is None else brief(value)
        raise CheckpointError(f"{lora.place(key)} is {got}, expected a number; {REMEDY}.")
    return float(value)  # type: ignore[arg-type]


def _tensors(folder: Path, shapes: Shapes, rank: int) -> dict[str, TensorInfo]:
    """Both tensors of every adapter, in the order of the network."""
    found: dict[str, TensorInfo] = {}
    for stored, info in read_header(folder / TENSORS, remedy=REMEDY).items():
        name = _own_name(stored)
        if (other := found.setdefault(name, info)) is not info:
            raise CheckpointError(
                f"{folder / TENSORS}: {shown(other.name)} and {shown(stored)} are on one module, "
                "shared by encoder and decoder, so that merging adds both; train one for both."
            )
        if name.rpartition(".")[0] not in shapes or not name.endswith(PARTS):
            raise CheckpointError(
                f"{folder / TENSORS}: {shown(stored)} is on no module of this model; give the "
                "model that the adapter was trained on."
            )
    if not found:
        raise CheckpointError(f"{folder / TENSORS} holds no tensor; {REMEDY}.")
    ordered = {}
    for module, shape in shapes.items():
        if not any(f"{module}.{part}" in found for part in PARTS):
            continue
        for part, expected in zip(PARTS, _stored_shapes(shape, rank), strict=True):
            ordered[f"{module}.{part}"] = _checked(found, f"{module}.{part}", expected, folder)
    return ordered


def _own_name(name: str) -> str:
    """The name of a tensor or a module as the network spells it: encoder and decoder share all."""
    return SPELLING.sub(f"{DECODER}.", name, count=1) if SPELLING.match(name) else name


def _stored_shapes(shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of both tensors in the file, on a weight [O, I] or [E, O, I]."""
    *experts, outputs, inputs = shape
    if experts:
        return (*experts, rank, inputs), (*experts, outputs, rank)
    return (inputs, rank), (rank, outputs)


def _checked(
    found: Mapping[str, TensorInfo], name: str, expected: tuple[int, ...], folder: Path
) -> TensorInfo:
    if name not in found:
        raise CheckpointError(f"{name} is missing in {folder / TENSORS}; {REMEDY}.")
    info = found[name]
    if info.shape != expected:
        raise CheckpointError(
            f"{folder / TENSORS}: {shown(info.name)} has shape {list(info.shape)}, expected "
            f"{list(expected)} for this model and the rank in {CONFIG}; give the model that the "
            "adapter was trained on, or save it again."
        )
    if info.dtype not in FLOATS:
        raise CheckpointError(
            f"{folder / TENSORS}: {shown(info.name)} has dtype {info.dtype}, expected "
            f"{' or '.join(FLOATS)}; {REMEDY}."
        )
    return info


def _require_keys(lora: Section, tensors: Mapping[str, TensorInfo]) -> None:
    """CheckpointError unless keys, where there are any, name just the modules that have tensors.

    A key is a module's whole name, or its end as mlx-lm counts from a layer.
    """
    keys = lora.values.get("keys")
    if keys is None:
        return
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(f"{lora.place('keys')} is {brief(keys)}, expected names of modules.")
    modules = {name.rpartition(".")[0] for name in tensors}
    own = [_own_name(key) for key in keys]
    without = [key for key in own if not any(_is_end(module, key) for module in modules)]
    if without:
        raise CheckpointError(
            f"{lora.place('keys')} names {brief(without[0], 80)}, of which {TENSORS} has no "
            f"tensor; {REMEDY}."
        )
    unnamed = sorted(m for m in modules if not any(_is_end(m, key) for key in own))
    if unnamed:
        raise CheckpointError(
            f"{lora.place('keys')} does not name {unnamed[0]}, of which {TENSORS} has tensors; "
            f"{REMEDY}."
        )


def _is_end(module: str, key: str) -> bool:
    return module == key or module.endswith(f".{key}")


def _require_base(section: Section, base: Path) -> None:
    """CheckpointError where the adapter says that it was trained on another network than `base`."""
    own = section.section(OWN_KEY)
    trained_on = own.values.get("base")
    if trained_on is None or trained_on == identity(base):
        return
    raise CheckpointError(
        f"{section.file.parent}: trained on {brief(section.values.get('model'), 80)}, whose "
        f"weights are not those of {base}; give the model that it was trained on."
    )
