#!/usr/bin/env python3
"""Peak memory of a training step against the plan: at the published widths, and on small networks.

    python scripts/bench/training_memory.py real -o scripts/bench/results/NAME.json     # 12 GB
    python scripts/bench/training_memory.py small -o scripts/bench/results/NAME.json

real: a sliding and a full layer as published (hidden 2816, 128 experts, vocabulary 262,144) with
random float32 weights and adapters of rank 8, one example; numpy computes, as on every CPU. Its
arrays are none of MLX's: measured is the process (VmHWM of /proc, set back before the step), and
beside it MLX's peak.
small: MLX's operations alone, as on a GPU, evaluated when the whole gradient is traced; on the CPU
here, so that MLX's peak counts all there is.
"""

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import mlx.core as mx
import numpy as np
from checkpoints import Sizes, write_checkpoint  # type: ignore[import-not-found]
from report import environment, progress

from mlx_diffgemma import load_model
from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.finetune import plan as plans
from mlx_diffgemma.finetune.lora import initial
from mlx_diffgemma.finetune.objective import Batch, Objective
from mlx_diffgemma.finetune.parameters import TrainedAdapters
from mlx_diffgemma.machine.memory import peak_memory
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.model.weights import GivenTensors, build_ends, build_layer

TABLES = Path(__file__).parents[2] / "tests" / "model" / "data" / "published.json.gz"
CANVAS = 64  # positions, so that a step takes minutes
KEPT_LAYERS = {0: 0, 5: 1}  # of the published network -> here: the first sliding, the first full


def main() -> None:
    args = arguments()
    measured = real(args) if args.what == "real" else small()
    content = {**environment("mlx", "mlx-diffgemma", "numpy"), args.what: list(measured)}
    if args.out:
        args.out.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content[args.what], indent=1))


# --- real width


def real(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as name:
        folder = write_two_layers(Path(name))
        config = read_config(folder)
        load = plans.load_of(config, batch=1, length=args.length, checkpoint=args.grad_checkpoint)
        planned = plans.plan(folder, load)
    began = time.perf_counter()
    model = random_model(config)
    progress(f"made in {time.perf_counter() - began:.0f} s, {peak_memory() / 1e9:.2f} GB at most")
    mx.clear_cache()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    mx.reset_peak_memory()
    weights, resident = mx.get_active_memory(), resident_bytes()
    began = time.perf_counter()
    loss = step(model, load)
    yield {
        "loss": loss,
        "length": load.length,
        "canvas": config.canvas_length,
        "grad_checkpoint": load.checkpoint,
        "step_seconds": time.perf_counter() - began,
        "resident_before": resident,
        "process_peak": peak_memory(),
        "mlx_before": weights,
        "mlx_peak": mx.get_peak_memory(),
        "planned": planned.needed_bytes,
        "parts": {**planned.parts, **{f"or {k}": v for k, v in planned.instead.items()}},
        "process_over_plan": peak_memory() / planned.needed_bytes,
        "mlx_over_plan_without_merged": mx.get_peak_memory()
        / (planned.needed_bytes - planned.parts["merged weights"]),
    }


def write_two_layers(folder: Path) -> Path:
    """Headers of the published network with two of its layers, float32, and no numbers."""
    source = json.loads(gzip.decompress(TABLES.read_bytes()))["google"]
    config = source["config"]
    text = config["text_config"]
    text["layer_types"] = [text["layer_types"][n] for n in KEPT_LAYERS]
    text["num_hidden_layers"] = len(KEPT_LAYERS)
    config.pop("vision_config", None)
    config["dtype"] = text["dtype"] = "float32"
    config["canvas_length"] = CANVAS
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, (_, shape) in source["tensors"].items():
        if "vision" in name or (kept := renumbered(name)) is None:
            continue
        first, end = end, end + 4 * int(np.prod(shape, dtype=np.int64))
        header[kept] = {"dtype": "F32", "shape": shape, "data_offsets": [first, end]}
    content = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)
    return folder


def renumbered(name: str) -> str | None:
    """A tensor's name in the network of two layers; None for one that it has not."""
    before, at, behind = name.partition(".layers.")
    if not at:
        return name
    number, _, rest = behind.partition(".")
    return f"{before}{at}{KEPT_LAYERS[int(number)]}.{rest}" if int(number) in KEPT_LAYERS else None


