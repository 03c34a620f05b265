"""FLOPs and bytes: the published model's table, and the shapes of a graph that MLX builds."""

import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.config import LayerConfig, ModelConfig, read_config
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.shards import read_headers
from mlx_diffgemma.checkpoint.tensors import StoredTensors
from mlx_diffgemma.model.attention import ALL
from mlx_diffgemma.model.bits import BitsOf, packed_bits
from mlx_diffgemma.model.given import Unread
from mlx_diffgemma.model.work import (
    ATTENTION,
    DENSE_MLP,
    EXPERTS,
    HEAD,
    NORMS,
    ROUTER,
    SELF_CONDITIONING,
    Work,
    encode_work,
    expert_bytes,
    layer_matrices,
    read_work,
    step_work,
    token_work,
    total,
)


def step(config: ModelConfig, bits: float = 16.0, prefix: int = 1024) -> dict[str, Work]:
    return step_work(config, prefix, lambda module: bits)


def gigaflops(config: ModelConfig, prefix: int) -> float:
    """Of attention's scores and their product with the values."""
    return (step(config, prefix=prefix)[ATTENTION].flops - projections(config)) / 1e9


def scores(config: ModelConfig, rows: int, prefix: int, layers: Sequence[LayerConfig]) -> float:
    """FLOPs of causal attention in some layers, counted query by query."""
    flops = 0.0
    for layer in layers:
        most = config.text.sliding_window if layer.sliding else 10**9
        seen = sum(min(most, prefix + row + 1) for row in range(rows))
        flops += 4.0 * seen * config.text.num_attention_heads * layer.head_dim
    return flops


def projections(config: ModelConfig) -> float:
    rows, layers = config.canvas_length, range(len(config.text.layers))
    matrices = [m for n in layers for m in layer_matrices(config, n)]
    return sum(2.0 * rows * m.size for m in matrices if m.part == ATTENTION)


# One step at 26B, 256 rows, 1k prefix: GFLOP, and MB read at 4.5, 8.5 and 16 bits a weight. Worked
# out by hand from the shapes of the tensors, apart from this code; rounded as here.
TABLE = {
    EXPERTS: (731, 12_850, 24_270, 45_680),
    DENSE_MLP: (274, 301, 569, 1_070),
    HEAD: (378, 415, 784, 1_476),
}


@pytest.mark.parametrize("part", TABLE)
def test_a_step_of_the_published_model(published_config: ModelConfig, part: str) -> None:
    gflop, *megabytes = TABLE[part]
    assert step(published_config)[part].flops / 1e9 == pytest.approx(gflop, abs=0.5)
    for bits, expected in zip((4.5, 8.5, 16.0), megabytes, strict=True):
        got = step(published_config, bits)[part].weight_bytes / 1e6
        assert got == pytest.approx(expected, rel=1.5e-3)


def test_attention_of_the_published_model(published_config: ModelConfig) -> None:
    assert projections(published_config) / 1e9 == pytest.approx(568, abs=0.5)
    for bits, expected in ((4.5, 624), (8.5, 1_180), (16.0, 2_220)):
        got = step(published_config, bits)[ATTENTION].weight_bytes / 1e6
        assert got == pytest.approx(expected, rel=1.5e-3)
    for prefix, expected in ((256, 75), (1024, 188), (4096, 317), (32768, 1519)):
        assert gigaflops(published_config, prefix) == pytest.approx(expected, abs=0.6)


def test_self_conditioning_of_the_published_model(published_config: ModelConfig) -> None:
    """The softmax's product with the embedding is as large as the head, the rest small."""
    work, head = step(published_config), step(published_config)[HEAD]
    rest = work[SELF_CONDITIONING].flops - head.flops + work[ROUTER].flops
    assert rest / 1e9 == pytest.approx(15, abs=0.5)
    for bits, expected in ((4.5, 16), (8.5, 30), (16.0, 57)):
        work, head = step(published_config, bits), step(published_config, bits)[HEAD]
        read = work[SELF_CONDITIONING].weight_bytes - head.weight_bytes + work[ROUTER].weight_bytes
        assert read / 1e6 == pytest.approx(expected, abs=0.5)


def test_the_whole_step_of_the_published_model(published_config: ModelConfig) -> None:
    assert total(step(published_config)).flops / 1e9 == pytest.approx(2530, rel=2e-3)
    for bits, expected in ((4.5, 14.6), (8.5, 27.6), (16.0, 52.0)):
        work = total(step(published_config, bits))
        assert work.weight_bytes / 1e9 == pytest.approx(expected, rel=3e-3)


