"""FLOPs and bytes of steps, tokens and passes, counted by shape, and nowhere else in the package.

A multiply-add is two FLOPs. Counted are matrix products and attention; norms, activations and the
sampler are left out: they are far below one percent of the FLOPs. Bytes are weights read once a
pass, and the keys and values that attention reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..checkpoint.config import LayerConfig, ModelConfig
from ..kernels.soft_gather.tiers import FIRST, KEPT, SECOND
from .bits import BitsOf
from .text import PREFILL_CHUNK

ATTENTION, EXPERTS, DENSE_MLP, ROUTER = "attention", "experts", "dense MLP", "router"
HEAD, SELF_CONDITIONING, NORMS = "head", "self-conditioning", "norms"

DECODER = "model.decoder"
TABLE = f"{DECODER}.embed_tokens"
LAYER_NORMS = 7  # of the hidden size in a layer, beside those of queries and keys
EXPERTS_IN_TEXT = 84 / 128
"""The share of a layer's experts that the tokens of a text use between them.

Published for Gemma 4 26B-A4B on PG-19, 84 of 128; taken for other models as well, and for canvases.
"""


@dataclass(frozen=True)
class Work:
    """The work of a part: FLOPs, bytes of weights read, bytes of cached keys and values read."""

    flops: float = 0.0
    weight_bytes: float = 0.0
    cache_bytes: float = 0.0

    @property
    def bytes(self) -> float:
        """All bytes that are read."""
        return self.weight_bytes + self.cache_bytes

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.flops + other.flops,
            self.weight_bytes + other.weight_bytes,
            self.cache_bytes + other.cache_bytes,
        )


def total(work: Mapping[str, Work]) -> Work:
    """The sum over the parts."""
    return sum(work.values(), Work())


@dataclass(frozen=True)
class Matrix:
    """A weight [outputs, inputs]; or one for each of `experts`, of which a row uses `used`."""

    part: str
    module: str
    outputs: int
    inputs: int
    experts: int = 1
    used: int = 1

    @property
    def size(self) -> int:
        """The number of weights, over all experts."""
        return self.experts * self.outputs * self.inputs

    def work(self, rows: int, bits: BitsOf, among: int | None = None) -> Work:
        """Work of a pass of `rows` rows; experts read: those hit by uniform routing among `among`.

        None for all of them.
        """
        hit = experts_touched(rows, self.used, among or self.experts) / self.experts
        flops = 2.0 * rows * self.used * self.outputs * self.inputs
        return Work(flops, hit * self.size * bits(self.module) / 8)


def experts_touched(rows: int, used: int, among: int) -> float:
    """The experts that rows with `used` each hit together, on average, routed evenly among them."""
    return among * (1 - (1 - used / among) ** rows)


def layer_matrices(config: ModelConfig, number: int) -> Iterator[Matrix]:
    """All weights of one layer."""
    text, at = config.text, f"{DECODER}.layers.{number}"
    H, inner = text.hidden_size, text.moe_intermediate_size
    experts = (text.num_experts, text.top_k_experts)
    heads = text.num_attention_heads * text.layers[number].head_dim
    yield from _qkv(config, number)
    yield Matrix(ATTENTION, f"{at}.self_attn.o_proj", H, heads)
    yield from _gated(DENSE_MLP, f"{at}.mlp", H, text.intermediate_size)
    yield Matrix(EXPERTS, f"{at}.experts.gate_up_proj", 2 * inner, H, *experts)
    yield Matrix(EXPERTS, f"{at}.experts.down_proj", H, inner, *experts)
    yield Matrix(ROUTER, f"{at}.router.proj", text.num_experts, H)


def _qkv(config: ModelConfig, number: int) -> Iterator[Matrix]:
    """A layer's projections of queries, keys and values; a full layer's values are its keys."""
    text, layer = config.text, config.text.layers[number]
    at, H = f"{DECODER}.layers.{number}.self_attn", text.hidden_size
    yield Matrix(ATTENTION, f"{at}.q_proj", text.num_attention_heads * layer.head_dim, H)
    for name in ("k_proj", "v_proj") if layer.sliding else ("k_proj",):
        yield Matrix(ATTENTION, f"{at}.{name}", layer.num_key_value_heads * layer.head_dim, H)


def _gated(part: str, at: str, hidden: int, inner: int) -> Iterator[Matrix]:
    yield Matrix(part, f"{at}.gate_proj", inner, hidden)
    yield Matrix(part, f"{at}.up_proj", inner, hidden)
    yield Matrix(part, f"{at}.down_proj", hidden, inner)


def step_work(
    config: ModelConfig,
    prefix: int,
    bits: BitsOf,
    *,
    item_bytes: int = 2,
    dense_rows: float | None = None,
    second_tier_rows: float = 0.0,
    in_text: bool = False,
) -> dict[str, Work]:
    """Work of one denoising step behind `prefix` positions, part by part: a step in mid-canvas.

    item_bytes: of a cached number; dense_rows: rows whose soft embedding takes the product with the
    whole table, None for all of them; the others gather 64 of the table's rows, and of them
    second_tier_rows another 1,024. in_text: the canvas uses the share EXPERTS_IN_TEXT of a layer's
    experts, an assumption; else all of them.
    """
    C, V, H = config.canvas_length, config.text.vocab_size, config.text.hidden_size
    work = dict.fromkeys((ATTENTION, EXPERTS, DENSE_MLP, ROUTER), Work())
    for number, layer in enumerate(config.text.layers):
        for matrix in layer_matrices(config, number):
            among = experts_in_text(matrix.experts, matrix.used) if in_text else None
            work[matrix.part] += matrix.work(C, bits, among)
        keys = C + _visible(config, layer, prefix)
        work[ATTENTION] += _attention(config, layer, C * keys, keys, item_bytes)
    work[HEAD] = Matrix(HEAD, TABLE, V, H).work(C, bits)
    conditioning = f"{DECODER}.self_conditioning"
    mlp = _gated(SELF_CONDITIONING, conditioning, H, config.text.intermediate_size)
    gathered = 0.0 if dense_rows is None else C - dense_rows
    tokens = gathered * KEPT[FIRST] + second_tier_rows * KEPT[SECOND]
    soft = _soft_embedding(config, C - gathered, tokens, bits)
    work[SELF_CONDITIONING] = sum((matrix.work(C, bits) for matrix in mlp), soft)
    return work


def read_work(
    config: ModelConfig,
    prefix: int,
    bits: BitsOf,
    *,
    canvases: int,
    width: int,
    slots: int,
    labels: int,
    item_bytes: int = 2,
) -> dict[str, Work]:
    """Work of a decision's pass over canvases of `width` behind `prefix` positions, part by part.

    Every canvas has `slots`, whose logits are made for `labels` tokens alone. Attention counts the
    keys of the neighbours, which the mask takes away; experts are those of a text, an assumption.
    """
    rows, H = canvases * width, config.text.hidden_size
    work = dict.fromkeys((ATTENTION, EXPERTS, DENSE_MLP, ROUTER), Work())
    for number, layer in enumerate(config.text.layers):
        for matrix in layer_matrices(config, number):
            among = experts_in_text(matrix.experts, matrix.used)
            work[matrix.part] += matrix.work(rows, bits, among)
        keys = rows + _visible(config, layer, prefix)
        work[ATTENTION] += _attention(config, layer, rows * keys, keys, item_bytes)
    work[HEAD] = Matrix(HEAD, TABLE, labels, H).work(canvases * slots, bits)
    return work


def token_work(
    config: ModelConfig, prefix: int, bits: BitsOf, *, rows: int = 1, item_bytes: int = 2
) -> dict[str, Work]:
    """Work of one token of mode ar behind `prefix` positions, part by part.

    rows: tokens that one pass reads together, which share what they read of the experts as tokens
    of a text do; item_bytes: of a cached number and of a norm's weight.
    """
    V, H = config.text.vocab_size, config.text.hidden_size
    work = dict.fromkeys((ATTENTION, EXPERTS, DENSE_MLP, ROUTER), Work())
    norms = H
    for number, layer in enumerate(config.text.layers):
        for matrix in layer_matrices(config, number):
            among = experts_in_text(matrix.experts, matrix.used)
            work[matrix.part] += matrix.work(rows, bits, among)
        pairs = _causal_pairs(config, layer, rows, prefix)
        keys = rows + _visible(config, layer, prefix)
        work[ATTENTION] += _attention(config, layer, pairs, keys, item_bytes)
        norms += LAYER_NORMS * H + 2 * layer.head_dim
    work[NORMS] = Work(weight_bytes=float(norms * item_bytes))
    work[HEAD] = Matrix(HEAD, TABLE, V, H).work(rows, bits)
    return work


def experts_in_text(experts: int, used: int) -> int:
    """The experts of a layer that a text uses, at least those of one token."""
    return max(used, round(EXPERTS_IN_TEXT * experts))


def expert_bytes(config: ModelConfig, touched: float, bits: BitsOf) -> float:
    """Bytes of the experts' weights that a pass reads if each layer uses `touched` experts."""
    matrices = (m for n in range(len(config.text.layers)) for m in layer_matrices(config, n))
    all_bits = sum(m.size * bits(m.module) for m in matrices if m.part == EXPERTS)
    return touched / config.text.num_experts * all_bits / 8


