"""The training objective and its gradients against a transcription for transformers' own network.

The transcription follows google-deepmind/gemma `sft_model.py` and TRL `sft_diffusion_gemma.py`, an
example and a canvas at a time, without padding: the encoder reads the whole example for its loss,
and once more what stands before a canvas, of which the decoder reads the cache. Torch
differentiates all of it. Adapters are merged into its weights, W + scale * (A B)^T.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: nothing was compared with the reference")

import torch
from checkpoints import Sizes, load_tensors, write_checkpoint
from compare import assert_close
from example_batches import Shape, random_batch
from oracle import CACHE, Oracle, _padded
from torch.nn import functional
from transformers import DynamicCache

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.tensors import mlx_name
from mlx_diffgemma.finetune.lora import initial, select
from mlx_diffgemma.finetune.objective import Batch, Losses, Objective
from mlx_diffgemma.finetune.parameters import Trained, TrainedAdapters, TrainedWeights

pytestmark = pytest.mark.reference

LOSS, GRADIENTS = 1e-5, 1e-4  # of the loss, and of the largest number of each tensor's gradient
FLOOR = 0.03
SCALE, RANK = 2.0, 3
Tensors = dict[str, torch.Tensor]


# --- the objective in torch


def theirs(oracle: Oracle, batch: Batch, objective: Objective) -> tuple[Any, Any]:
    """The losses of decoder and encoder."""
    decoder, encoder = torch.zeros(()), torch.zeros(())
    each = len(batch.starts) // len(batch.ids)
    assert batch.lengths is not None
    for b, length in enumerate(batch.lengths):
        ids = batch.ids[b, :length]
        images = [image.pixels.rgb for row, image in batch.images if row == b]
        hidden, _ = encoded(oracle, ids, images)
        logits = capped(oracle, hidden[0, :-1])
        losses = functional.cross_entropy(
            logits, torch.tensor(ids[1:].astype(np.int64)), reduction="none"
        )
        encoder = encoder + (losses * torch.tensor(batch.next_weights[b, : length - 1])).sum()
        for m in range(b * each, (b + 1) * each):
            _, cache = encoded(oracle, ids[: batch.starts[m]], images)
            losses = canvas_losses(oracle, batch, m, cache, objective)
            weight = min(1 / (1 - float(batch.levels[m])), 100) if objective.reweighted else 1.0
            decoder = decoder + weight * (losses * torch.tensor(batch.canvas_weights[m])).sum()
    return decoder, encoder


def canvas_losses(
    oracle: Oracle, batch: Batch, m: int, cache: Any, objective: Objective
) -> torch.Tensor:
    noisy, clean = (torch.tensor(a[m].astype(np.int64)) for a in (batch.noisy, batch.clean))
    with torch.no_grad():
        first = oracle.model(decoder_input_ids=noisy[None], **{CACHE: cache}).logits
    logits = oracle.model(
        decoder_input_ids=noisy[None],
        self_conditioning_logits=first,
        self_conditioning_mask=torch.tensor([bool(batch.conditioned[m])]),
        **{CACHE: cache},
    ).logits[0]
    if objective.leave_one_out:
        t, K = float(batch.levels[m]), oracle.vocab_size
        logits = logits + np.log(1 + K * (1 - t) / t) * functional.one_hot(noisy, K)
    return functional.cross_entropy(logits, clean, reduction="none")


def encoded(oracle: Oracle, ids: Any, images: list[Any]) -> tuple[torch.Tensor, Any]:
    """The encoder's normed states [1, L, H] of ids [L], and the cache."""
    cache = DynamicCache(config=oracle.model.config.get_text_config(decoder=True))
    tokens, given = torch.tensor(ids.astype(np.int64))[None], {}
    if images:
        pixels, positions = _padded(images)
        given = {"pixel_values": pixels, "image_position_ids": positions}
        given["attention_mask"] = oracle._masks(tokens, cache)
    output = oracle.model.model.encoder(input_ids=tokens, **{CACHE: cache}, **given)
    return output.last_hidden_state, cache


