"""Mode ar against three oracles: the causal encoder with the tied head is a Gemma 4 text model.

transformers' encoder, head and softcap are the definition; transformers' Gemma4ForCausalLM and
mlx-lm's gemma4_text run the same weights from the folder that scripts/bench/as_gemma4.py writes.
Tolerances: three times the deviations seen of a careful port, float32 on a CPU, 48 tokens; the
reference is as far from its own float64 run. torch's two classes were the same to the bit on one
CPU and as far apart as any two ports on another, where torch sums products in another order.
Prompts stay clear of ties between experts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: mode ar was not compared with its oracles")

import torch
from checkpoints import (
    DTYPES,
    Packing,
    Sizes,
    dequantised_folder,
    published,
    quantise_folder,
    random_tensors,
    uniform,
    write_checkpoint,
)
from compare import assert_close
from gemma4 import F32, MlxLm, Transformers, as_gemma4_folder
from oracle import Oracle

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.autoregressive.write import write
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.text.chat import Message, render_prompt

pytestmark = pytest.mark.reference

LENGTH = 48
BEHIND = 10  # tokens that are computed behind a place, one way and another
WAYS = 3e-6  # of logits, between one way of computing them and another; 1.7e-6 seen
ROUTER_GAP = 1e-5  # ten times what rounding moves a score by in the first layers
RATIO = 1.5  # our RMS distance from float32 over the reference's own, in 16 bits


@dataclass(frozen=True)
class Case:
    """A checkpoint, and the deviations from the reference that tolerances are three times of.

    ours: of this engine and Gemma4ForCausalLM; mlx_lm: of mlx-lm.
    """

    sizes: Sizes
    ours: float
    mlx_lm: float


CASES = {
    "3 layers": Case(Sizes(), 5.6e-6, 6.1e-6),
    "12 layers": Case(
        Sizes(
            layers="sssssf" * 2,
            vocab_size=300,
            hidden_size=64,
            num_experts=16,
            top_k_experts=4,
            seed=3,
        ),
        1.9e-5,
        1.8e-5,
    ),
    "30 layers": Case(
        Sizes(
            layers="sssssf" * 5,
            vocab_size=512,
            hidden_size=64,
            head_dim=16,
            global_head_dim=32,
            num_experts=32,
            top_k_experts=8,
            sliding_window=16,
            residual=0.3,  # with 1 the reference itself leaves its float64 run
            query_norm=0.3,
            seed=5,
        ),
        1.7e-4,
        2.1e-4,
    ),
    "sharp": Case(
        Sizes(
            layers="sssssf",
            vocab_size=300,
            hidden_size=64,
            num_experts=16,
            top_k_experts=4,
            sharpness=6.0,
            seed=9,
        ),
        7.4e-5,
        1.1e-4,
    ),
}
WRITTEN = [(name, "launch") for name in CASES] + [("12 layers", "per_layer")]


def ids(sizes: Sizes, count: int, key: int) -> list[int]:
    return np.floor((uniform((count,), key, 61) + 1) / 2 * sizes.vocab_size).astype(int).tolist()


def clear_ids(oracle: Oracle, sizes: Sizes, count: int) -> list[int]:
    """The first random prompt on which no expert is chosen by rounding."""
    tried = (ids(sizes, count, key) for key in range(100))
    return next(tokens for tokens in tried if oracle.router_gap(tokens) > ROUTER_GAP)


@dataclass(frozen=True)
class Engines:
    """The three oracles and this engine on one checkpoint, and a prompt for them."""

    case: Case
    tokens: list[int]
    reference: Oracle
    gemma4: Transformers
    mlx_lm: MlxLm
    model: dg.Model


@pytest.fixture(scope="module", params=WRITTEN, ids=lambda pair: ", ".join(pair))
def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    name, spelling = request.param
    case, folder = CASES[name], tmp_path_factory.mktemp("ar") / "checkpoint"
    write_checkpoint(folder, replace(case.sizes, spelling=spelling))
    written = as_gemma4_folder(folder, folder.with_name("gemma4"))
    reference = Oracle(folder)
    tokens = clear_ids(reference, case.sizes, 3 * case.sizes.sliding_window)
    model = dg.load_model(folder)
    return Engines(case, tokens, reference, Transformers(written), MlxLm(written), model)


# --- every way in which the engine computes them: [L, V] of the tokens from `first` on -----------


def one_pass(model: dg.Model, tokens: list[int], first: int = 0) -> F32:
    return rows(model, model.encode_hidden(tokens, model.new_prefix()))[first:]


def in_chunks(model: dg.Model, tokens: list[int], first: int) -> F32:
    prefix, pieces = model.new_prefix(), []
    for at, size in zip(*chunks(len(tokens)), strict=True):
        pieces.append(rows(model, model.encode_hidden(tokens[at : at + size], prefix)))
    return np.concatenate(pieces)[first:]


def chunks(length: int) -> tuple[list[int], list[int]]:
    """Where pieces of 1, 5, 9, ... tokens begin, and how long they are."""
    begins, at, size = [], 0, 1
    while at < length:
        begins.append(at)
        at, size = at + size, size + 4
    return begins, [b - a for a, b in zip(begins, [*begins[1:], length], strict=True)]


def in_steps(model: dg.Model, tokens: list[int], first: int) -> F32:
    return stepped(model, tokens, model.new_prefix())[first:]


def after_encode(model: dg.Model, tokens: list[int], first: int) -> F32:
    return stepped(model, tokens[first:], model.encode(tokens[:first]))


def after_a_rollback(model: dg.Model, tokens: list[int], first: int) -> F32:
    prefix = model.encode([*tokens[:first], *wrong(model, tokens[first:])])
    assert prefix.roll_back(first) == first
    return stepped(model, tokens[first:], prefix)


def after_rolled_back_steps(model: dg.Model, tokens: list[int], first: int) -> F32:
    prefix = model.encode(tokens[:first])
    stepped(model, wrong(model, tokens[first:]), prefix)
    assert prefix.roll_back(first) == first
    return stepped(model, tokens[first:], prefix)


def after_rejected_drafts(model: dg.Model, tokens: list[int], first: int) -> F32:
    """Each token in one pass with eight wrong ones behind it, which are taken back."""
    prefix, found = model.encode(tokens[:first]), []
    for at in range(first, len(tokens)):
        draft = [tokens[at], *wrong(model, tokens[at : at + 1] * 8)]
        found.append(rows(model, model.encode_hidden(draft, prefix))[:1])
        assert prefix.roll_back(at + 1) == at + 1
    return np.concatenate(found)


WAYS_OF = (
    in_chunks,
    in_steps,
    after_encode,
    after_a_rollback,
    after_rolled_back_steps,
    after_rejected_drafts,
)


def rows(model: dg.Model, hidden: mx.array) -> F32:
    return np.array(model.logits(hidden))[0]


def stepped(model: dg.Model, tokens: list[int], prefix: dg.Prefix) -> F32:
    return np.concatenate([np.array(model.step(token, prefix)) for token in tokens])


def wrong(model: dg.Model, tokens: list[int]) -> list[int]:
    """As many tokens, none of them right."""
    vocab = model.config.text.vocab_size
    return [(token + 1 + number) % vocab for number, token in enumerate(tokens)]


# --- float32 -------------------------------------------------------------------------------------


def test_logits(engines: Engines) -> None:
    """Every length around the window, and the likeliest token of every position."""
    case = engines.case
    window = case.sizes.sliding_window
    for length in (window - 1, window, window + 1, 3 * window):
        tokens = engines.tokens[:length]
        ours = one_pass(engines.model, tokens)
        reference = engines.reference.next_logits(tokens)
        gemma4, mlx_lm = engines.gemma4.logits(tokens), engines.mlx_lm.logits(tokens)
        single = engines.mlx_lm.logits(tokens, one_by_one=True)
        layers = len(case.sizes.layers)
        for what, got, want, tolerance in (
            ("ours, encoder and head", ours, reference, case.ours),
            ("ours, Gemma4ForCausalLM", ours, gemma4, case.ours),
            ("ours, mlx-lm", ours, mlx_lm, case.mlx_lm),
            ("Gemma4ForCausalLM, encoder and head", gemma4, reference, case.ours),
            ("mlx-lm, encoder and head", mlx_lm, reference, case.mlx_lm),
            ("mlx-lm one by one, encoder and head", single, reference, case.mlx_lm),
        ):
            assert_close(got, want, 3 * tolerance, f"ar, {layers} layers: {what}")
            assert got.argmax(-1).tolist() == want.argmax(-1).tolist(), (what, length)


@pytest.mark.parametrize("way", WAYS_OF)
def test_ways(engines: Engines, way: Callable[[dg.Model, list[int], int], F32]) -> None:
    """Pieces, steps, rollbacks and rejected drafts, from within the window and from behind it."""
    sizes = engines.case.sizes
    whole = one_pass(engines.model, engines.tokens)
    for first in (1, sizes.sliding_window - 2, sizes.sliding_window + 1):
        end = first + BEHIND
        got = way(engines.model, engines.tokens[:end], first)
        what = f"ar, {len(sizes.layers)} layers: {way.__name__}, one pass"
        assert_close(got, whole[first:end], WAYS * sizes.sharpness, what)


@pytest.mark.parametrize("name", CASES)
def test_the_decoders_scalars_are_found_out(tmp_path: Path, name: str) -> None:
    """All else is shared: these tell the two passes apart, and the comparison must see it."""
    case = CASES[name]
    folder = write_checkpoint(tmp_path / "right", case.sizes)
    tensors = random_tensors(case.sizes)
    for scalar in [key for key in tensors if key.endswith("layer_scalar") and "encoder" in key]:
        tensors[scalar] = tensors[scalar.replace("model.encoder.language_model.", "model.decoder.")]
    spoilt = write_checkpoint(tmp_path / "spoilt", case.sizes, tensors=tensors)
    tokens = ids(case.sizes, LENGTH, 0)
    reference = Oracle(folder).next_logits(tokens)
    as_gemma4_folder(spoilt, tmp_path / "gemma4")
    for got in (
        one_pass(dg.load_model(spoilt), tokens),
        MlxLm(tmp_path / "gemma4").logits(tokens),
    ):
        assert np.abs(got - reference).max() > 1e4 * 3 * case.ours
        assert (got.argmax(-1) == reference.argmax(-1)).mean() < 0.7


# --- packed --------------------------------------------------------------------------------------

PACKED = Sizes(
    layers="sssssf",
    vocab_size=128,
    hidden_size=128,
    intermediate_size=64,
    moe_intermediate_size=64,
    head_dim=32,
    global_head_dim=64,
    num_experts=8,
    sliding_window=16,
)
PACKINGS = {
    "4bit": Packing("affine", 4, 64),
    "8bit": Packing("affine", 8, 64),
    "mxfp4": Packing("mxfp4", 4, 32),
    "mxfp8": Packing("mxfp8", 8, 32),
    "nvfp4": Packing("nvfp4", 4, 16),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_published_layouts(tmp_path: Path, name: str) -> None:
    """The experts at the recipe's bits, all else that is packed at 8: the same integers in both."""
    plain = write_checkpoint(tmp_path / "plain", PACKED)
    default = PACKINGS[name]
    folder = quantise_folder(plain, tmp_path / "packed", default, published(default), shards=2)
    reference = Oracle(dequantised_folder(folder, tmp_path / "dense"))
    tokens = clear_ids(reference, PACKED, LENGTH)
    model, mlx_lm = dg.load_model(folder), MlxLm(as_gemma4_folder(folder, tmp_path / "gemma4"))
    ours, theirs = one_pass(model, tokens), mlx_lm.logits(tokens)
    tolerance = 3 * CASES["12 layers"].ours
    assert_close(ours, theirs, tolerance, f"ar, {name}: ours, mlx-lm")
    assert_close(ours, reference.next_logits(tokens), tolerance, f"ar, {name}: ours, dequantised")
    steps = in_steps(model, tokens, 0)
    assert_close(steps, ours, WAYS, f"ar, {name}: in_steps, one pass")
    assert ours.argmax(-1).tolist() == theirs.argmax(-1).tolist()


