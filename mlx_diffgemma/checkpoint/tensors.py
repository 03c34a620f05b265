"""Strict access to the tensors of a checkpoint folder, by the names of an MLX folder.

Every tensor asked for is found with its shape and dtype, or CheckpointError says what is wrong;
every tensor in the folder is used, known to be superfluous and listed, or an error. Layouts:
Hugging Face (floating-point; experts fused or one by one) and MLX (quantised per module, decided
by the presence of `.scales`). Nothing but safetensors is read.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx

from ..errors import CheckpointError, brief, one_line
from ..machine.dtypes import FLOATS, MLX_NAMES, mlx_dtype
from .config import ModelConfig, TextConfig
from .keep import Keep
from .quantization import QuantizationConfig
from .shards import CONVERT_AGAIN, TensorInfo, read_headers
from .vision import VISION, VisionConfig

CLIPPING = re.compile(r"\.(input|output)_(min|max)$")
ENCODER_COPY = re.compile(r"model\.encoder\.language_model\.(?!layers\.\d+\.layer_scalar$)")
LAYER_NUMBER = re.compile(r"model\.(?:decoder|encoder\.language_model)\.layers\.(\d+)\.")
TIED_HEAD = re.compile(r"lm_head\.(weight|scales|biases)$")
REPACKED = re.compile(r"(_packed|_scale|_scale_inv|_scale_2|\.qweight|\.qzeros|\.input_scale)$")
MLP = ("gate_proj", "up_proj", "down_proj")
LAYER = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}" for part in MLP),
    *("router.proj", "experts.gate_up_proj", "experts.down_proj"),
)


@dataclass(frozen=True)
class StoredWeight:
    """A weight [..., O, I] as it is stored: numbers, or integers as MLX packs them.

    A packed one has the scales of its groups and, in affine mode, their biases.
    """

    weight: mx.array
    scales: mx.array | None = None
    biases: mx.array | None = None
    packing: QuantizationConfig | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[..., O, I], counted unpacked."""
        *outer, width = self.weight.shape
        return (*outer, self.packing.numbers(width) if self.packing else width)


@dataclass
class StoredTensors:
    """The tensors that a folder's headers promise, by their MLX names.

    shape_only: the files may end behind their headers.
    """

    folder: Path
    config: ModelConfig
    shape_only: bool = field(default=False, kw_only=True)
    headers: dict[str, TensorInfo] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name, info in read_headers(self.folder, shape_only=self.shape_only).items():
            other = self.headers.setdefault(mlx_name(name), info).name
            if other != name:
                raise CheckpointError(
                    f"{other} and {name} in {self.folder} are one tensor; keep one."
                )
        self._refuse_foreign_overrides()

    @property
    def vision(self) -> VisionConfig | None:
        """The vision tower that the folder has; None where the config or the tensors have none."""
        held = any(VISION.match(name) for name in self.headers)
        return self.config.vision if held else None

    def info(self, name: str) -> TensorInfo:
        """The header of a tensor; CheckpointError where the folder lacks the tensor.

        The error says so where a re-export has packed the tensor in its own way.
        """
        if name not in self.headers:
            stem = name.removesuffix(".weight")
            for other, info in self.headers.items():
                if other.startswith(stem) and REPACKED.search(other):
                    raise refusal(info.name, self.folder)
            raise CheckpointError(f"{name}: missing in {self.folder}; {CONVERT_AGAIN}.")
        return self.headers[name]

    def packing(self, module: str) -> QuantizationConfig | None:
        """The packing of a module's weight; None for plain numbers."""
        if f"{module}.scales" not in self.headers:
            return None
        if self.config.quantization is None:
            raise CheckpointError(
                f"{module}.scales is in {self.folder}, but config.json has no quantization."
            )
        return self.config.quantization.of(module)

    def numbers(self, name: str) -> int:
        """Numbers of the network in a tensor: packed ones unpacked, scales and biases none."""
        module, _, kind = name.rpartition(".")
        if kind in ("scales", "biases"):
            return 0
        packing = self.packing(module) if kind == "weight" else None
        items = self.headers[name].num_items
        return packing.numbers(items) if packing else items

    def _refuse_foreign_overrides(self) -> None:
        """CheckpointError where config.json's quantization names what is no module of the network.

        Vision modules and known strays may be named though the folder lacks them.
        """
        if self.config.quantization is None:
            return
        own = set(packable_modules(self.config.text))
        foreign = [
            module
            for module in self.config.quantization.overrides
            if module not in own
            and not VISION.match(module)
            and not is_stray(f"{module}.weight", self.config)
        ]
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            named = f"{brief(foreign[0], 80)}{more}"
            raise CheckpointError(
                f"{self.folder / 'config.json'}: quantization names {named}, no module of the "
                "network; name it as the tensors are named, such as "
                "model.decoder.embed_tokens."
            )