def test_gathering_spares_the_product(published_config: ModelConfig) -> None:
    dense = total(step(published_config)).flops
    sparse = total(step_work(published_config, 1024, lambda module: 16.0, dense_rows=0)).flops
    assert (dense - sparse) / 1e9 == pytest.approx(378, abs=0.5)
    half = total(step_work(published_config, 1024, lambda module: 16.0, dense_rows=128)).flops
    assert half == pytest.approx((dense + sparse) / 2)


def test_a_second_tier_reads_1024_rows_of_the_table_more(published_config: ModelConfig) -> None:
    one, none = (
        total(
            step_work(
                published_config, 1024, lambda module: 4.5, dense_rows=0, second_tier_rows=rows
            )
        )
        for rows in (1, 0)
    )
    assert one.flops - none.flops == 2 * 1024 * 2816
    assert one.weight_bytes - none.weight_bytes == 1024 * 2816 * 4.5 / 8


def test_prefill_and_commit_of_the_published_model(published_config: ModelConfig) -> None:
    one = encode_work(published_config, 1, 0, lambda module: 16.0, whole=True)
    assert one.flops / 1e9 == pytest.approx(6.17, abs=0.005)
    commit = encode_work(published_config, 256, 1024, lambda module: 16.0, whole=True)
    causal = scores(published_config, 256, 1024, published_config.text.layers)
    unmasked = commit.flops - causal + gigaflops(published_config, 1024) * 1e9
    assert unmasked / total(step(published_config)).flops == pytest.approx(0.70, abs=0.005)
    needed = encode_work(published_config, 256, 1024, lambda module: 16.0)
    assert 29 / 30 < needed.flops / commit.flops < 30 / 30
    apart = encode_work(published_config, 1000, 0, lambda module: 16.0)
    apart += encode_work(published_config, 3000, 1000, lambda module: 16.0)
    whole = encode_work(published_config, 4000, 0, lambda module: 16.0)
    assert apart.flops == pytest.approx(whole.flops, rel=1e-12)


@pytest.mark.parametrize("prefix", [0, 500, 900, 5000])
@pytest.mark.parametrize("rows", [1, 7, 2048])
def test_queries_see_what_is_before_them(
    published_config: ModelConfig, rows: int, prefix: int
) -> None:
    """Longer prefixes add attention and nothing else."""

    def flops(prefix: int) -> float:
        work = encode_work(published_config, rows, prefix, lambda module: 16.0, whole=True)
        return work.flops - scores(published_config, rows, prefix, published_config.text.layers)

    assert flops(prefix) == pytest.approx(flops(0), rel=1e-12)
    assert flops(prefix) / rows / 1e9 == pytest.approx(6.17, abs=0.005)


def test_the_published_recipe_reads_what_its_files_hold(mixed_config: ModelConfig) -> None:
    """4 bits for experts and self-conditioning, 8 for the rest: 16.2 GB a step."""
    work = total(step_work(mixed_config, 1024, mixed(mixed_config)))
    assert work.weight_bytes / 1e9 == pytest.approx(16.2, abs=0.05)


def test_a_step_with_the_experts_of_a_text(mixed_config: ModelConfig) -> None:
    """84 of 128 of a layer, an assumption: 8.4 GB of experts in place of 12.85, the same FLOPs."""
    bits = mixed(mixed_config)
    every, text = (step_work(mixed_config, 1024, bits, in_text=flag) for flag in (False, True))
    assert every[EXPERTS].bytes / 1e9 == pytest.approx(12.85, abs=0.01)
    assert text[EXPERTS].bytes / 1e9 == pytest.approx(8.43, abs=0.01)
    assert text[EXPERTS].flops == every[EXPERTS].flops
    assert {name: work for name, work in text.items() if name != EXPERTS} == {
        name: work for name, work in every.items() if name != EXPERTS
    }
    assert expert_bytes(mixed_config, 128, bits) == pytest.approx(every[EXPERTS].bytes, rel=1e-6)
    assert expert_bytes(mixed_config, 84, bits) == pytest.approx(text[EXPERTS].bytes, rel=1e-6)


# --- a token of mode ar


def mixed(config: ModelConfig) -> BitsOf:
    assert config.quantization is not None
    return packed_bits(config.quantization.of, 2)


