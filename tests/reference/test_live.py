"""Keys, values and logits against the reference run live, over many small random checkpoints.

Tolerances are absolute, for float32 on a CPU; a careful port reaches 1.1e-5 for keys and values
and 3.5e-5 for logits on networks of this size. Deep ones with saturated attention amplify rounding:
they are held against the reference's own distance from float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: nothing was compared with the reference")

import torch
from checkpoints import Sizes, edit_config, uniform, write_checkpoint
from compare import assert_close
from oracle import Oracle

import mlx_diffgemma as dg

pytestmark = pytest.mark.reference

KEYS_AND_VALUES, LOGITS = 2e-5, 5e-5


@dataclass(frozen=True)
class Case:
    """A checkpoint, how it is written, and the length of the prompt that it reads."""

    sizes: Sizes
    prompt: int = 21
    written: dict[str, Any] = field(default_factory=dict)


def case(prompt: int = 21, written: dict[str, Any] | None = None, **sizes: Any) -> Case:
    return Case(Sizes(**sizes), prompt, written or {})


CASES = {
    "base": case(),
    "another seed": case(seed=1),
    "saturated attention": case(query_norm=1.0),
    "window larger than all": case(sliding_window=64),
    "window equal to the prompt": case(sliding_window=21),
    "window one short of the prompt": case(sliding_window=20),
    "smallest window": case(sliding_window=2, prompt=9),
    "long prompt, small window": case(sliding_window=5, prompt=60),
    "canvas longer than the window": case(canvas_length=24, sliding_window=6),
    "prompt of one": case(prompt=1),
    "prompt shorter than the canvas": case(prompt=3, canvas_length=12),
    "one expert": case(num_experts=1, top_k_experts=1),
    "one expert of eight": case(num_experts=8, top_k_experts=1),
    "three experts of eight": case(num_experts=8, top_k_experts=3),
    "all experts": case(num_experts=4, top_k_experts=4),
    "one head for keys": case(num_key_value_heads=1, num_global_key_value_heads=1),
    "as many keys as queries": case(num_key_value_heads=4, num_global_key_value_heads=4),
    "heads of full layers unsaid": case(num_global_key_value_heads=None),
    "three heads": case(num_attention_heads=3, num_key_value_heads=3),
    "five heads, wide": case(
        num_attention_heads=5, num_key_value_heads=1, hidden_size=40, head_dim=12
    ),
    "more heads than width": case(num_attention_heads=6, num_key_value_heads=3, head_dim=16),
    "half of the pairs turn": case(rotary_fraction=0.5),
    "all pairs turn": case(rotary_fraction=1.0),
    "a fraction of a pair": case(rotary_fraction=0.25, global_head_dim=12),
    "other angles": case(sliding_theta=500.0, full_theta=3e4),
    "full layers only": case(layers="fff"),
    "alternating": case(layers="sfsf"),
    "a group of six": case(layers="sssssf"),
    "seven layers": case(layers="fsssssf", query_norm=0.35),
    "per layer": case(spelling="per_layer"),
    "per layer, all inherited": case(
        spelling="per_layer", global_head_dim=8, num_global_key_value_heads=2
    ),
    "per layer, twelve padded keys": case(
        spelling="per_layer", layers="ssssfssssfsf", query_norm=0.2
    ),
    "softcap 5": case(final_logit_softcapping=5.0),
    "softcap 50": case(final_logit_softcapping=50.0),
    "softcap unsaid": case(final_logit_softcapping=None),
    "larger epsilon": case(rms_norm_eps=1e-3),
    "wide": case(
        hidden_size=64, vocab_size=600, intermediate_size=96, moe_intermediate_size=40, prompt=33
    ),
    "two slices of vocabulary": case(vocab_size=5000, hidden_size=32, layers="sf"),
    "strays, shards, vision": case(vision=True, written={"strays": True, "shards": 3}),
    "stored in bfloat16": case(written={"dtype": "bfloat16"}),
    "small initialiser": case(std=0.03, sharpness=20.0),
}


@dataclass(frozen=True)
class Pair:
    """Both implementations of one checkpoint, and tokens to try them on."""

    case: Case
    oracle: Oracle
    model: dg.Model

    def ids(self, count: int, key: int) -> list[int]:
        text_ids = self.case.sizes.text_ids
        return np.floor((uniform((count,), key) + 1) / 2 * text_ids).astype(int).tolist()

    @property
    def prompt(self) -> list[int]:
        return self.ids(self.case.prompt, 11)

    @property
    def canvas(self) -> list[int]:
        return self.ids(self.case.sizes.canvas_length, 12)


def build(folder: Path, case: Case) -> Pair:
    write_checkpoint(folder, case.sizes, **case.written)
    return Pair(case, Oracle(folder), dg.load_model(folder, dtype=mx.float32))


@pytest.fixture(scope="module", params=list(CASES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return build(tmp_path_factory.mktemp("live"), CASES[request.param])


def stored(prefix: dg.Prefix, cache: Any, oracle: Oracle) -> Iterator[tuple[str, Any, Any]]:
    """Keys and values of every layer, at the last positions that both hold."""
    for layer, ours in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        theirs = oracle.keys_and_values(cache, layer)
        for what, a, b in zip(("keys", "values"), ours, theirs, strict=True):
            both = min(a.shape[2], b.shape[2])
            window = oracle.model.config.text_config.sliding_window
            assert both >= min(prefix.length, window - 1)
            yield f"encoder {what}", np.array(a)[:, :, -both:], b[:, :, -both:]


def assert_prefix(prefix: dg.Prefix, cache: Any, oracle: Oracle) -> None:
    for what, ours, theirs in stored(prefix, cache, oracle):
        assert_close(ours, theirs, KEYS_AND_VALUES, what)


def logits(
    model: dg.Model, canvas: Sequence[int], prefix: dg.Prefix, processed: Any = None
) -> np.ndarray:
    soft = None if processed is None else model.soft_embedding(mx.array(processed)[None])
    return np.array(model.logits(model.decode(mx.array(canvas), prefix, soft=soft)))[0]


def assert_logits(pair: Pair, prefix: dg.Prefix, cache: Any, canvas: list[int]) -> None:
    """Without self-conditioning, and with what the first answer gives at the first temperature."""
    first = pair.oracle.logits(np.array(canvas), cache)
    assert_close(logits(pair.model, canvas, prefix), first, LOGITS, "logits")
    processed = first / np.float32(0.8)
    assert_close(
        logits(pair.model, canvas, prefix, processed),
        pair.oracle.logits(np.array(canvas), cache, processed),
        LOGITS,
        "logits, self-conditioned",
    )


def test_one_pass(pair: Pair) -> None:
    prefix, cache = pair.model.encode(pair.prompt), pair.oracle.encode(pair.prompt)
    assert_prefix(prefix, cache, pair.oracle)
    assert_logits(pair, prefix, cache, pair.canvas)


def test_chunks(pair: Pair) -> None:
    """A prompt in chunks of 7 and an extension in two pieces: as the reference's one pass."""
    tokens, cut = pair.prompt, pair.case.prompt // 3
    prefix = pair.model.encode(tokens[:cut], chunk=7) if cut else None
    prefix = pair.model.encode(tokens[cut:], prefix, chunk=7)
    cache = pair.oracle.encode(tokens)
    assert_prefix(prefix, cache, pair.oracle)
    assert_logits(pair, prefix, cache, pair.canvas)


