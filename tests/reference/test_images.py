"""Prompts with images against the reference run live: keys, values and logits of random networks.

What differs from seed to seed: kinds of layers, window, heads, the tower, one to three images of
any shape, and the text before, between and behind them. Tolerances are twice those of test_live.py
and more: features, right to 1e-5, bring a rounding of their own.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: nothing was compared with the reference")

from checkpoints import Sizes, edit_config, write_checkpoint
from compare import assert_close
from oracle import Oracle
from random_images import Shown, random_pixels, random_text, shown

import mlx_diffgemma as dg
from mlx_diffgemma.images.pixels import Pixels
from mlx_diffgemma.model.images import placed

pytestmark = pytest.mark.reference

KEYS_AND_VALUES, LOGITS = 5e-5, 1e-4
SEEDS = range(24)


@dataclass(frozen=True)
class Pair:
    """Both implementations of one checkpoint, and a prompt with images."""

    sizes: Sizes
    prompt: Shown
    oracle: Oracle
    model: dg.Model


def random_sizes(random: np.random.Generator, seed: int) -> Sizes:
    layers = str(random.choice(["f", "sf", "ff", "ssf", "fsf", "sfsf", "ssssf"]))
    kv_heads = int(random.choice([1, 2, 4]))
    tower = {
        "num_hidden_layers": int(random.integers(1, 4)),
        "num_attention_heads": int(random.choice([1, 2, 3])),
        "standardize": bool(random.integers(2)),
    }
    window = int(random.choice([2, 3, 6, 9, 16, 64]))
    return Sizes(
        layers,
        num_key_value_heads=kv_heads,
        num_global_key_value_heads=int(random.choice([1, 2])),
        sliding_window=window,
        vision=True,
        tower=tower,
        seed=seed,
    )


def random_prompt(random: np.random.Generator, sizes: Sizes, seed: int) -> Shown:
    parts: list[int | Pixels] = [int(random.integers(0, 9))]
    for number in range(random.integers(1, 4)):
        width, height = (int(side) for side in random.integers(1, 6, 2))
        parts += [random_pixels(width, height, 10 * seed + number), int(random.integers(1, 12))]
    return shown(sizes, parts if random.integers(3) else parts[:-1], seed)


@pytest.fixture(scope="module", params=SEEDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Every fourth checkpoint has causal images."""
    seed: int = request.param
    random = np.random.Generator(np.random.PCG64(seed))
    sizes = random_sizes(random, seed)
    folder = write_checkpoint(tmp_path_factory.mktemp("images"), sizes)
    if seed % 4 == 3:
        unsay = {"use_bidirectional_attention": None}
        edit_config(folder, lambda config: config["text_config"].update(unsay))
    return Pair(
        sizes,
        random_prompt(random, sizes, seed),
        Oracle(folder),
        dg.load_model(folder, dtype=mx.float32),
    )


def rgb(images: list[Pixels]) -> list[np.ndarray]:
    return [image.rgb for image in images]


def assert_same(pair: Pair, prefix: dg.Prefix, cache: object) -> None:
    """What both hold of every layer, and the logits of a canvas, also conditioned on themselves."""
    window = pair.sizes.sliding_window - 1
    for layer, ours in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        theirs = pair.oracle.keys_and_values(cache, layer)
        for what, a, b in zip(("keys", "values"), ours, theirs, strict=True):
            both = min(a.shape[2], b.shape[2])
            assert both >= min(prefix.length, window)
            a, b = np.array(a)[:, :, -both:], b[:, :, -both:]
            assert_close(a, b, KEYS_AND_VALUES, f"{what} of prompts with images")
    canvas = random_text(pair.sizes, pair.sizes.canvas_length, 5)
    processed, soft = None, None
    for what in ("logits behind images", "logits behind images, self-conditioned"):
        want = pair.oracle.logits(np.array(canvas), cache, processed)
        got = pair.model.logits(pair.model.decode(mx.array(canvas), prefix, soft=soft))[0]
        assert_close(got, want, LOGITS, what)
        processed = want / np.float32(0.8)
        soft = pair.model.soft_embedding(mx.array(processed)[None])


def test_one_pass_and_chunks(pair: Pair) -> None:
    prompt = pair.prompt
    cache = pair.oracle.encode(prompt.ids, images=rgb(prompt.images))
    for chunk in (None, 1, 4):
        prefix = pair.model.encode(prompt.ids, images=prompt.images, chunk=chunk)
        assert_same(pair, prefix, cache)


def test_a_prefix_goes_on_with_another_image(pair: Pair) -> None:
    """The second call as the reference's own second call on its cache, and as one pass of both."""
    more = shown(pair.sizes, (2, random_pixels(3, 2, 7), 4), 6)
    image_id, images = pair.model.config.image_token_id, pair.prompt.images
    prefix = pair.model.encode(pair.prompt.ids, images=images)
    cache = pair.oracle.encode(pair.prompt.ids, images=rgb(images))
    mx.eval(pair.model.decode(mx.array(random_text(pair.sizes, 8, 5)), prefix))
    prefix = pair.model.encode(more.ids, prefix, images=more.images)
    assert [run.stop - run.start for run in prefix.images] == [
        len(image.span) for image in placed(prefix.tokens, [*images, *more.images], image_id)
    ]
    assert_same(pair, prefix, pair.oracle.encode(more.ids, cache, rgb(more.images)))
    whole = pair.prompt + more
    assert_same(pair, prefix, pair.oracle.encode(whole.ids, images=rgb(whole.images)))


def test_a_canvas_is_text(pair: Pair) -> None:
    """An id of an image that the model wrote is a token like others."""
    written = [5, *[pair.sizes.image_ids[1]] * 3, 7]
    prefix = pair.model.encode(pair.prompt.ids, images=pair.prompt.images)
    cache = pair.oracle.encode(pair.prompt.ids, images=rgb(pair.prompt.images))
    prefix = pair.model.encode(written, prefix, images=None)
    assert_same(pair, prefix, pair.oracle.encode(written, cache))
