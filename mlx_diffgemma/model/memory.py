"""The memory that a checkpoint and a context need, and whether this machine has it.

Arithmetic over safetensors headers and config.json; no weight is read. All that tells a user about
memory, `info`, the question before a download and every refusal, asks the MemoryPlan made here.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..checkpoint.adapter import AdapterFiles
from ..checkpoint.config import LayerConfig, ModelConfig, read_config
from ..errors import FitError
from ..machine.choices import Choices
from ..machine.dtypes import mlx_dtype
from ..machine.memory import available_memory, raised_limit
from .cache import most_room
from .scores import attention_bytes, vision_bytes
from .text import PREFILL_CHUNK
from .weighing import Weights, weigh
from .weights import chosen_dtype

WORKSPACE_BYTES = 1_000_000_000  # logits, activations; attention's come on top (attention_bytes)


@dataclass(frozen=True)
class Footprint:
    """Bytes needed at a context length, and bytes there; available is None where unknown.

    workspace_bytes: the most that stands beside weights and cache at a time: activations and
    logits, a buffer of the cache that a larger one replaces, or copies made while loading.
    """

    weight_bytes: int
    cache_bytes: int
    workspace_bytes: int
    available_bytes: int | None
    context: int

    @property
    def needed_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes + self.workspace_bytes

    @property
    def fits(self) -> bool | None:
        """True where what is needed is there; None where the machine does not say what it has."""
        if self.available_bytes is None:
            return None
        return self.needed_bytes <= self.available_bytes

    @property
    def wired_limit_mb(self) -> int | None:
        """The `iogpu.wired_limit_mb` with which it would fit on this Mac; see `raised_limit`."""
        return raised_limit(self.needed_bytes) if self.fits is False else None


@dataclass(frozen=True)
class MemoryPlan:
    """The Footprint of a checkpoint by the positions in its cache, prompt and canvases.

    item_bytes: of a number in the cache, which has the activations' dtype; piece: the positions
    written at a time at most, a chunk of a prompt, an image in it or a canvas.
    """

    config: ModelConfig
    weights: Weights
    item_bytes: int
    piece: int

    def __call__(self, context: int) -> Footprint:
        return self.footprint(context, available_memory())

    def footprint(self, context: int, available: int | None) -> Footprint:
        """The Footprint on a machine that can give `available` bytes, None where unknown."""
        held = self.weights.held_bytes
        cache, workspace = self.cache_bytes(context), self.workspace_bytes(context)
        return Footprint(held, cache, workspace, available, context)

    def cache_bytes(self, context: int) -> int:
        """Bytes of keys and values that a cache for `context` positions takes at most."""
        return sum(self.layer_cache_bytes(context))

    def layer_cache_bytes(self, context: int) -> list[int]:
        """Bytes of keys and values for `context` positions, layer by layer."""
        return [
            self._bytes(layer, most_room(self._window(layer), context, self.piece).stored)
            for layer in self.config.text.layers
        ]

    def workspace_bytes(self, context: int) -> int:
        """Bytes beside weights and cache: for computing, for a growing cache, or for loading."""
        loading = self.weights.loading_bytes - self.weights.held_bytes - self.cache_bytes(context)
        return max(self.computing_bytes(context), self.replaced_bytes(context), loading)

    def computing_bytes(self, context: int) -> int:
        """Bytes that a chunk of a prompt, or a step over a canvas, computes in at `context`.

        Or an image: the vision tower gives back what it took before the chunk is computed.
        """
        attention = attention_bytes(self.config, context, self.piece, self.item_bytes)
        return max(WORKSPACE_BYTES + attention, self.image_bytes)

    @property
    def image_bytes(self) -> int:
        """Bytes that the largest image is encoded in, beside embeddings of the chunk around it."""
        if (vision := self.weights.vision) is None:
            return 0
        embeddings = 2 * self.piece * self.config.text.hidden_size * self.item_bytes
        return embeddings + vision_bytes(vision, vision.budgets[-1], self.item_bytes)

    def replaced_bytes(self, context: int) -> int:
        """Bytes of the largest buffer that a larger one can replace; layers grow one by one."""
        return max(
            self._bytes(layer, most_room(self._window(layer), context, self.piece).replaced)
            for layer in self.config.text.layers
        )

    def largest_context(self, available: int | None) -> int | None:
        """The longest context that fits into `available` bytes; 0: not even the weights fit.

        None where the machine does not say what it has.
        """
        if available is None:
            return None
        contexts = range(1, self.config.text.max_position_embeddings + 1)
        return bisect_right(contexts, available, key=lambda n: self.footprint(n, 0).needed_bytes)

    def _window(self, layer: LayerConfig) -> int | None:
        return self.config.text.sliding_window if layer.sliding else None

    def _bytes(self, layer: LayerConfig, positions: int) -> int:
        """Bytes of one layer's keys and values."""
        return 2 * positions * layer.num_key_value_heads * layer.head_dim * self.item_bytes