# --- 16 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [one_pass, in_steps])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_distance_from_float32(
    tmp_path: Path, dtype: str, way: Callable[[dg.Model, list[int], int], F32]
) -> None:
    """Six layers, and every expert of every token: rounding cannot choose others."""
    ours, theirs = [], []
    for seed in range(6):
        sizes = replace(CASES["sharp"].sizes, sharpness=1.0, num_experts=4, seed=seed)
        folder = write_checkpoint(tmp_path / str(seed), sizes, dtype=dtype)
        tokens = ids(sizes, LENGTH, seed)
        exact = Oracle(folder).next_logits(tokens)
        model = dg.load_model(folder)
        assert model.dtype == DTYPES[dtype]
        ours.append(way(model, tokens, 0) - exact)
        theirs.append(Oracle(folder, getattr(torch, dtype)).next_logits(tokens) - exact)
    ratio = np.linalg.norm(np.stack(ours)) / np.linalg.norm(np.stack(theirs))
    assert_close(ratio, 0.0, RATIO, f"ar, {dtype}, {way.__name__}: RMS over the reference's own")


# --- whole answers -------------------------------------------------------------------------------

CONTRACTIVE = replace(
    CASES["12 layers"].sizes,
    residual=0.3,
    query_norm=0.3,
    max_position_embeddings=1024,
    canvas_length=64,
)
GREEDY = 300