def capped(oracle: Oracle, hidden: torch.Tensor) -> torch.Tensor:
    cap = oracle.model.config.text_config.final_logit_softcapping
    return torch.tanh(oracle.model.lm_head(hidden).float() / cap) * cap


def put(oracle: Oracle, tensors: Tensors) -> None:
    """Let tensors, which may be results, take the place of the weights of their names."""
    model = oracle.model
    named = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    for name, tensor in tensors.items():
        old = named[name]
        for module in list(model.modules()):
            for kind in (module._parameters, module._buffers, vars(module)):
                if isinstance(module, torch.nn.Embedding):
                    module.padding_idx = None  # which has no gradient, whatever stands there
                for own in [key for key, value in kind.items() if value is old]:
                    del kind[own]
                    vars(module)[own] = tensor


@contextmanager
def in_double() -> Iterator[None]:
    """Everything in float64, what the reference widens to float32 too: its own rounding would be
    as large as ours."""
    softmax = torch.Tensor.softmax

    def wide(*args: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        return softmax(*args, dtype=torch.float64 if dtype else None, **kwargs)

    with (
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
        mock.patch.object(torch.Tensor, "softmax", wide),
    ):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


# --- both on one checkpoint


@dataclass(frozen=True)
class Pair:
    folder: Path
    sizes: Sizes
    weights: Mapping[str, mx.array]  # of the text network, by their names in the folder

    def weights_compared(self, batch: Batch, objective: Objective) -> None:
        """All weights are variables."""
        values = {mlx_name(name): array for name, array in self.weights.items()}
        model = dg.load_model(self.folder) if self.sizes.vision else None
        ours = TrainedWeights(read_config(self.folder), tuple(values), model)
        leaves = {name: leaf(array) for name, array in self.weights.items()}
        found = self._compare(ours, values, batch, objective, leaves)
        assert_gradients({name: found[mlx_name(name)] for name in leaves}, leaves, "weights")

    def adapters_compared(self, batch: Batch, objective: Objective, packed: bool) -> None:
        """Adapters on every matrix are variables, with a b that is not 0."""
        config = read_config(self.folder)
        modules = select(config, ["all"])
        values = initial(config, modules, RANK, 1)
        for number, name in enumerate(values):
            key = mx.random.key(number)
            values[name] = values[name] + 0.05 * mx.random.normal(values[name].shape, key=key)
        ours = TrainedAdapters(dg.load_model(self.folder), modules, SCALE, packed=packed)
        parts = {name: leaf(array) for name, array in values.items()}
        merged = {}
        for module in modules:
            name = module if module in self.weights else f"{module}.weight"
            product = parts[f"{module}.lora_a"] @ parts[f"{module}.lora_b"]
            merged[name] = tensor_of(self.weights[name]) + SCALE * product.swapaxes(-1, -2)
        found = self._compare(ours, values, batch, objective, merged)
        assert_gradients(found, parts, "adapters")

    def _compare(
        self,
        trained: Trained,
        values: Mapping[str, mx.array],
        batch: Batch,
        objective: Objective,
        tensors: Tensors,
    ) -> dict[str, mx.array]:
        """The losses are equal -> our gradients; those of torch are in its leaves."""
        with in_double():
            oracle = Oracle(self.folder, torch.float64)
            put(oracle, tensors)
            decoder, encoder = theirs(oracle, batch, objective)
            (decoder + encoder).backward()
        losses, gradients = differentiated(trained, values, batch, objective)
        assert_loss(losses.decoder, decoder, "loss of the decoder")
        assert_loss(losses.encoder, encoder, "loss of the encoder")
        assert_loss(losses.total, decoder + encoder, "loss")
        return gradients


def differentiated(
    trained: Trained, values: Mapping[str, mx.array], batch: Batch, objective: Objective
) -> tuple[Losses, dict[str, mx.array]]:
    losses = None

    def total(values: dict[str, mx.array]) -> mx.array:
        nonlocal losses
        losses = objective(trained, values, batch)
        return losses.total

    gradients = mx.grad(total)(dict(values))
    mx.eval(losses, gradients)
    assert losses is not None
    return losses, gradients


def leaf(array: mx.array) -> torch.Tensor:
    return tensor_of(array).requires_grad_(True)


def tensor_of(array: mx.array) -> torch.Tensor:
    return torch.tensor(np.array(array).astype(np.float64))


def assert_loss(got: mx.array, want: torch.Tensor, what: str) -> None:
    theirs = want.detach().numpy()
    size = max(float(theirs), 1.0)
    assert_close(np.array(got) / size, theirs / size, LOSS, f"{what}, relative")


def assert_gradients(found: Mapping[str, mx.array], leaves: Tensors, kind: str) -> None:
    """Each gradient is right to a share of its largest number, or of FLOOR of the largest of all.

    A layer's scalar has one number, a sum of many that cancel: next to 0 where a norm takes it away.
    """
    theirs = {
        name: np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        for name, tensor in leaves.items()
    }
    largest = max(float(np.abs(one).max()) for one in theirs.values())
    for name, want in sorted(theirs.items()):
        size = max(float(np.abs(want).max()), FLOOR * largest)
        what = f"gradient of {kind}, relative"
        try:
            assert_close(np.array(found[name]) / size, want / size, GRADIENTS, what)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}, of {size:.3g} and {largest:.3g}") from None