def plan_memory(
    folder: Path,
    dtype: str | None = None,
    choices: Choices | None = None,
    *,
    shape_only: bool = False,
    adapter: AdapterFiles | None = None,
) -> MemoryPlan:
    """The MemoryPlan of a checkpoint folder on the back end at hand; the folder is read once, here.

    dtype: the activations' ("float32", ...); None takes that of `choices`, or the checkpoint's.
    adapter: one that is applied. shape_only: the files may end behind their headers.
    CheckpointError for what would not load.
    """
    config, choices = read_config(folder), choices or Choices()
    computed = mlx_dtype(dtype) if dtype else chosen_dtype(config, choices)
    weights = weigh(folder, config, computed, choices, shape_only=shape_only, adapter=adapter)
    pieces = [choices.prefill_chunk or PREFILL_CHUNK, config.canvas_length]
    if weights.vision is not None:
        pieces.append(weights.vision.budgets[-1])  # an image is never cut
    return MemoryPlan(config, weights, computed.size, max(pieces))


class RoomCheck(Protocol):
    """A check of memory for so many positions."""

    def __call__(self, context: int, beside: int = 0) -> None:
        """FitError where their cache does not fit; beside: bytes of other caches that stay."""
        ...


def fit_check(
    folder: Path,
    dtype: str | None = None,
    choices: Choices | None = None,
    adapter: AdapterFiles | None = None,
) -> RoomCheck:
    """FitError, with the numbers, for a context whose cache cannot fit beside the weights."""
    plan = plan_memory(folder, dtype, choices, adapter=adapter)
    return room_check(folder.name, plan.footprint, choices)


def room_check(
    name: str, footprint: Callable[[int, int | None], Footprint], choices: Choices | None
) -> RoomCheck:
    """FitError for a context that does not fit; name: of what is loaded.

    footprint: a context and the bytes there -> what is needed.
    """
    tuned = choices is not None and choices.alter
    without = ", leave out what was tuned with --no-tune" if tuned else ""

    def check(context: int, beside: int = 0) -> None:
        available = available_memory()
        need = footprint(context, None if available is None else available - beside)
        if need.fits is False:
            command = raising(need)
            raise FitError(
                f"{name} needs {sized(need.needed_bytes)} (weights "
                f"{sized(need.weight_bytes)}, cache for {context:,} positions "
                f"{sized(need.cache_bytes)}, workspace {sized(need.workspace_bytes)}), this "
                f"machine can give {sized(need.available_bytes or 0)}; "
                f"{f'{command}, or ' if command else ''}take a smaller quantisation "
                f"or context{without}, or try anyway with --force."
            )

    return check


def raising(need: Footprint) -> str | None:
    """The command that lets this Mac give what is needed, and for how long; None where none does.

    Metal gives two thirds to three quarters of the memory unless it is told otherwise.
    """
    if (limit := need.wired_limit_mb) is None:
        return None
    return f"`sudo sysctl iogpu.wired_limit_mb={limit}` gives that until the next restart"


def sized(count: int) -> str:
    """Bytes in the decimal unit that shows them: GB, MB or kB."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