def encode_work(
    config: ModelConfig,
    tokens: int,
    prefix: int,
    bits: BitsOf,
    *,
    item_bytes: int = 2,
    whole: bool = False,
) -> Work:
    """Work of the causal pass over `tokens` positions behind `prefix`: prefill, or a commit.

    Only keys and values of the last layer are needed, so only its projections are counted, unless
    `whole`. Weights are read once for each chunk of the prompt.
    """
    total = Work()
    for first in range(0, tokens, PREFILL_CHUNK):
        rows, before = min(PREFILL_CHUNK, tokens - first), prefix + first
        for number, layer in enumerate(config.text.layers):
            last = number + 1 == len(config.text.layers) and not whole
            matrices = _qkv(config, number) if last else layer_matrices(config, number)
            total += sum((matrix.work(rows, bits) for matrix in matrices), Work())
            if not last:
                pairs = _causal_pairs(config, layer, rows, before)
                keys = rows + _visible(config, layer, before)
                total += _attention(config, layer, pairs, keys, item_bytes)
    return total


def _visible(config: ModelConfig, layer: LayerConfig, prefix: int) -> int:
    """Prefix positions that a query right behind the prefix sees."""
    return min(prefix, config.text.sliding_window - 1) if layer.sliding else prefix


def _causal_pairs(config: ModelConfig, layer: LayerConfig, rows: int, prefix: int) -> int:
    """Pairs of `rows` queries behind `prefix` positions and the keys they see, themselves too."""
    most = config.text.sliding_window - 1 if layer.sliding else prefix + rows
    growing = min(rows, max(0, most - prefix))  # queries that still see everything before them
    return rows + growing * prefix + growing * (growing - 1) // 2 + (rows - growing) * most


def _attention(
    config: ModelConfig, layer: LayerConfig, pairs: int, keys: int, item_bytes: int
) -> Work:
    """Scores and their product with the values, for so many pairs of query and key."""
    width = config.text.num_attention_heads * layer.head_dim
    cached = 2 * keys * layer.num_key_value_heads * layer.head_dim
    return Work(4.0 * pairs * width, 0.0, float(cached * item_bytes))


def _soft_embedding(config: ModelConfig, dense_rows: float, tokens: float, bits: BitsOf) -> Work:
    """Products of some rows with the whole table, and so many tokens gathered for the others."""
    V, H = config.text.vocab_size, config.text.hidden_size
    rows_read = tokens + (V if dense_rows else 0)
    return Work(2.0 * H * (dense_rows * V + tokens), rows_read * H * bits(TABLE) / 8)
