"""Low-rank adapters on the matrices of the network (LoRA): y = x W + scale * (x A) B.

An adapter stands on a matrix that encoder and decoder share, so that both use it and merging it
into the weight is exact. Axes: I inputs, O outputs, R rank, E experts.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

import mlx.core as mx

from ..machine.device import on_gpu
from .blocks import GatedMLP, Layer, SelfConditioning
from .experts import Experts
from .matrices import AdaptedMatrix, Adapter, AnyMatrix, JoinedMatrix
from .text import Model

Adapters = Mapping[str, Adapter]
"""Adapters by the module they stand on, such as model.decoder.layers.0.self_attn.q_proj."""


@dataclass(frozen=True)
class Dropout:
    """Zeros in an adapter's input at random, a share `rate` of it; the rest grows to make up.

    The zeros follow from `moment`, numbers that name a training step, from the module and from the
    input's shape, so that a layer that is computed again, or a resumed run, has the same.
    """

    rate: float
    moment: tuple[int, ...]

    def __call__(self, x: mx.array, module: str) -> mx.array:
        """x [..., I], the input of the adapter on `module` -> the same with zeros."""
        key = random_key(*self.moment, module, *x.shape)
        kept = mx.random.bernoulli(1 - self.rate, x.shape, key)
        return mx.where(kept, x / (1 - self.rate), 0)


def random_key(*named: int | str) -> mx.array:
    """The key of MLX's random numbers that numbers and names stand for."""
    digest = sha256("\0".join(map(str, named)).encode()).digest()
    return mx.array([int.from_bytes(digest[at : at + 4], "little") for at in (0, 4)], mx.uint32)


def adapters_of(
    values: Mapping[str, mx.array],
    modules: Iterable[str],
    scale: float,
    dropout: Dropout | None = None,
) -> dict[str, Adapter]:
    """Adapters of the values NAME.lora_a and NAME.lora_b of each of `modules`."""
    return {
        module: Adapter(
            values[f"{module}.lora_a"],
            values[f"{module}.lora_b"],
            scale,
            partial(dropout, module=module) if dropout else None,
        )
        for module in modules
    }


def applied(model: Model, values: Mapping[str, mx.array], scale: float) -> Model:
    """`model` with adapters of values NAME.lora_a and NAME.lora_b, cast to what it computes in."""
    modules = [name.rpartition(".")[0] for name in values if name.endswith(".lora_a")]
    cast = {name: array.astype(_dtype(model, array)) for name, array in values.items()}
    return adapted(model, adapters_of(cast, modules, scale))


def _dtype(model: Model, array: mx.array) -> mx.Dtype:
    """The model's dtype; on the CPU float32 for experts: gather_mm knows no other there."""
    return mx.float32 if array.ndim == 3 and not on_gpu() else model.dtype


def adapted(model: Model, adapters: Adapters) -> Model:
    """`model` with adapters; the weights are shared, and what no adapter touches stays as it is."""
    made = Model(
        model.config,
        model.embedding,
        [
            adapted_layer(layer, f"{LAYERS}.{n}", adapters)
            for n, layer in zip(model.numbers, model.layers, strict=True)
        ],
        adapted_conditioning(model.self_conditioning, adapters),
        model.final_norm,
        model.choices,
        vision=model.vision,
        part=model.part,
    )
    made.find_non_finite = model.find_non_finite
    return made


LAYERS = "model.decoder.layers"
CONDITIONING = "model.decoder.self_conditioning"


def adapted_layer(layer: Layer, place: str, adapters: Adapters) -> Layer:
    """A layer with the adapters of the modules at `place`."""
    attention, after = copy(layer.attention), layer.after_attention
    D, kv_heads = attention.layer.head_dim, attention.layer.num_key_value_heads
    widths = {"q_proj": attention.num_heads * D, "k_proj": kv_heads * D}
    if attention.layer.sliding:
        widths["v_proj"] = kv_heads * D
    attention.qkv = on_parts(attention.qkv, f"{place}.self_attn", widths, adapters)
    attention.out = _one(attention.out, f"{place}.self_attn.o_proj", adapters)
    router = copy(after.router)
    router.projection = _one(router.projection, f"{place}.router.proj", adapters)
    after = replace(
        after,
        mlp=_mlp(after.mlp, f"{place}.mlp", adapters),
        router=router,
        experts=_experts(after.experts, f"{place}.experts", adapters),
    )
    return replace(layer, attention=attention, after_attention=after)


def adapted_conditioning(conditioning: SelfConditioning, adapters: Adapters) -> SelfConditioning:
    """Self-conditioning with its adapters."""
    return replace(conditioning, mlp=_mlp(conditioning.mlp, CONDITIONING, adapters))


def _experts(experts: Experts, place: str, adapters: Adapters) -> Experts:
    gate_up = _one(experts.gate_up, f"{place}.gate_up_proj", adapters)
    down = _one(experts.down, f"{place}.down_proj", adapters)
    alone = gate_up is experts.gate_up and down is experts.down
    return experts if alone else replace(experts, gate_up=gate_up, down=down, in_operations=True)


def _mlp(mlp: GatedMLP, place: str, adapters: Adapters) -> GatedMLP:
    half = mlp.gate_up.outputs // 2
    gate_up = on_parts(mlp.gate_up, place, {"gate_proj": half, "up_proj": half}, adapters)
    made = copy(mlp)
    made.gate_up, made.down = gate_up, _one(mlp.down, f"{place}.down_proj", adapters)
    return made


def on_parts(
    base: AnyMatrix | JoinedMatrix, place: str, widths: Mapping[str, int], adapters: Adapters
) -> AnyMatrix | JoinedMatrix:
    """`base`, with the adapters of its parts where there are any."""
    own, each = [adapters.get(f"{place}.{name}") for name in widths], list(widths.values())
    given = [adapter for adapter in own if adapter]
    if not given:
        return base
    if any(adapter.drop for adapter in given) or len({adapter.scale for adapter in given}) > 1:
        return AdaptedMatrix(base, own, each)
    return AdaptedMatrix(base, [_joined(own, each)], [sum(each)])


def _joined(own: Sequence[Adapter | None], widths: Sequence[int]) -> Adapter:
    """One adapter for all parts of a matrix, of the sum of their ranks: fewer, larger products."""
    total, starts = sum(widths), [sum(widths[:n]) for n in range(len(widths))]
    parts = [
        (adapter, mx.pad(adapter.b, [(0, 0), (start, total - start - width)]))
        for adapter, start, width in zip(own, starts, widths, strict=True)
        if adapter
    ]
    return Adapter(
        mx.concatenate([adapter.a for adapter, _ in parts], axis=1),
        mx.concatenate([b for _, b in parts], axis=0),
        parts[0][0].scale,
    )


def _one(base: AnyMatrix, module: str, adapters: Adapters) -> AnyMatrix:
    own = adapters.get(module)
    return AdaptedMatrix(base, [own], [base.outputs]) if own else base
