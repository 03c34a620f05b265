"""The network against itself: other ways to the same prefix, other layouts of the same weights."""

import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import prefixes
import pytest
from checkpoints import (
    DTYPES,
    Packing,
    Sizes,
    dequantised_folder,
    edit_config,
    published,
    quantise_folder,
    random_tensors,
    uniform,
    write_checkpoint,
)
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.model.matrices import JoinedMatrix, PackedMatrix
from mlx_diffgemma.model.soft_gather import PRODUCT
from mlx_diffgemma.model.weights import load_network

SIZES = Sizes(layers="ssf", sliding_window=6)
SAME = 1e-5  # float32, the same sums in another order


def ids(count: int, *key: int) -> list[int]:
    return np.floor((uniform((count,), *key) + 1) / 2 * 131).astype(int).tolist()


PROMPT, CANVAS = ids(23, 1), mx.array(ids(8, 2))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    return dg.load_model(write_checkpoint(tmp_path_factory.mktemp("model"), SIZES))


def logits(model: dg.Model, prefix: dg.Prefix, soft: mx.array | None = None) -> mx.array:
    return model.logits(model.decode(CANVAS, prefix, soft=soft))[0]


def assert_same_prefix(got: dg.Prefix, want: dg.Prefix, model: dg.Model) -> None:
    prefixes.assert_same_prefix(got, want, model, CANVAS, SAME)


# --- the prefix ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", range(1, len(PROMPT) + 2))
def test_chunks(model: dg.Model, chunk: int) -> None:
    assert_same_prefix(model.encode(PROMPT, chunk=chunk), model.encode(PROMPT), model)


@pytest.mark.parametrize("first", range(1, len(PROMPT)))
def test_extension(model: dg.Model, first: int) -> None:
    """In two pieces, with a canvas denoised in between, which leaves no trace."""
    prefix = model.encode(PROMPT[:first])
    mx.eval(model.decode(CANVAS, prefix))
    extended = model.encode(PROMPT[first:], prefix)
    assert extended is prefix
    assert_same_prefix(prefix, model.encode(PROMPT), model)


def test_forms_of_tokens(model: dg.Model) -> None:
    """A list, [L] and [1, L] are the same prompt, [C] and [1, C] the same canvas."""
    prefix = model.encode(PROMPT)
    for tokens in (mx.array(PROMPT), mx.array(PROMPT)[None], tuple(PROMPT)):
        assert_same_prefix(model.encode(tokens), prefix, model)
    hidden = model.decode(CANVAS, prefix)
    assert hidden.shape == (1, 8, SIZES.hidden_size)
    assert mx.array_equal(hidden, model.decode(CANVAS[None], prefix))
    assert model.logits(hidden).shape == (1, 8, SIZES.vocab_size)
    assert model.logits(hidden).dtype == mx.float32


def test_shapes_of_a_prefix(model: dg.Model) -> None:
    prefix = model.encode(PROMPT)
    for layer in range(len(SIZES.layers)):
        head_dim, heads = SIZES.attention(layer)
        for stored in (prefix.keys[layer], prefix.values[layer]):
            assert (stored.shape[0], stored.shape[1], stored.shape[3]) == (1, heads, head_dim)
    assert prefix.keys[-1].shape[2] == prefix.length == len(PROMPT)


@pytest.mark.parametrize("wrong", [131, -1, 10**6])
def test_ids_outside_the_vocabulary(model: dg.Model, wrong: int) -> None:
    with pytest.raises(dg.PromptError, match=f"{wrong}.*0 to 130"):
        model.encode([1, 2, wrong])


def test_progress_is_told(model: dg.Model) -> None:
    told: list[tuple[int, int]] = []
    model.encode(PROMPT, chunk=10, progress=lambda *done: told.append(done))
    assert told == [(10, 23), (20, 23), (23, 23)]