def test_a_token_of_the_published_recipes(mixed_config: ModelConfig) -> None:
    """GB a token by hand: as published, all in 4 bits but the router, in 8 bits, mxfp8, bf16."""
    four, eight = (QuantizationConfig("affine", bits, 64) for bits in (4, 8))
    float8 = QuantizationConfig("mxfp8", 8, 32)

    def all_four(module: str) -> QuantizationConfig:
        return eight if ".router." in module else four

    recipes = {
        3.35: mixed(mixed_config),
        2.16: packed_bits(all_four, 2),
        4.06: packed_bits(lambda module: eight, 2),
        3.94: packed_bits(lambda module: float8, 2),
        7.64: packed_bits(lambda module: None, 2),
    }
    for gigabytes, bits in recipes.items():
        work = total(token_work(mixed_config, 1024, bits))
        assert work.weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_a_token_reads_the_bytes_of_the_published_tensors(mixed_config: ModelConfig) -> None:
    """Every tensor of the folder but vision and self-conditioning, 8 of 128 experts of a layer."""
    tables = Path(__file__).parent / "data" / "published.json.gz"
    tensors = json.loads(gzip.decompress(tables.read_bytes()))["mlx-4bit"]["tensors"]
    sizes = {"U32": 4, "BF16": 2, "F32": 4, "U8": 1}
    read = 0.0
    for name, (dtype, shape) in tensors.items():
        if not re.search(r"vision|self_conditioning|embed_vision", name):
            share = 8 / 128 if ".experts." in name else 1.0
            read += share * math.prod(shape) * sizes[dtype]
    work = total(token_work(mixed_config, 1024, mixed(mixed_config)))
    assert work.weight_bytes == pytest.approx(read, rel=1e-4)


@pytest.mark.parametrize(("prefix", "gigabytes"), [(1024, 0.23), (4096, 0.29), (32768, 0.88)])
def test_keys_and_values_of_a_token(
    mixed_config: ModelConfig, prefix: int, gigabytes: float
) -> None:
    work = total(token_work(mixed_config, prefix, mixed(mixed_config)))
    assert work.cache_bytes / 1e9 == pytest.approx(gigabytes, abs=0.006)


def test_parameters_of_a_token(published_config: ModelConfig) -> None:
    work = token_work(published_config, 0, lambda module: 16.0)
    millions = {name: part.weight_bytes / 2e6 for name, part in work.items()}
    expected = {ATTENTION: 1110, EXPERTS: 1427, DENSE_MLP: 535, ROUTER: 11, HEAD: 738, NORMS: 1}
    assert millions == pytest.approx(expected, abs=0.5)
    one = encode_work(published_config, 1, 700, lambda module: 16.0, whole=True)
    head = work[HEAD].flops
    behind = total(token_work(published_config, 700, lambda module: 16.0))
    assert behind.flops - head == pytest.approx(one.flops, rel=1e-12)


def test_experts_that_rows_touch(published_config: ModelConfig) -> None:
    """8 of a layer for one row, and 84 for many, as a text's tokens do."""
    one = token_work(published_config, 0, lambda module: 16.0)[EXPERTS].weight_bytes
    for rows, touched in {1: 8, 2: 15, 4: 28, 8: 46, 16: 67, 32: 81, 48: 83}.items():
        work = token_work(published_config, 0, lambda module: 16.0, rows=rows)[EXPERTS]
        assert 8 * work.weight_bytes / one == pytest.approx(touched, abs=0.5)


def test_dense_weights_unpacked_at_load(mixed_config: ModelConfig) -> None:
    """Experts and router stay packed."""
    assert mixed_config.quantization is not None
    bits = packed_bits(mixed_config.quantization.of, 2, unpacked=True)
    plain = mixed(mixed_config)
    at = "model.decoder.layers.0"
    for module in ("experts.down_proj", "router.proj"):
        assert bits(f"{at}.{module}") == plain(f"{at}.{module}")
    for module in (f"{at}.self_attn.q_proj", f"{at}.mlp.up_proj", "model.decoder.embed_tokens"):
        assert (plain(module), bits(module)) == (8.5, 16.0)


# --- a real graph