def written(model: dg.Model, tokens: list[int], settings: dg.Settings) -> list[int]:
    """The tokens that the shipped loop commits."""
    frames = [frame for frame in write(model, tokens, settings) if frame.committed]
    return [token for frame in frames for token in frame.tokens.tolist()]


def test_greedy_tokens_are_those_of_mlx_lm(tmp_path: Path) -> None:
    """Through the shipped loop, five canvases long and past the window, on weights that settle."""
    folder = write_checkpoint(tmp_path / "checkpoint", CONTRACTIVE)
    mlx_lm = MlxLm(as_gemma4_folder(folder, tmp_path / "gemma4"))
    tokens = ids(CONTRACTIVE, 20, 0)
    theirs = mlx_lm.greedy(tokens, GREEDY)
    settings = dg.Settings(mode="ar", temperature=0, max_tokens=GREEDY)
    assert written(dg.load_model(folder), tokens, settings) == theirs
    assert len(set(theirs)) > 50  # no short loop


# --- tiny-chat: trained weights ------------------------------------------------------------------

FOLDER = embedded_folder("tiny-chat")
CHAT, CHAT_MLX_LM = 5e-5, 2.5e-4  # three times what was seen, logits to 25
QUESTIONS = ("What is the capital of Italy?", "Tell me a story about a bear")


