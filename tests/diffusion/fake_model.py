"""An 8-wide model without weights: what the loop asks of a model, and a list of what it asked for.

A network is a plain numpy function (prefix tokens, canvas [C], soft [C, H] or None) -> hidden
[C, H], so that a test can run it outside the loop as well. Axes: C canvas, V vocabulary, H = 8.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from weakref import ref

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_diffgemma.checkpoint.config import LayerConfig, ModelConfig, TextConfig
from mlx_diffgemma.checkpoint.generation import SamplerDefaults
from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.images.pixels import Pixels
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.model.images import Placed, placed
from mlx_diffgemma.model.prefix import Prefix
from mlx_diffgemma.model.soft_gather import FIRST, PRODUCT, Gathered
from mlx_diffgemma.model.vocabulary import ALL_IDS
from mlx_diffgemma.share.part import WHOLE, Part

H = 8
CAP = 30.0
Floats = NDArray[np.float32]
Network = Callable[[list[int], NDArray[np.int32], Floats | None], Floats]


def tiny_config(
    vocab: int = 40,
    canvas: int = 6,
    context: int = 4096,
    stop_ids: Sequence[int] = (),
    sampler: SamplerDefaults | None = None,
    image_id: int | None = None,
) -> ModelConfig:
    """A config whose network nobody builds; the loop reads its sizes, stop ids and sampler."""
    layer = LayerConfig(False, 8, 1, 1e4, 1.0)
    text = TextConfig(vocab, H, 8, 8, 1, 1, 1, 1e-6, 16, CAP, context, (layer,))
    return ModelConfig(
        text=text,
        canvas_length=canvas,
        stop_ids=tuple(stop_ids),
        sampler=sampler or SamplerDefaults(),
        dtype="float32",
        quantization=None,
        image_ids=None if image_id is None else ImageIds(image_id - 1, image_id, image_id + 1),
    )


class TokenPrefix(Prefix):
    """A prefix that is its tokens."""

    def roll_back(self, position: int) -> int:
        position = self._outside(min(position, self.length))
        del self.tokens[position:]
        self.images = [run for run in self.images if run.stop <= position]
        self.marked = min(self.marked, self.length)
        return self.length


@dataclass
class FakeModel:
    """Stands in for Model; `events` holds a tuple a call: its name, then what it was given."""

    config: ModelConfig
    network: Network
    dtype: mx.Dtype = mx.float32
    gathers: bool = False
    choices: Choices = field(default_factory=Choices)
    pauses: None = None
    part: Part = WHOLE
    vision: None = None
    events: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        self.table: Floats = random.normal(size=(self.config.text.vocab_size, H)).astype(np.float32)
        self.embedding = SimpleNamespace(own=ALL_IDS)

    def asked(self, name: str) -> list[Any]:
        """What the calls of `name` were given, in order."""
        return [
            event[1:] if len(event) > 2 else event[1] for event in self.events if event[0] == name
        ]

    def find_non_finite(self) -> str | None:
        return None

    def evaluate(self, *work: Any) -> None:
        mx.eval(*work)

    def new_prefix(self) -> Prefix:
        return TokenPrefix([], model=ref(self))

    def placed(self, ids: Sequence[int], images: Sequence[Pixels]) -> list[Placed]:
        return placed(ids, images, self.config.image_token_id)

    def encode(
        self,
        tokens: Sequence[int],
        prefix: Prefix | None = None,
        *,
        images: Sequence[Pixels] | None = (),
        progress: Any = None,
    ) -> Prefix:
        self.events.append(("encode", list(tokens)))
        self.events.append(("images", images if images is None else list(images)))
        prefix = prefix if prefix is not None else self.new_prefix()
        inside = [] if images is None else self.placed(tokens, images)
        prefix.extend(tokens, [image.run(prefix.length) for image in inside])
        if progress:
            progress(len(tokens), len(tokens))
        return prefix

    def decode(self, canvas: mx.array, prefix: Prefix, soft: mx.array | None = None) -> mx.array:
        given = None if soft is None else np.array(soft.astype(mx.float32))[0]
        ids = np.array(canvas)
        self.events.append(("decode", ids, given))
        return mx.array(self.network(list(prefix.tokens), ids, given))[None]

    def raw_logits(self, hidden: mx.array) -> mx.array:
        self.events.append(("logits", hidden.shape[-2]))
        return hidden @ mx.array(self.table).T

    def soft_embedding(self, processed: mx.array, bias: mx.array | None = None) -> mx.array:
        self.events.append(("soft_embedding", processed.shape[-2]))
        biased = processed.astype(mx.float32) + (0.0 if bias is None else bias)
        shares = mx.softmax(biased, axis=-1)
        return shares @ mx.array(self.table) * H**0.5

    def certain_embedding(self, ids: mx.array) -> mx.array:
        self.events.append(("certain_embedding", ids.shape[-1]))
        return mx.array(self.table)[ids] * H**0.5

    def mixed_embedding(self, weights: mx.array, total: mx.array) -> mx.array:
        self.events.append(("mixed_embedding", weights.shape[-2]))
        return weights @ mx.array(self.table) / total * H**0.5

    def gathered_embedding(self, processed: mx.array, bias: mx.array | None = None) -> Gathered:
        """A gather one can tell from the product: all 7; it suffices where the best id is even."""
        rows = processed.shape[0]
        self.events.append(("gathered_embedding", rows))
        odd = mx.argmax(processed if bias is None else processed + bias, axis=-1) % 2 == 1
        return Gathered(mx.full((rows, H), 7.0), mx.zeros(rows), mx.where(odd, PRODUCT, FIRST))


class CertainModel(FakeModel):
    """A model whose network says outright which ids it wants; `gap` is how much more, in logits."""

    gap = 25.0

    def raw_logits(self, hidden: mx.array) -> mx.array:
        self.events.append(("logits", hidden.shape[-2]))
        wanted = hidden[..., :1].astype(mx.int32)
        return mx.where(mx.arange(self.config.text.vocab_size) == wanted, self.gap, 0.0)


def wanting(ids: Iterable[int]) -> Floats:
    """The hidden states with which a CertainModel asks for these ids."""
    return np.repeat(np.array(list(ids), np.float32)[:, None], H, axis=1)


def answering(prompt_length: int, script: Sequence[int], filler: int = 9) -> Network:
    """A network for a CertainModel that writes `script` behind the prompt, and then `filler`."""

    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        first = len(prefix) - prompt_length
        rest = [*script[first : first + canvas.size], *[filler] * canvas.size]
        return wanting(rest[: canvas.size])

    return network


def in_turn(*canvases: Sequence[int]) -> Network:
    """A network for a CertainModel wanting another canvas at each call, the last for ever."""
    left = list(canvases)

    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        return wanting(left.pop(0) if len(left) > 1 else left[0])

    return network