SIZES = Sizes("ssfsf", vocab_size=160, num_experts=6, top_k_experts=3, canvas_length=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bf16"), SIZES, dtype="bfloat16")


def multiplications(function: Any, *inputs: mx.array) -> Counter[str]:
    """FLOPs of every matrix product in the graph that MLX builds, attention's under "scores"."""
    nodes: list[dict[str, Any]] = []
    mx.export_function(nodes.append, function, *inputs)
    flops: Counter[str] = Counter()
    for node in nodes:
        if node.get("name") not in ("Matmul", "GatherMM"):
            continue
        (_, left, _), (_, right, _) = node["inputs"][:2]
        (_, shape, _) = node["outputs"][0]
        if left[-2:] == (1, SIZES.top_k_experts):  # the weighted sum of the experts' outputs
            continue
        items = 1
        for axis in shape:
            items *= axis
        kind = "scores" if len(shape) == 5 else "products"
        flops[kind] += 2 * items * right[-2]
    return flops


@pytest.mark.parametrize("length", [3, 30])
def test_counts_equal_the_graph_of_a_step(folder: Path, length: int) -> None:
    """In 16 bits, where the CPU leaves products to MLX; attention is spelled out there."""
    model = dg.load_model(folder)
    prefix = model.encode(list(range(length)))
    canvas, soft = mx.arange(12), mx.ones((1, 12, SIZES.hidden_size), mx.bfloat16)

    def run(canvas: mx.array, soft: mx.array) -> mx.array:
        logits = model.embedding.head(model.decode(canvas, prefix, soft))
        return model.embedding.soft(logits)

    counted = multiplications(run, canvas, soft)
    work = step_work(model.config, length, lambda module: 16.0)
    assert counted["products"] + counted["scores"] == pytest.approx(total(work).flops, rel=1e-12)
    assert counted["scores"] > 0


@pytest.mark.parametrize("length", [3, 30])
def test_counts_equal_the_graph_of_a_read(folder: Path, length: int) -> None:
    """Two canvases of 16 with three slots each, and five labels."""
    model = dg.load_model(folder)
    prefix = model.encode(list(range(length)))
    mx.eval(model.decode_many([[1] * 16] * 2, prefix), prefix.arrays())  # makes room
    labels = mx.arange(5)

    def run(canvases: mx.array) -> mx.array:
        hidden = model.decode_many([Unread(canvas) for canvas in canvases], prefix)
        rows = model.embedding.table.rows(labels, hidden.dtype)
        return hidden[:, :3].flatten(0, 1) @ rows.T

    counted = multiplications(run, mx.zeros((2, 16), mx.int32))
    work = read_work(
        model.config, length, lambda module: 16.0, canvases=2, width=16, slots=3, labels=5
    )
    assert counted["products"] + counted["scores"] == pytest.approx(total(work).flops, rel=1e-12)
    assert counted["scores"] > 0


def test_a_read_of_the_published_model(mixed_config: ModelConfig) -> None:
    """One question, 4 samples of 16 rows, by hand: a quarter of a step's FLOPs, no whole head."""
    bits = mixed(mixed_config)
    step = step_work(mixed_config, 1024, bits)
    read = read_work(mixed_config, 1024, bits, canvases=4, width=16, slots=1, labels=2)
    for part in (EXPERTS, DENSE_MLP, ROUTER):
        assert read[part].flops == pytest.approx(step[part].flops / 4, rel=1e-12)
    assert read[HEAD].flops == 2 * 4 * 2 * 2816
    assert step[HEAD].flops == 2 * 256 * 262_144 * 2816
    one = read_work(mixed_config, 1024, bits, canvases=1, width=16, slots=1, labels=2)
    assert read[EXPERTS].bytes < 1.5 * one[EXPERTS].bytes


def test_counts_equal_the_graph_of_a_commit(folder: Path) -> None:
    """Attention is left out: the CPU multiplies by keys that the mask then takes away."""
    model = dg.load_model(folder)
    prefix = model.encode(list(range(20)))
    mx.eval(model.decode(mx.arange(12), prefix), prefix.arrays())  # makes room

    def run(ids: mx.array) -> tuple[mx.array, ...]:
        x = model.embedding.lookup(ids[None])
        for layer, cache in zip(model.layers[:-1], prefix.layers[:-1], strict=True):
            x = layer.encode(x, cache, 20, ALL)
        return model.layers[-1].keys_and_values(x, 20)

    attention = scores(model.config, 12, 20, model.config.text.layers[:-1])
    work = encode_work(model.config, 12, 20, lambda module: 16.0)
    counted = multiplications(run, mx.arange(12))
    assert counted["products"] == pytest.approx(work.flops - attention, rel=1e-12)


@pytest.mark.parametrize("packing", [None, Packing("affine", 4, 32), Packing("mxfp4", 4, 32)])
def test_bytes_equal_those_in_the_files(tmp_path: Path, packing: Packing | None) -> None:
    """Every matrix of a folder, packed or not; all experts are hit."""
    sizes = Sizes(hidden_size=64, intermediate_size=96, moe_intermediate_size=32, canvas_length=512)
    folder = write_checkpoint(tmp_path / "dense", sizes, dtype="bfloat16")
    if packing:
        eight = Packing("affine", 8, 32)
        folder = quantise_folder(folder, tmp_path / "packed", packing, published(packing, eight))
    config, headers = read_config(folder), read_headers(folder)
    packed = packed_bits(StoredTensors(folder, config).packing, 2)
    work = step_work(config, 0, packed)
    matrices = {
        name: info.num_bytes
        for name, info in headers.items()
        if len(info.shape) > 1 and "encoder" not in name
    }
    twice = sum(size for name, size in matrices.items() if "embed_tokens" in name)
    assert total(work).weight_bytes == pytest.approx(sum(matrices.values()) + twice, rel=1e-6)