# --- cases: what a network and a batch have, by a seed

SEEDS = range(12)
OBJECTIVES = (
    Objective(),
    Objective(leave_one_out=True),
    Objective(reweighted=True),
    Objective(checkpoint=True),
)


def random_sizes(random: np.random.Generator, seed: int) -> Sizes:
    """Windows shorter than the prompt and longer; one or several heads to a key-value head."""
    heads = int(random.choice([2, 4]))
    return Sizes(
        str(random.choice(["f", "sf", "ssf", "fsf", "sfsf"])),
        num_attention_heads=heads,
        num_key_value_heads=int(random.choice([1, 2, heads])),
        num_global_key_value_heads=int(random.choice([1, 2])),
        sliding_window=int(random.choice([2, 4, 8, 64])),
        canvas_length=int(random.choice([4, 8])),
        vision=seed % 3 == 2,
        query_norm=0.3,  # sharper attention makes 1e-4 of what float32 rounds
        seed=seed,
    )


def random_shape(random: np.random.Generator, sizes: Sizes) -> Shape:
    count = int(random.integers(1, 4))
    return Shape(
        tuple(int(n) for n in random.integers(1, 14, count)),
        tuple(int(n) for n in random.integers(1, 4, count)),
        each=int(random.integers(1, 4)),
        conditioned=float(random.choice([0.0, 0.5, 1.0])),
        mask_prompt=bool(random.integers(2)),
        images=sizes.vision,
    )


@pytest.fixture(scope="module", params=SEEDS)
def case(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Batch, Objective]:
    seed: int = request.param
    random = np.random.Generator(np.random.PCG64(seed))
    sizes = random_sizes(random, seed)
    folder = write_checkpoint(tmp_path_factory.mktemp("objective"), sizes)
    weights = {name: a for name, a in load_tensors(folder).items() if "vision" not in name}
    batch = random_batch(sizes, random_shape(random, sizes), seed)
    return Pair(folder, sizes, weights), batch, OBJECTIVES[seed % len(OBJECTIVES)]


def test_all_weights(case: tuple[Pair, Batch, Objective]) -> None:
    pair, batch, objective = case
    pair.weights_compared(batch, objective)


@pytest.mark.parametrize("packed", [False, True], ids=["by numpy", "as stored"])
def test_adapters(case: tuple[Pair, Batch, Objective], packed: bool) -> None:
    pair, batch, objective = case
    pair.adapters_compared(batch, objective, packed)