def test_canvases(pair: Pair) -> None:
    """Three canvases, each committed behind the one before; the decoder looks in between."""
    prefix, cache = pair.model.encode(pair.prompt), pair.oracle.encode(pair.prompt)
    for number in range(3):
        canvas = pair.ids(pair.case.sizes.canvas_length, 20 + number)
        assert_logits(pair, prefix, cache, canvas)
        prefix = pair.model.encode(canvas, prefix)
        cache = pair.oracle.encode(canvas, cache)
        assert_prefix(prefix, cache, pair.oracle)


def test_per_expert_layout(tmp_path: Path) -> None:
    """transformers does not read experts one by one, so its folder has them fused."""
    sizes = Sizes(num_experts=3, top_k_experts=2)
    pair = build(tmp_path / "fused", Case(sizes))
    folder = write_checkpoint(tmp_path / "split", sizes, per_expert=True)
    split = Pair(pair.case, pair.oracle, dg.load_model(folder, dtype=mx.float32))
    prefix, cache = split.model.encode(pair.prompt), pair.oracle.encode(pair.prompt)
    assert_prefix(prefix, cache, pair.oracle)
    assert_logits(split, prefix, cache, pair.canvas)


def unsay_kinds(config: dict[str, Any]) -> None:
    del config["text_config"]["layer_types"]


def end_sliding(config: dict[str, Any]) -> None:
    config["text_config"]["layer_types"][-1] = "sliding_attention"


@pytest.mark.parametrize("change", [unsay_kinds, end_sliding])
def test_kinds_of_layers_by_default(tmp_path: Path, change: Any) -> None:
    """Every sixth layer is full when unsaid, and the last one always is."""
    case = Case(Sizes(layers="sssssff" if change is unsay_kinds else "ssf"))
    write_checkpoint(tmp_path, case.sizes)
    edit_config(tmp_path, change)
    pair = Pair(case, Oracle(tmp_path), dg.load_model(tmp_path, dtype=mx.float32))
    prefix, cache = pair.model.encode(pair.prompt), pair.oracle.encode(pair.prompt)
    assert_prefix(prefix, cache, pair.oracle)
    assert_logits(pair, prefix, cache, pair.canvas)


@pytest.mark.parametrize("seed", range(3))
def test_deep_and_saturated(tmp_path: Path, seed: int) -> None:
    """Twelve layers that amplify rounding: no further from float64 than twice the reference."""
    case = Case(Sizes(layers="ssssfssssfsf", query_norm=1.0, seed=seed))
    pair = build(tmp_path, case)
    exact = Oracle(tmp_path, torch.float64)
    prefix, cache = pair.model.encode(pair.prompt), pair.oracle.encode(pair.prompt)
    canvas = np.array(pair.canvas)
    truth = exact.logits(canvas, exact.encode(pair.prompt))
    theirs = np.sqrt(np.square(pair.oracle.logits(canvas, cache) - truth).mean())
    ours = np.sqrt(np.square(logits(pair.model, pair.canvas, prefix) - truth).mean())
    assert ours <= 2 * theirs, f"RMS {ours:.3g} from float64, the reference {theirs:.3g}"