@dataclass(frozen=True)
class Chat:
    """The shipped folder here and in mlx-lm, and its own numbers, unpacked, in transformers."""

    session: Session
    mlx_lm: MlxLm
    reference: Oracle
    gemma4: Transformers

    def prompt(self, *questions: str) -> list[int]:
        """The ids of the last question behind the others and their answers."""
        messages = [Message("user", questions[0])]
        for question in questions[1:]:
            messages += [Message("assistant", "17 + 25 = 42."), Message("user", question)]
        return list(render_prompt(self.session.tokenizer, messages).ids)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    assert FOLDER
    folder = tmp_path_factory.mktemp("chat")
    dense = dequantised_folder(FOLDER, folder / "dense")
    return Chat(
        dg.load("tiny-chat"),
        MlxLm(as_gemma4_folder(FOLDER, folder / "packed-gemma4")),
        Oracle(dense),
        Transformers(as_gemma4_folder(dense, folder / "dense-gemma4")),
    )


@pytest.mark.parametrize("turns", [1, 12], ids=["short", "past the window"])
def test_tiny_chat(chat: Chat, turns: int) -> None:
    tokens = chat.prompt(*["What is 17 + 25?"] * turns, QUESTIONS[1])
    assert (len(tokens) > 256) == (turns > 1)
    model = chat.session.model
    ours, mlx_lm = one_pass(model, tokens), chat.mlx_lm.logits(tokens)
    reference, gemma4 = chat.reference.next_logits(tokens), chat.gemma4.logits(tokens)
    for what, want, tolerance in (
        ("encoder and head", reference, CHAT),
        ("Gemma4ForCausalLM", gemma4, CHAT),
        ("mlx-lm", mlx_lm, CHAT_MLX_LM),
    ):
        assert_close(ours, want, tolerance, f"ar, tiny-chat: ours, {what}")
        assert ours.argmax(-1).tolist() == want.argmax(-1).tolist(), what
    behind = len(tokens) - BEHIND
    steps = after_encode(model, tokens, behind)
    assert_close(steps, ours[behind:], WAYS * 10, "ar, tiny-chat: after_encode, one pass")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("turns", [0, 12], ids=["alone", "behind others"])
def test_tiny_chats_answers(chat: Chat, question: str, turns: int) -> None:
    """Greedy, token for token to the stop id, in all three."""
    tokens = chat.prompt(*["What is 17 + 25?"] * turns, question)
    settings = dg.Settings(mode="ar", temperature=0, max_tokens=300)
    ours = written(chat.session.model, tokens, settings)
    assert ours[-1] in chat.session.model.config.stop_ids
    assert chat.gemma4.greedy(tokens, 300) == ours
    assert chat.mlx_lm.greedy(tokens, len(ours)) == ours