class RandomTensors(Mapping[str, mx.array]):
    """A million random numbers over and over, for every tensor that is asked for."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.numbers = np.random.default_rng(0).random(1 << 20, np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, name: str) -> mx.array:
        shape = self.shapes[name]
        numbers = np.resize(self.numbers, shape)
        if len(shape) == 1:
            numbers += 0.5
        else:
            numbers -= 0.5
            numbers *= 3.4 * shape[-1] ** -0.5
        return mx.array(numbers)


def random_model(config: ModelConfig) -> Model:
    """The network of random numbers, made part by part: no two large copies at a time."""
    from mlx_diffgemma.checkpoint.layout import text_shapes
    from mlx_diffgemma.model.arrays import distinct_arrays

    tensors = GivenTensors(config, RandomTensors(text_shapes(config.text)))
    ends = build_ends(tensors)
    for array in distinct_arrays(list(ends)):
        mx.eval(array)
    layers = []
    for number in range(len(config.text.layers)):
        layers.append(build_layer(tensors, number))
        for array in distinct_arrays(layers[-1]):
            mx.eval(array)
        mx.clear_cache()
    embedding, conditioning, norm = ends
    return Model(config, embedding, layers, conditioning, norm)


def resident_bytes() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# --- a step


def step(model: Model, load: plans.Load, *, packed: bool = False, first_pass: bool = True) -> float:
    """Losses and gradients of one batch of random tokens."""
    assert load.modules is not None
    trained = TrainedAdapters(model, load.modules, 2.0, packed=packed)
    values = initial(model.config, load.modules, load.rank, 0)
    batch = random_batch(model.config, load, first_pass)

    def loss(values: dict[str, mx.array]) -> mx.array:
        return Objective(checkpoint=load.checkpoint)(trained, values, batch).total

    found, gradients = mx.value_and_grad(loss)(values)
    mx.eval(found, gradients)
    return float(found)


def random_batch(config: ModelConfig, load: plans.Load, first_pass: bool) -> Batch:
    rng, V, C = np.random.default_rng(0), config.text.vocab_size, config.canvas_length
    (B, L), M = (load.batch, load.length), load.batch * load.canvases
    ids = rng.integers(0, V, (B, L)).astype(np.int32)
    next_weights = np.full((B, L), 1 / (B * (L - 1)), np.float32)
    next_weights[:, -1] = 0
    return Batch(
        ids=ids,
        next_weights=next_weights,
        clean=np.repeat(ids[:, -C:], load.canvases, axis=0),
        noisy=rng.integers(0, V, (M, C)).astype(np.int32),
        starts=np.full(M, L - C, np.int32),
        conditioned=np.full(M, first_pass),
        levels=np.full(M, 0.5, np.float32),
        canvas_weights=np.full((M, C), 1 / (M * C), np.float32),
    )


# --- small networks, as on a GPU

SMALL: dict[str, dict[str, int]] = {
    "as it is": {},
    "wide": {"hidden_size": 256},
    "MLP": {"intermediate_size": 256},
    "experts": {"moe_intermediate_size": 128},
    "choices": {"top_k_experts": 4},
    "heads": {"num_attention_heads": 8},
}
LOADS = ((2, 128, 1, False), (2, 256, 1, False), (2, 128, 2, False), (2, 128, 1, True))


def small() -> Iterator[dict[str, Any]]:
    as_on_a_gpu()
    for layers in ("sf", "sfsfsf"):
        for name, changed in SMALL.items():
            for load in LOADS if not changed else LOADS[:1]:
                yield {"layers": layers, "network": name, **small_step(layers, changed, load)}


def as_on_a_gpu() -> None:
    """Nothing by numpy, from here on in this process; what is compiled there stays operations."""
    mx.disable_compile()
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_diffgemma.") and hasattr(module, "on_gpu"):
            module.on_gpu = lambda: True  # type: ignore[attr-defined]


def small_step(
    layers: str, changed: dict[str, int], given: tuple[int, int, int, bool]
) -> dict[str, Any]:
    batch, length, canvases, checkpoint = given
    sizes = small_sizes(layers, changed)
    with TemporaryDirectory() as name:
        folder = write_checkpoint(Path(name), sizes)
        model = load_model(folder)
        load = plans.load_of(
            model.config, batch=batch, length=length, canvases=canvases, checkpoint=checkpoint
        )
        planned = plans.plan(folder, load)
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        step(model, load, packed=True)
    beside = planned.needed_bytes - planned.parts["weights"] - planned.parts["moments"]
    measured = mx.get_peak_memory() - before
    progress(f"{layers}, {changed}, {given}: {measured:,} of {beside:,}")
    return {
        **dict(zip(("batch", "length", "canvases", "grad_checkpoint"), given, strict=True)),
        "measured": measured,
        "planned": beside,
        "measured_over_plan": measured / beside,
    }


def small_sizes(layers: str, changed: dict[str, int]) -> Sizes:
    """A network whose activations are far larger than its weights."""
    sizes: dict[str, Any] = {
        "vocab_size": 256,
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "head_dim": 32,
        "global_head_dim": 64,
        "intermediate_size": 128,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 64,
        "sliding_window": 64,
        "canvas_length": 64,
    }
    return Sizes(layers, **{**sizes, **changed})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("real", "small"))
    parser.add_argument("--length", type=int, default=192, help="tokens of the example [192]")
    parser.add_argument("--grad-checkpoint", action="store_true")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