def test_decoding_leaves_the_prefix(model: dg.Model) -> None:
    prefix = model.encode(PROMPT)
    before = [np.array(a) for a in (*prefix.keys, *prefix.values)]
    first = np.array(logits(model, prefix))
    for key in range(3, 6):
        mx.eval(model.decode(mx.array(ids(8, key)), prefix))
    after = [np.array(a) for a in (*prefix.keys, *prefix.values)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert np.array_equal(logits(model, prefix), first)


def test_decodes_in_turns(model: dg.Model) -> None:
    """Two canvases on one prefix and two prefixes, none evaluated before all are asked for."""
    other = ids(17, 7)
    canvases = [mx.array(ids(8, key)) for key in (3, 4)]
    prefixes = [model.encode(PROMPT), model.encode(other)]
    lazy = [model.decode(canvas, prefix) for canvas in canvases for prefix in prefixes]
    mx.eval(lazy[::-1])
    alone = [
        model.decode(canvas, model.encode(tokens))
        for canvas in canvases
        for tokens in (PROMPT, other)
    ]
    for a, b in zip(lazy, alone, strict=True):
        assert_close(a, b, SAME, "hidden")


def test_a_longer_canvas_than_before(model: dg.Model) -> None:
    prefix = model.encode(PROMPT)
    long = mx.array(ids(40, 9))
    mx.eval(model.decode(CANVAS, prefix))
    grown = model.decode(long, prefix)
    assert_close(grown, model.decode(long, model.encode(PROMPT)), SAME, "hidden")


# --- going back ----------------------------------------------------------------------------------


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers so small that prompts of a few tokens are trimmed, saved and moved."""
    for name, value in (("ROLLBACK", 6), ("MARGIN", 3), ("STEP", 4)):
        monkeypatch.setattr(f"mlx_diffgemma.model.cache.{name}", value)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("chunk", [pytest.param(4, marks=pytest.mark.slow), 100])
def test_going_back_and_on(model: dg.Model, chunk: int) -> None:
    """To every position of a conversation, and on with other tokens: as if encoded afresh."""
    whole, marked = ids(40, 11), 21
    for position in range(len(whole) + 1):
        prefix = model.encode(whole[:marked], chunk=chunk)
        prefix.mark()
        mx.eval(model.decode(CANVAS, prefix))
        model.encode(whole[marked:], prefix, chunk=chunk)
        mx.eval(model.decode(mx.array(ids(20, 13)), prefix))  # long enough for a new buffer
        reached = prefix.roll_back(position)
        assert reached == prefix.length <= position
        if position >= len(whole) - 6 or marked - 3 <= position <= marked:
            assert reached == position, "promised to be reachable"
        rest = ids(9, 12)
        model.encode(rest, prefix, chunk=chunk)
        assert_same_prefix(prefix, model.encode(whole[:reached] + rest), model)


@pytest.mark.usefixtures("tight")
def test_going_back_twice_past_a_mark(model: dg.Model) -> None:
    """Bug: the snapshot kept keys of tokens that a rollback had replaced, and gave them back."""
    prefix = model.encode(ids(11, 21))
    prefix.mark()
    model.encode(ids(22, 22), prefix, chunk=11)
    assert prefix.roll_back(10) == 10
    model.encode(ids(24, 23), prefix, chunk=12)
    reached = prefix.roll_back(11)
    fresh = model.encode((ids(11, 21)[:10] + ids(24, 23))[:reached])
    assert_same_prefix(prefix, fresh, model)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_calls(model: dg.Model, seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    prefix, longest = model.new_prefix(), 0
    for call in range(12):
        match random.integers(6):
            case 0 | 1 | 2:
                count, chunk = int(random.integers(1, 15)), int(random.choice([3, 100]))
                model.encode(ids(count, seed, call), prefix, chunk=chunk)
                longest = max(longest, prefix.length)
            case 3:
                mx.eval(model.decode(CANVAS, prefix))
            case 4:
                prefix.mark()
            case 5:
                near = prefix.marked - int(random.integers(4))
                anywhere = int(random.integers(prefix.length + 1))
                position = max(0, int(random.choice([near, anywhere])))
                reached = prefix.roll_back(position)
                assert reached <= position
                assert position < longest - 6 or reached == min(position, prefix.length)
                assert prefix.marked <= prefix.length
        if prefix.length:
            assert_same_prefix(prefix, model.encode(prefix.tokens), model)


def test_a_snapshot_lets_its_buffer_go(model: dg.Model, tight: None) -> None:
    """Bug: until something read it, the snapshot kept alive the buffer that it was cut from."""
    prefix = model.encode(PROMPT)
    prefix.mark()
    model.encode(ids(30, 31), prefix, chunk=10)
    saved = next(layer.saved for layer in prefix.layers if layer.saved)
    assert any(array is saved.keys for array in prefix.arrays())


# --- layouts and dtypes --------------------------------------------------------------------------


def outputs(model: dg.Model) -> list[mx.array]:
    """Keys, values and logits, without and with self-conditioning."""
    prefix = model.encode(PROMPT)
    first = logits(model, prefix)
    soft = model.soft_embedding(first[None] / 0.6)
    return [*prefix.keys, *prefix.values, first, logits(model, prefix, soft)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_experts_one_by_one(tmp_path: Path, dtype: str) -> None:
    """The same bits as the fused layout, in every dtype; so are shards and strays."""
    fused = write_checkpoint(tmp_path / "fused", SIZES, dtype=dtype)
    split = write_checkpoint(tmp_path / "split", SIZES, dtype=dtype, per_expert=True, shards=2)
    strays = write_checkpoint(tmp_path / "strays", SIZES, dtype=dtype, strays=True)
    want = outputs(dg.load_model(fused))
    for folder in (split, strays):
        got = outputs(dg.load_model(folder))
        assert all(mx.array_equal(a, b) for a, b in zip(got, want, strict=True))
    assert load_network(split).num_parameters == load_network(fused).num_parameters


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits(tmp_path: Path, dtype: str) -> None:
    """The checkpoint's dtype by default; activations and cache are in it, logits in float32."""
    folder = write_checkpoint(tmp_path, SIZES, dtype=dtype)
    model = dg.load_model(folder)
    assert model.dtype == DTYPES[dtype]
    got, want = outputs(model), outputs(dg.load_model(folder, dtype=mx.float32))
    assert {a.dtype for a in got[:-2]} == {DTYPES[dtype]}
    assert {a.dtype for a in got[-2:]} == {mx.float32}
    for a, b in zip(got, want, strict=True):
        assert np.isfinite(np.array(a.astype(mx.float32))).all()
        assert a.shape == b.shape
    settings = dg.Settings(max_tokens=16, seed=1, max_denoising_steps=3)
    *_, last = dg.denoise(model, PROMPT, settings)
    assert last.finish_reason == "length"


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("asked", DTYPES)
def test_dtypes_asked_for(tmp_path: Path, stored: str, asked: str) -> None:
    """Any of the three from any of the three; a config that names none means bfloat16."""
    folder = write_checkpoint(tmp_path, SIZES, dtype=stored)
    assert dg.load_model(folder, dtype=DTYPES[asked]).dtype == DTYPES[asked]
    edit_config(folder, lambda config: config.pop("dtype"))
    assert dg.load_model(folder).dtype == DTYPES[stored]  # text_config names it as well
    edit_config(folder, lambda config: config["text_config"].pop("dtype"))
    assert dg.load_model(folder).dtype == mx.bfloat16


# --- quantised folders ---------------------------------------------------------------------------

WIDE = Sizes(
    layers="sf",
    hidden_size=128,
    intermediate_size=128,
    moe_intermediate_size=128,
    head_dim=32,
    global_head_dim=32,
    sliding_window=6,
)
AFFINE = [Packing("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)]
OTHER = [Packing("mxfp4", 4, 32), Packing("mxfp8", 8, 32), Packing("nvfp4", 4, 16)]
QUANTISED = 1e-4  # float32; the affine modes come out equal on a CPU


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored in bfloat16, as published, so that scales and biases are."""
    return write_checkpoint(tmp_path_factory.mktemp("dense"), WIDE, dtype="bfloat16")


def assert_equals_its_own_numbers(folder: Path, tmp_path: Path) -> dg.Model:
    """A quantised folder computes what its dequantised numbers compute, in float32."""
    packed = dg.load_model(folder, dtype=mx.float32)
    plain = dg.load_model(dequantised_folder(folder, tmp_path / "plain"), dtype=mx.float32)
    for a, b in zip(outputs(packed), outputs(plain), strict=True):
        assert_close(a, b, QUANTISED, "quantised against dequantised")
    return packed


@pytest.mark.parametrize("recipe", ["published", "everything"])
@pytest.mark.parametrize(
    "packing", AFFINE + OTHER, ids=lambda p: f"{p.mode}-{p.bits}-{p.group_size}"
)
def test_quantised(dense: Path, tmp_path: Path, packing: Packing, recipe: str) -> None:
    """All modes, bits and groups; with what is kept at 8 bits, and without."""
    chosen = published(packing) if recipe == "published" else lambda module: packing
    folder = quantise_folder(dense, tmp_path / "packed", packing, chosen, shards=2)
    model = assert_equals_its_own_numbers(folder, tmp_path)
    assert isinstance(model.layers[0].after_attention.experts.down, PackedMatrix)
    assert isinstance(model.layers[0].attention.qkv, PackedMatrix)


def test_parts_that_cannot_be_fused(dense: Path, tmp_path: Path) -> None:
    """q, k and v, and gate and up, of different bits, modes or not quantised at all."""
    four, eight, none = Packing("affine", 4, 64), Packing("affine", 8, 64), None
    mixed = {
        "layers.0.self_attn.k_proj": eight,
        "layers.0.mlp.up_proj": none,
        "layers.1.self_attn.q_proj": Packing("mxfp4", 4, 32),
        "layers.1.mlp.gate_proj": Packing("affine", 4, 32),
        "self_conditioning.up_proj": eight,
        "layers.1.router.proj": none,
        "layers.0.experts.gate_up_proj": eight,
        "layers.1.experts.down_proj": none,
        "embed_tokens": Packing("nvfp4", 4, 16),
    }

    def recipe(module: str) -> Packing | None:
        return mixed.get(module.removeprefix("model.decoder."), four)

    folder = quantise_folder(dense, tmp_path / "packed", four, recipe)
    model = assert_equals_its_own_numbers(folder, tmp_path)
    for number, layer in enumerate(model.layers):
        assert isinstance(layer.attention.qkv, JoinedMatrix), number
        assert isinstance(layer.after_attention.mlp.gate_up, JoinedMatrix), number


def test_widths_that_no_group_divides(tmp_path: Path) -> None:
    """They stay as they are: 24 columns of the MLPs' down projections, 16 of the experts'."""
    four = Packing("affine", 4, 32)
    base = write_checkpoint(tmp_path / "base", SIZES)
    folder = quantise_folder(base, tmp_path / "packed", four, lambda module: four)
    model = assert_equals_its_own_numbers(folder, tmp_path)
    assert isinstance(model.layers[0].after_attention.mlp.gate_up, PackedMatrix)
    assert not isinstance(model.layers[0].after_attention.mlp.down, PackedMatrix)


@pytest.mark.parametrize("packing", [AFFINE[7], *OTHER], ids=lambda packing: packing.mode)
def test_quantised_in_sixteen_bits(dense: Path, tmp_path: Path, packing: Packing) -> None:
    """As published folders run: bfloat16 scales and activations. Numbers are held on a GPU only."""
    folder = quantise_folder(dense, tmp_path, packing, published(packing))
    model = dg.load_model(folder)
    assert model.dtype == mx.bfloat16
    for array in outputs(model):
        assert np.isfinite(np.array(array.astype(mx.float32))).all()


def test_parameters_are_counted_unpacked(dense: Path, tmp_path: Path) -> None:
    numbers = sum(array.size for array in random_tensors(WIDE).values())
    for place, packing in enumerate((AFFINE[0], *OTHER)):
        folder = quantise_folder(dense, tmp_path / str(place), packing, published(packing))
        assert load_network(folder).num_parameters == numbers


# --- the soft embedding from few tokens ----------------------------------------------------------

VOCAB = 5003  # no multiple of a block


def distributions() -> tuple[np.ndarray, np.ndarray]:
    """Logits from flat to peaked [R, V], and which of them no 64 tokens can carry."""
    steps = [0.0, 0.3, 3.0, 8.0, 20.0] * 7
    tails = -np.log((1 - uniform((len(steps), VOCAB), 61)) / 2)  # exponential: a few stand out
    rows = [step * tail for step, tail in zip(steps, tails, strict=True)]
    flat = [step < 1 for step in steps]
    for count in (1, 2, 10, 30, 64, 65, 100, 400):
        row = np.full(VOCAB, -40, np.float32)
        places = np.argsort(uniform((VOCAB,), 62, count))[:count]
        row[places] = 0.1 * uniform((count,), 63)
        rows.append(row)
        flat.append(count > 64)
    return np.array(rows), np.array(flat)


@pytest.mark.parametrize("table", ["dense", "packed"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gathered(tmp_path: Path, dtype: str, table: str) -> None:
    """A row that is said to suffice is the exact soft embedding to within one rounding of its size.

    To within 2 from a packed table: its rows are rounded when they are unpacked.
    """
    sizes = Sizes(layers="f", hidden_size=64, vocab_size=VOCAB, intermediate_size=32)
    folder = write_checkpoint(tmp_path / "dense", sizes, dtype=dtype)
    eight = Packing("affine", 8, 64)
    if table == "packed":
        folder = quantise_folder(folder, tmp_path / "packed", eight, published(eight))
    model = dg.load_model(folder)
    assert model.gathers
    rows, flat = distributions()
    processed = mx.array(rows).astype(model.dtype)
    mixed, _, tier = model.gathered_embedding(processed.astype(mx.float32))
    suffices = np.array(tier) != PRODUCT
    assert not suffices[flat].any()
    assert suffices.sum() >= 15

    stored = model.embedding.table
    if isinstance(stored, PackedMatrix):
        parts = {"weight": stored.weight, "scales": stored.scales, "biases": stored.biases}
        embedding = eight.unpack({name: part for name, part in parts.items() if part is not None})
    else:
        embedding = stored.weight.astype(mx.float32)
    shares = np.exp(np.array(processed.astype(mx.float32), np.float64))
    shares /= shares.sum(axis=-1, keepdims=True)
    want = shares @ np.array(embedding, np.float64) * 8.0  # sqrt(64)
    got = np.array(mixed.astype(mx.float32), np.float64)
    ulp = 2.0 ** (-8 if dtype == "bfloat16" else -11)
    distance = np.linalg.norm(got - want, axis=-1) / np.linalg.norm(want, axis=-1)
    roundings = distance[suffices] / ulp
    assert_close(roundings, 0 * roundings, 1.0 if table == "dense" else 2.0, "gathered, roundings")
    assert distance[flat].min() > 10 * ulp, "flat rows would have been wrong"


def test_gathering_needs_sixteen_bits_and_a_vocabulary(tmp_path: Path) -> None:
    large = write_checkpoint(tmp_path / "large", Sizes(layers="f", vocab_size=2081))
    small = write_checkpoint(tmp_path / "small", Sizes(layers="f", vocab_size=2080))
    assert dg.load_model(large, dtype=mx.bfloat16).gathers
    assert not dg.load_model(large, dtype=mx.float32).gathers
    assert not dg.load_model(small, dtype=mx.bfloat16).gathers


def test_soft_embedding(model: dg.Model) -> None:
    """softmax @ embedding * sqrt(H), and the table's own row where all the mass is on one token."""
    embedding = np.array(model.embedding.lookup(mx.arange(SIZES.vocab_size)), np.float64)
    processed = 6 * uniform((1, 8, SIZES.vocab_size), 81)
    shares = np.exp(processed.astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    assert_close(model.soft_embedding(mx.array(processed)), shares @ embedding, 1e-5, "soft")
    certain = mx.full((1, 1, SIZES.vocab_size), -1e4)
    certain[0, 0, 17] = 0.0
    assert_close(model.soft_embedding(certain)[0, 0], embedding[17], 1e-6, "soft, certain")
    assert math.isclose(model.embedding.scale.item(), math.sqrt(SIZES.hidden_size), rel_tol=1e-7)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_certain_embedding_is_the_soft_one_of_a_certain_distribution(
    tmp_path: Path, dtype: mx.Dtype
) -> None:
    model = dg.load_model(write_checkpoint(tmp_path, SIZES), dtype=dtype)
    tokens = mx.array([ids(8, 82)])
    logits = mx.where(mx.arange(SIZES.vocab_size) == tokens[..., None], 0.0, -1e4)
    certain = model.certain_embedding(tokens)
    assert certain.shape == (1, 8, SIZES.hidden_size)
    assert certain.dtype == dtype
    assert mx.array_equal(certain, model.soft_embedding(logits))


def test_the_first_step_is_that_of_a_zero_soft_embedding(model: dg.Model) -> None:
    """None skips the self-conditioning MLP, whose output is exactly 0 then, and keeps the norm."""
    prefix = model.encode(PROMPT)
    zero = mx.zeros((1, 8, SIZES.hidden_size))
    assert mx.array_equal(model.decode(CANVAS, prefix), model.decode(CANVAS, prefix, soft=zero))
