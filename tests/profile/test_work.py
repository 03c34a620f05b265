"""FLOPs and bytes: the published model's table, and the shapes of a graph that MLX builds."""

import gzip
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.config import LayerConfig, ModelConfig, read_config
from mlx_diffgemma.checkpoint.shards import read_headers
from mlx_diffgemma.checkpoint.tensors import StoredTensors
from mlx_diffgemma.model.attention import ALL
from mlx_diffgemma.profile.roofline import CHIPS, bound, find_chip
from mlx_diffgemma.profile.work import (
    ATTENTION,
    DENSE_MLP,
    EXPERTS,
    HEAD,
    ROUTER,
    SELF_CONDITIONING,
    Work,
    encode_work,
    layer_matrices,
    packed_bits,
    step_work,
    total,
)

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def published_config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """google/diffusiongemma-26B-A4B-it."""
    folder = tmp_path_factory.mktemp("google")
    shutil.copy(DATA / "google-config.json", folder / "config.json")
    shutil.copy(DATA / "google-generation_config.json", folder / "generation_config.json")
    return read_config(folder)


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


BOUNDS = {
    "Apple M1": (974, 828),
    "Apple M1 Max": (239, 203),
    "Apple M2 Ultra": (93, 79),
    "Apple M3 Pro": (342, 291),
    "Apple M4 Pro": (275, 234),
    "Apple M4 Max": (138, 117),
    "Apple M5 Max": (38, 33),
}


@pytest.mark.parametrize("brand", BOUNDS)
def test_bounds_of_the_published_model(published_config: ModelConfig, brand: str) -> None:
    chip = find_chip(brand)
    assert chip is not None
    for dense_rows, expected in zip((None, 0), BOUNDS[brand], strict=True):
        work = step_work(published_config, 1024, lambda module: 4.5, dense_rows=dense_rows)
        assert bound(total(work), chip).compute_ms == pytest.approx(expected, rel=0.012)


def test_memory_bound_of_the_published_recipe(published_config: ModelConfig) -> None:
    """M4 Pro, 16.2 GB a step: 59 ms."""
    chip = find_chip("Apple M4 Pro")
    assert chip is not None
    assert bound(Work(0, 16.2e9), chip).memory_ms == pytest.approx(59, abs=0.5)


def test_the_published_recipe_reads_what_its_files_hold(tmp_path: Path) -> None:
    """4 bits for experts and self-conditioning, 8 for the rest: 16.2 GB a step."""
    raw = gzip.decompress((DATA / "mlx-community-4bit-config.json.gz").read_bytes())
    (tmp_path / "config.json").write_bytes(raw)
    config = read_config(tmp_path)
    work = total(step_work(config, 1024, packed_bits(config.quantization.of, 2)))
    assert work.weight_bytes / 1e9 == pytest.approx(16.2, abs=0.05)


def test_chips() -> None:
    half = find_chip("Apple M4 Pro", gpu_cores=10)
    assert half is not None
    assert (half.tflops, half.gpu_cores) == (pytest.approx(4.6), 10)
    slower, whole = find_chip("Apple M4 Max", 32), find_chip("Apple M4 Max")
    assert slower is not None
    assert whole is not None
    assert (slower.gigabytes_per_second, whole.gigabytes_per_second) == (410, 546)
    smaller = find_chip("Apple M5 Max", 32)
    assert smaller is not None
    assert (smaller.gigabytes_per_second, smaller.tflops) == (460, pytest.approx(66 * 32 / 40))
    assert find_chip("AMD EPYC-Milan Processor") is None
    assert find_chip("Apple M9 Pro") is None
    assert find_chip("") is None
    assert {chip.name for chip in CHIPS if chip.estimated} == {"M5", "M5 Pro", "M5 Max"}
    assert all(bound(Work(1e12, 1e9), chip).ms > 0 for chip in CHIPS)


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