@dataclass
class Tensors(StoredTensors):
    """The tensors of a folder, handed out once each."""

    dtype: mx.Dtype
    used: set[str] = field(init=False, default_factory=set)
    files: dict[Path, dict[str, mx.array]] = field(init=False, default_factory=dict)

    def vector(self, name: str, *shape: int, keep: Keep | None = None) -> mx.array:
        """The floating-point tensor `name` of `shape`, or what is kept of it, in the model's dtype.

        shape: of the whole tensor, as the folder has it.
        """
        return self._checked(name, shape, FLOATS, keep).astype(self.dtype)

    def weight(self, module: str, *shape: int, keep: Keep | None = None) -> StoredWeight:
        """The weight of `module`, or what is kept of it, dense or packed as the folder has it.

        shape: of the whole weight, counted in numbers.
        """
        packing = self.packing(module)
        if packing is None:
            return StoredWeight(self.vector(f"{module}.weight", *shape, keep=keep))
        return self._packed(module, shape, packing, keep)

    def leave(self, names: Iterable[str]) -> None:
        """Count tensors as used that nobody is going to ask for: other Macs do."""
        self.used.update(names)

    def leave_layers(self, numbers: Collection[int]) -> None:
        """Count the tensors of layers as used that nobody is going to ask for: other Macs do."""
        for name in self.headers:
            found = LAYER_NUMBER.search(name)
            if found and int(found[1]) in numbers and not is_stray(name, self.config):
                self.used.add(name)

    def finish(self) -> tuple[str, ...]:
        """The names left over, which are those of known strays; any other is an error."""
        dropped = tuple(sorted(set(self.headers) - self.used))
        for name in dropped:
            if not is_stray(name, self.config):
                raise refusal(self.headers[name].name, self.folder)
        return dropped

    def num_parameters(self) -> int:
        """Numbers of the text network in the tensors handed out."""
        return sum(self.numbers(name) for name in self.used if not VISION.match(name))

    def _packed(
        self,
        module: str,
        shape: tuple[int, ...],
        packing: QuantizationConfig,
        keep: Keep | None,
    ) -> StoredWeight:
        (*rows, width), size, affine = shape, packing.group_size, packing.mode == "affine"
        groups = (*rows, width // size)
        own = keep.packing(module, packing) if keep else packing
        own_words, kept = (keep.words(packing), keep.groups(size)) if keep else (None, None)
        words = (*rows, packing.words(width))
        weight = self._checked(f"{module}.weight", words, ("U32",), own_words)
        scales = self._checked(f"{module}.scales", groups, FLOATS if affine else ("U8",), kept)
        if not affine:
            return StoredWeight(weight, scales, None, own)
        biases = self.vector(f"{module}.biases", *groups, keep=kept)
        scales = scales.astype(self.dtype)
        if keep:
            scales, biases = (keep.split(x, size, own.group_size) for x in (scales, biases))
        return StoredWeight(weight, scales, biases, own)

    def _checked(
        self, name: str, shape: tuple[int, ...], dtypes: Iterable[str], keep: Keep | None
    ) -> mx.array:
        self.info(name).require(name, shape, dtypes)
        self.used.add(name)
        return self._take(name) if keep is None else self._kept(name, keep)

    def _take(self, name: str) -> mx.array:
        source = self.headers[name]
        file = source.file
        if file not in self.files:
            self.files[file] = load_arrays(file)
        return self.files[file].pop(source.name)

    def _kept(self, name: str, keep: Keep) -> mx.array:
        return keep.read(self.headers[name])


@dataclass
class PromisedTensors(Tensors):
    """The tensors of a folder as its headers promise them: MLX arrays that nothing has computed.

    What is built of them has its shapes and dtypes, and takes no memory while it is not evaluated.
    """

    def _take(self, name: str) -> mx.array:
        info = self.headers[name]
        return mx.zeros(info.shape, mlx_dtype(MLX_NAMES[info.dtype]))

    def _kept(self, name: str, keep: Keep) -> mx.array:
        info = self.headers[name]
        return mx.zeros(keep.shape(info.shape), mlx_dtype(MLX_NAMES[info.dtype]))


def load_arrays(file: Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file, lazy, by their names in it.

    MLX takes names in UTF-8 alone ("std::bad_cast"); another one, which Linux allows, it opens by
    the number of a descriptor.
    """
    name, descriptor = os.fsencode(file), None
    try:
        try:
            name.decode()
        except UnicodeDecodeError:
            descriptor = os.open(file, os.O_RDONLY)
            name = b"/dev/fd/%d" % descriptor
        return mx.load(name.decode(), format="safetensors")  # type: ignore[return-value]
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{file}: {one_line(error)}; {CONVERT_AGAIN}.") from None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def mlx_name(name: str) -> str:
    """The name a tensor has in an MLX folder: fused experts gain `.weight`, all else stays."""
    return f"{name}.weight" if re.search(r"\.experts\.(gate_up|down)_proj$", name) else name


def packable_modules(text: TextConfig) -> Iterator[str]:
    """The modules of the text network whose weights may be packed, by their paths."""
    yield "model.decoder.embed_tokens"
    for part in MLP:
        yield f"model.decoder.self_conditioning.{part}"
    for number, layer in enumerate(text.layers):
        for part in LAYER:
            if layer.sliding or part != "self_attn.v_proj":  # on full layers V is K
                yield f"model.decoder.layers.{number}.{part}"


def is_stray(name: str, config: ModelConfig) -> bool:
    """True for a tensor that published folders hold although the model does not use it."""
    return (
        bool(TIED_HEAD.match(name))
        or "rotary_emb" in name
        or bool(ENCODER_COPY.match(name))
        or bool(CLIPPING.search(name))  # a config that uses them is refused
        or (config.vision is None and bool(VISION.match(name)))  # no sizes: it cannot be built
    )


def refusal(name: str, folder: Path) -> CheckpointError:
    """The error for a tensor, by its name in the file, that nothing here can use."""
    kind = (
        "a packed FP8, AWQ or NVFP4 re-export is not supported"
        if REPACKED.search(name)
        else "this tensor is not part of the model"
    )
    return CheckpointError(f"{name} in {folder}: {kind}; convert the original bf16 checkpoint.")
