"""A network made anew for other choices; every weight that they leave alone is shared."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace

import mlx.core as mx

from ..errors import SettingsError
from ..machine.choices import ON_EMBEDDING, Choices
from .arrays import distinct_arrays
from .blocks import Attention, GatedMLP, Layer
from .embedding import Embedding
from .matrices import AdaptedMatrix, AnyMatrix, DenseMatrix, JoinedMatrix, PackedMatrix, join
from .tables import DenseTable, PackedTable, multiplied_by
from .text import Model

Evaluate = Callable[[object], None]


def evaluate(part: object) -> None:
    """Compute the arrays of a part, one by one: what is copied on the way of one is freed first."""
    for array in distinct_arrays(part):
        mx.eval(array)
    mx.clear_cache()


def variant(model: Model, choices: Choices, evaluate: Evaluate = evaluate) -> Model:
    """`model` run as `choices` say, but in its own dtype; unpacked weights are evaluated here.

    evaluate: gets each part that is made anew. SettingsError for 16-bit weights under activations
    in float32: each product would widen them.
    """
    for name in ON_EMBEDDING:
        if getattr(choices, name) == "16-bit" and model.dtype == mx.float32:
            raise SettingsError(
                f"{name} is '16-bit', expected 'packed' where activations are float32; tune "
                "again with `mlx-diffgemma profile --tune`."
            )
    conditioning = model.self_conditioning
    if choices.unpacks:
        conditioning = replace(conditioning, mlp=_unpacked_mlp(conditioning.mlp, model.dtype))
        evaluate(conditioning)
    made = Model(
        model.config,
        _embedding(model.embedding, choices, evaluate),
        [_layer(layer, choices, model.dtype, evaluate) for layer in model.layers],
        conditioning,
        model.final_norm,
        choices,
        vision=model.vision,
        part=model.part,
    )
    made.find_non_finite = model.find_non_finite
    return made


def _embedding(embedding: Embedding, choices: Choices, evaluate: Evaluate) -> Embedding:
    table = embedding.table
    if isinstance(table, PackedTable):
        if choices.unpacks:
            table = DenseTable(table.unpacked(embedding.dtype))
        else:
            table = multiplied_by(table, choices.soft_product, embedding.dtype)
        evaluate(table)
    sizes = (embedding.vocab_size, embedding.hidden_size)
    return Embedding(table, *sizes, embedding.dtype, embedding.own)


def _layer(layer: Layer, choices: Choices, dtype: mx.Dtype, evaluate: Evaluate) -> Layer:
    """A Layer of its own even where no weight changes: what MLX compiled holds for one choice."""
    after, attention = layer.after_attention, layer.attention
    if choices.unpacks:
        attention = _unpacked_attention(attention, dtype)
        after = replace(after, mlp=_unpacked_mlp(after.mlp, dtype))
    after = replace(after, experts=replace(after.experts, kernels=choices.experts_kernels))
    made = replace(layer, attention=attention, after_attention=after)
    evaluate(made)
    return made


def _unpacked_attention(attention: Attention, dtype: mx.Dtype) -> Attention:
    made = copy(attention)
    made.qkv = _unpacked(attention.qkv, dtype)
    made.out = _single(attention.out, dtype)
    return made


def _unpacked_mlp(mlp: GatedMLP, dtype: mx.Dtype) -> GatedMLP:
    return GatedMLP(_unpacked(mlp.gate_up, dtype), _single(mlp.down, dtype))


def _unpacked(matrix: AnyMatrix | JoinedMatrix, dtype: mx.Dtype) -> AnyMatrix | JoinedMatrix:
    """The same weight as floating-point numbers of `dtype`; parts become one matrix."""
    if isinstance(matrix, AdaptedMatrix):
        return AdaptedMatrix(_unpacked(matrix.base, dtype), matrix.adapters, matrix.widths)
    if isinstance(matrix, JoinedMatrix):
        return join([_single(part, dtype) for part in matrix.parts])
    return _single(matrix, dtype)


def _single(matrix: AnyMatrix, dtype: mx.Dtype) -> AnyMatrix:
    if isinstance(matrix, AdaptedMatrix):
        return AdaptedMatrix(_unpacked(matrix.base, dtype), matrix.adapters, matrix.widths)
    return DenseMatrix(matrix.unpacked(dtype)) if isinstance(matrix, PackedMatrix) else matrix
