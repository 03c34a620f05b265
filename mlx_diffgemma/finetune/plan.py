"""The memory and the time of a training step, by arithmetic: headers are read and no weight.

Terms by shape, with factors that scripts/bench/training_memory.py measured: of what MLX keeps for
the gradient of a layer where operations run as on a GPU. Where numpy computes, on the CPU, about as
much is kept. Axes: B examples, L positions, M canvases, C canvas positions, H hidden size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..checkpoint.config import LayerConfig, ModelConfig, read_config
from ..checkpoint.layout import matrix_shapes, text_shapes
from ..errors import FitError, Setting
from ..machine.chips import Chip, this_chip
from ..machine.choices import Choices
from ..machine.device import on_gpu
from ..machine.dtypes import mlx_dtype
from ..machine.memory import available_memory
from ..model.bits import BitsOf, stored_bits
from ..model.memory import sized
from ..model.roofline import estimated_ms
from ..model.weighing import weigh
from ..model.work import (
    ATTENTION,
    DENSE_MLP,
    EXPERTS,
    HEAD,
    ROUTER,
    SELF_CONDITIONING,
    Work,
    encode_work,
    step_work,
)
from .lora import DEFAULT_RANK, DEFAULT_TARGETS, select, variables
from .objective import CHUNK_BYTES

FLOAT = 4  # bytes of a variable, its gradient and its moments
MOMENTS = {"adamw": 2.0, "muon": 1.0, "adafactor": 0.0}
"""Numbers that an optimiser remembers of each variable; adafactor's are sums of rows and columns.
"""

KEPT_HIDDEN = 8.1  # of a layer for its gradient: arrays [rows, H]
KEPT_QUERIES, KEPT_KEYS = 3.9, 2.8  # [rows, heads * D] and [rows, kv heads * D]
KEPT_MLP, KEPT_EXPERT = 3.5, 3.0  # of the inner size, of one expert's inner size
KEPT_CHOICE = 0.9  # [rows, H] for each expert that a row uses
KEPT_SCORES = 2.0  # [heads, queries, keys], and a mask of a byte
KEPT_CHECKPOINT = 6.2, 2.2  # bytes, and items, of [rows, H + kv heads * D] with checkpointing
IN_WORK = 2.0  # a layer in whose gradient MLX is, over what is kept of it
IN_WORK_AGAIN = 1.6  # the same with checkpointing, its activations computed again among it
CHUNK_ARRAYS = 8  # float32 logits [n, V] of the head that exist at a time
"""Factors as measured. Arrays count 4 bytes a number in 16 bits too: adapters, and what is not
linear, are computed in float32, and both forms are kept: 0.94 to 0.99 of what float32 keeps."""

LAYER_PARTS = ATTENTION, EXPERTS, DENSE_MLP, ROUTER
FIRST_PASS_SHARE = 0.5  # of the canvases have a first pass


@dataclass(frozen=True)
class Load:
    """A step's work. modules: with adapters of `rank`, None: all weights are trained.

    length: tokens of the longest example of a batch, to which the others are padded; canvases: of
    each example; accumulate: batches a step; average: a mean of the values is kept.
    """

    batch: int = 4
    length: int = 1024
    canvases: int = 1
    accumulate: int = 1
    modules: tuple[str, ...] | None = None
    rank: int = DEFAULT_RANK
    optimizer: str = "adamw"
    average: bool = False
    checkpoint: bool = False


@dataclass(frozen=True)
class Plan:
    """Bytes of a step by part, of which the parts in `instead` take turns and the largest counts.

    flops: of a step; seconds: as `roofline` estimates them, None where the chip is not known.
    """

    load: Load
    parts: dict[str, int]
    instead: dict[str, int]
    trained: int  # numbers
    flops: float
    seconds: float | None
    chip: str | None
    available_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        """The most that is there at a time."""
        return sum(self.parts.values()) + max(self.instead.values(), default=0)

    @property
    def fits(self) -> bool | None:
        """True where what is needed is there; None where the machine does not say what it has."""
        return None if self.available_bytes is None else self.needed_bytes <= self.available_bytes

    def require_room(self) -> None:
        """FitError, with the numbers, where a step cannot fit into memory."""
        if self.fits is False:
            raise FitError(
                f"a step needs {sized(self.needed_bytes)} by arithmetic, this machine can give "
                f"{sized(self.available_bytes or 0)}; take ",
                *(Setting("grad_checkpoint"), ", a smaller ", Setting("size"), " or "),
                *(Setting("max_length"), ", or try anyway with --force; --plan says more."),
            )


def plan(
    folder: Path,
    load: Load,
    dtype: str | None = None,
    *,
    shape_only: bool = False,
    available: int | None = None,
    chip: Chip | None = None,
) -> Plan:
    """The Plan of a step with a checkpoint folder; CheckpointError for one that would not load.

    dtype: of activations, None for the checkpoint's. available, chip: of another machine than this
    one. shape_only: the folder's files may end behind their headers.
    """
    config = read_config(folder)
    item = FLOAT if load.modules is None or not on_gpu() else mlx_dtype(dtype or config.dtype).size
    layers = Layers(config, load, item)
    trained = _trained(config, load)
    chip = chip or this_chip()
    bits = stored_bits(folder, config, item, shape_only=shape_only)
    work = step_of_training(config, load, bits)
    merged = {} if on_gpu() else {"merged weights": _merged(config, load)}
    return Plan(
        load,
        {
            "weights": _weights(folder, config, load, dtype, shape_only=shape_only),
            **merged,
            "variables": FLOAT * trained * (2 if load.average else 1),
            "gradients": FLOAT * trained * (2 if load.accumulate > 1 else 1),
            "moments": round(FLOAT * trained * MOMENTS[load.optimizer]),
            "kept of the encoder": layers.encoder_kept,
            "kept of the decoder": layers.decoder_kept,
        },
        {
            "layer and head in work": layers.in_work + layers.head,
            "the update": round(FLOAT * trained * (1 + MOMENTS[load.optimizer])),
        },
        trained,
        work.flops * load.accumulate,
        None if chip is None else load.accumulate * estimated_ms(work, chip) / 1e3,
        None if chip is None else chip.name,
        available_memory() if available is None else available,
    )


@dataclass(frozen=True)
class Layers:
    """Bytes of activations. item: of one, and of a key or value."""

    config: ModelConfig
    load: Load
    item: int

    @property
    def rows(self) -> tuple[int, int]:
        """Positions of the encoder, and of the canvases."""
        M = self.load.batch * self.load.canvases
        return self.load.batch * self.load.length, M * self.config.canvas_length

    @property
    def encoder_kept(self) -> int:
        """Activations of the encoder that stay for the gradient, its keys and values among them."""
        return sum(map(self._kept_of_encoder, self.config.text.layers))

    @property
    def decoder_kept(self) -> int:
        """Activations of the decoder that stay, and the soft embeddings of the first pass."""
        soft = 2 * FLOAT * self.rows[1] * self.config.text.hidden_size
        return soft + sum(map(self._kept_of_decoder, self.config.text.layers))

    @property
    def in_work(self) -> int:
        """The layer that takes most while its gradient is computed.

        The decoder's come first, while everything is kept; with checkpointing any may be largest.
        """
        layers = self.config.text.layers
        most = max(map(self._decoder, layers))
        if not self.load.checkpoint:
            return round(IN_WORK * most)
        return round(IN_WORK_AGAIN * max(most, *map(self._encoder, layers)))

    @property
    def head(self) -> int:
        """Logits of a chunk of rows, and what their gradient needs."""
        V = self.config.text.vocab_size
        chunk = max(1, CHUNK_BYTES // (FLOAT * V))
        return CHUNK_ARRAYS * FLOAT * min(chunk, max(self.rows)) * V

    def _kept_of_encoder(self, layer: LayerConfig) -> int:
        inside = self._encoder(layer)
        return self._inputs(layer, self.rows[0]) if self.load.checkpoint else inside

    def _kept_of_decoder(self, layer: LayerConfig) -> int:
        inside = self._decoder(layer)
        return self._inputs(layer, self.rows[1]) if self.load.checkpoint else inside

    def _encoder(self, layer: LayerConfig) -> int:
        return self._inside(layer, self.rows[0], self.load.length)

    def _decoder(self, layer: LayerConfig) -> int:
        return self._inside(layer, self.rows[1], self.load.length + self.config.canvas_length)

    def _inside(self, layer: LayerConfig, rows: int, keys: int) -> int:
        """Bytes that are kept of a layer over `rows` queries, each with scores for `keys` keys."""
        text, D = self.config.text, layer.head_dim
        heads, kv_heads = text.num_attention_heads, layer.num_key_value_heads
        choice = KEPT_CHOICE * text.hidden_size + KEPT_EXPERT * text.moe_intermediate_size
        row = (
            KEPT_HIDDEN * text.hidden_size
            + KEPT_QUERIES * heads * D
            + KEPT_KEYS * kv_heads * D
            + KEPT_MLP * text.intermediate_size
            + text.top_k_experts * choice
        )
        scores = heads * rows * keys * (FLOAT * KEPT_SCORES + 1)
        return round(FLOAT * rows * row + scores)

    def _inputs(self, layer: LayerConfig, rows: int) -> int:
        """Bytes that are kept of a layer whose inside is computed again."""
        fixed, items = KEPT_CHECKPOINT
        width = self.config.text.hidden_size + layer.num_key_value_heads * layer.head_dim
        return round(rows * width * (fixed + items * self.item))


def step_of_training(config: ModelConfig, load: Load, bits: BitsOf) -> Work:
    """FLOPs and bytes of weights of one batch, forward and back.

    The gradient of a pass costs as much as the pass where weights are frozen, and twice as much
    where they are trained; checkpointing runs the layers once more, and the head always does.
    """
    B, M, L, C = load.batch, load.batch * load.canvases, load.length, config.canvas_length
    again = 1 + (1 if load.modules is not None else 2) + load.checkpoint
    encoder = encode_work(config, L, 0, bits, whole=True)
    decoder = step_work(config, max(0, L - C), bits)
    canvas = sum((decoder[part] for part in LAYER_PARTS), decoder[SELF_CONDITIONING])
    head, chunks = decoder[HEAD], math.ceil((B * L + M * C) / _chunk_rows(config))
    flops = again * (B * encoder.flops + M * canvas.flops)
    flops += (again + 1 - load.checkpoint) * head.flops / C * (B * L + M * C)
    flops += FIRST_PASS_SHARE * M * (canvas.flops + 2 * head.flops)
    read = again * (encoder.weight_bytes + canvas.weight_bytes)
    read += (again + 1 - load.checkpoint) * chunks * head.weight_bytes
    return Work(flops, read)


def _chunk_rows(config: ModelConfig) -> int:
    return max(1, CHUNK_BYTES // (FLOAT * config.text.vocab_size))


def _trained(config: ModelConfig, load: Load) -> int:
    """The numbers that are trained."""
    if load.modules is None:
        return sum(map(math.prod, text_shapes(config.text).values()))
    return sum(map(math.prod, variables(config, load.modules, load.rank).values()))


def _weights(
    folder: Path, config: ModelConfig, load: Load, dtype: str | None, *, shape_only: bool
) -> int:
    """Bytes of frozen weights; on the CPU unpacked beside what they were loaded as.

    Where all weights are trained they are variables, and joined anew in each pass: queries with
    keys and values, gates with what they gate.
    """
    text = config.text
    matrices = matrix_shapes(text)
    if load.modules is None:
        joined = (m for m in matrices if m.endswith(("_proj",)) and ".experts." not in m)
        return 2 * FLOAT * sum(math.prod(matrices[m]) for m in joined)
    computed = mlx_dtype(dtype or config.dtype)
    held = weigh(folder, config, computed, Choices(), shape_only=shape_only).held_bytes
    if on_gpu() or (config.quantization is None and computed == mx.float32):
        return held
    numbers = sum(map(math.prod, matrices.values())) + text.vocab_size * text.hidden_size
    return held + FLOAT * numbers


def _merged(config: ModelConfig, load: Load) -> int:
    """Bytes of weights with their adapters added, which numpy multiplies by and the gradient keeps.

    Of both passes, with checkpointing of the layer in work alone; those of experts are not added.
    """
    shapes = matrix_shapes(config.text)
    whole = {_joined(module): 0 for module in load.modules or () if ".experts." not in module}
    for module, shape in shapes.items():
        if (name := _joined(module)) in whole:
            whole[name] += math.prod(shape)
    if not load.checkpoint:
        return 2 * FLOAT * sum(whole.values())
    layers: dict[str, int] = {}
    for name, numbers in whole.items():
        place = name.rpartition(".")[0].rpartition(".")[0]
        layers[place] = layers.get(place, 0) + numbers
    return FLOAT * max(layers.values(), default=0)


def _joined(module: str) -> str:
    """The name of the matrix that a module is a part of: those of one input are joined."""
    at, _, name = module.rpartition(".")
    if name in ("q_proj", "k_proj", "v_proj"):
        return f"{at}.qkv"
    return f"{at}.gate_up" if name in ("gate_proj", "up_proj") else module


def load_of(config: ModelConfig, targets: Sequence[str] = DEFAULT_TARGETS, **given: object) -> Load:
    """A Load with adapters on the modules that `targets` name."""
    return Load(modules=select(config, targets), **given)  # type: ignore[arg-type]
