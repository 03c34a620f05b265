"""Images in a prompt: where they stand, that nothing cuts them, and what prefixes share of them."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import prefixes
import pytest
from checkpoints import Sizes, edit_config, random_tensors, write_checkpoint
from compare import assert_close
from facts import raises
from held import peak_of
from random_images import Shown, random_pixels, random_text, shown

import mlx_diffgemma as dg
from mlx_diffgemma.errors import CheckpointError, NumericsError, PromptError
from mlx_diffgemma.images.pixels import Pixels
from mlx_diffgemma.model.images import ImageRun, pieces, placed
from mlx_diffgemma.model.passes import Piece
from mlx_diffgemma.model.prefix import Prefix

SIZES = Sizes("fsf", sliding_window=6, vision=True)
IMAGE = SIZES.image_ids[1]
CANVAS = random_text(SIZES, SIZES.canvas_length, 9)
SAME = 1e-5  # float32, the same sums in another order

WIDE, SMALL, ONE = random_pixels(4, 3, 1), random_pixels(3, 1, 2), random_pixels(1, 1, 3)
PARTS: dict[str, Sequence[int | Pixels]] = {
    "within": (5, SMALL, 4),
    "longer than the window": (3, WIDE, 7),
    "at the start": (WIDE, 5),
    "at the end": (5, WIDE),
    "alone": (WIDE,),
    "several": (4, SMALL, 1, WIDE, 2, ONE, 9, SMALL, 3),
    "one soft token": (6, ONE, 6),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("images"), SIZES)


@pytest.fixture(scope="module")
def model(folder: Path) -> dg.Model:
    return dg.load_model(folder)


@pytest.fixture
def remembered(model: dg.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower looks at an image once in all tests that use this."""
    features = type(model).image_features

    def known(images: Sequence[Pixels]) -> list[mx.array]:
        for image in images:
            if image.digest not in FEATURES:
                (FEATURES[image.digest],) = features(model, [image])
        return [FEATURES[image.digest] for image in images]

    monkeypatch.setattr(model, "image_features", known)


FEATURES: dict[str, mx.array] = {}


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    """A checkpoint without vision."""
    return dg.load_model(write_checkpoint(tmp_path_factory.mktemp("blind"), Sizes("sf")))


def encoded(model: dg.Model, prompt: Shown, prefix: Prefix | None = None, **more: Any) -> Prefix:
    return model.encode(prompt.ids, prefix, images=prompt.images, **more)


def runs_of(prompt: Shown) -> list[ImageRun]:
    return [image.run(0) for image in placed(prompt.ids, prompt.images, IMAGE)]


def assert_same_prefix(got: Prefix, want: Prefix, model: dg.Model) -> None:
    prefixes.assert_same_prefix(got, want, model, CANVAS, SAME)


def stored(prefix: Prefix) -> list[np.ndarray]:
    return [np.array(array) for array in (*prefix.keys, *prefix.values)]


# --- runs and pieces


def test_each_image_has_its_run() -> None:
    prompt = shown(SIZES, PARTS["several"])
    spans = [image.span for image in placed(prompt.ids, prompt.images, IMAGE)]
    assert spans == [range(4, 7), range(8, 20), range(22, 23), range(32, 35)]
    assert placed([1, 2, 3], [], IMAGE) == []
    assert placed([1, IMAGE, 3], [], None) == []  # a checkpoint without ids of images


@pytest.mark.parametrize(
    ("parts", "images", "facts"),
    [
        ((2, SMALL, 2), [], f"1 run ... token id {IMAGE} ... position 2 ... 0 images"),
        ((2, 3), [SMALL], f"0 runs ... token id {IMAGE} ... 1 image"),
        ((2, SMALL, 2), [SMALL, SMALL], "1 run ... position 2 ... 2 images"),
        ((2, SMALL, 2, SMALL), [SMALL], "2 runs ... position 2 ... 1 image"),
        ((2, SMALL, SMALL, 2), [SMALL, SMALL], "1 run ... 2 images ... another token between"),
        ((2, SMALL, 2), [WIDE], "image 1 ... 3 placeholders at position 2 ... expected 12"),
        ((2, WIDE, 2), [SMALL], "image 1 ... 12 placeholders at position 2 ... expected 3"),
        ((2, SMALL, 2, ONE), [SMALL, SMALL], "image 2 ... 1 placeholder at position 7 ... 3"),
        ((SMALL, 1, ONE), [ONE, SMALL], "image 1 ... 3 placeholders at position 0 ... 1"),
    ],
)
def test_runs_and_images_that_differ_are_refused_and_nothing_is_encoded(
    model: dg.Model, parts: Sequence[int | Pixels], images: list[Pixels], facts: str
) -> None:
    ids = shown(SIZES, parts).ids
    prefix = model.encode([1, 2])
    for call in (
        lambda: model.encode(ids, prefix, images=images),
        lambda: model.encode_hidden(ids, prefix, images=images),
        lambda: dg.denoise(model, ids, images=images),
    ):
        with raises(PromptError, facts):
            call()
    assert (prefix.tokens, prefix.images) == ([1, 2], [])


def test_an_image_right_behind_one_of_the_prefix_is_refused(model: dg.Model) -> None:
    """As it is in one prompt: the reference takes both runs for one."""
    prefix = encoded(model, shown(SIZES, (3, SMALL)))
    with raises(PromptError, "first image ... the prefix ends with one ... another token"):
        encoded(model, shown(SIZES, (ONE, 2)), prefix)
    assert prefix.length == 6
    assert encoded(model, shown(SIZES, (1, ONE, 2)), prefix).length == 10


@pytest.mark.parametrize("seed", range(60))
def test_pieces_hold_every_index_once_and_cut_no_run(seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    for most in (1, 2, 5, 16, 1000):
        spans, at = list[range](), int(random.integers(0, 6))
        for _ in range(random.integers(0, 6)):
            spans.append(range(at, at + int(random.choice([1, 2, 7, 30]))))
            at = spans[-1].stop + int(random.choice([0, 1, 10]))
        length = at + int(random.integers(0, 5))
        cut = list(pieces(length, most, spans))
        assert [index for piece in cut for index in piece] == list(range(length))
        ends = {piece.stop for piece in cut}
        assert not any(end in range(span.start + 1, span.stop) for span in spans for end in ends)
        for piece in cut:
            assert len(piece) <= most or piece in spans
        for one, two in pairwise(cut):  # as long as can be
            behind = range(one.stop, one.start + most + 1)
            inside = any(span.start < end < span.stop for span in spans for end in behind)
            assert len(one) >= most or one in spans or inside or any(s == two for s in spans)


def test_progress_tells_of_whole_images(model: dg.Model) -> None:
    told: list[tuple[int, int]] = []
    prompt = shown(SIZES, (5, WIDE, 7))
    encoded(model, prompt, chunk=4, progress=lambda *at: told.append(at))
    assert told == [(4, 24), (5, 24), (17, 24), (21, 24), (24, 24)]


# --- other ways to the same prefix


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("chunk", [1, 2, 5, 11])
@pytest.mark.parametrize("parts", PARTS)
def test_chunks(model: dg.Model, parts: str, chunk: int) -> None:
    prompt = shown(SIZES, PARTS[parts])
    assert_same_prefix(encoded(model, prompt, chunk=chunk), encoded(model, prompt), model)


@pytest.mark.parametrize("most", [1, 200, 1500])
def test_blocks_of_attention(model: dg.Model, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    prompt = shown(SIZES, PARTS["several"])
    want = encoded(model, prompt)
    monkeypatch.setattr("mlx_diffgemma.model.scores.MOST_SCORES", most)
    got = encoded(model, prompt)
    for a, b in zip(stored(got), stored(want), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.usefixtures("remembered")
def test_extension(model: dg.Model) -> None:
    """In any two parts that cut no image, with a canvas denoised in between."""
    prompt = shown(SIZES, PARTS["several"])
    runs, want = runs_of(prompt), encoded(model, prompt)
    for cut in range(1, len(prompt.ids), 2):
        if any(run.start < cut < run.stop for run in runs):
            continue
        before = [image for image, run in zip(prompt.images, runs, strict=True) if run.stop <= cut]
        prefix = model.encode(prompt.ids[:cut], images=before)
        mx.eval(model.decode(CANVAS, prefix))
        model.encode(prompt.ids[cut:], prefix, images=prompt.images[len(before) :])
        assert_same_prefix(prefix, want, model)


def test_the_last_layer_whole(model: dg.Model) -> None:
    """encode_hidden extends the prefix as encode does."""
    prompt = shown(SIZES, PARTS["several"])
    prefix = model.new_prefix()
    hidden = model.encode_hidden(prompt.ids, prefix, images=prompt.images)
    assert hidden.shape == (1, len(prompt.ids), SIZES.hidden_size)
    assert_same_prefix(prefix, encoded(model, prompt), model)
    again = model.encode_hidden(prompt.ids, model.new_prefix(), images=prompt.images)
    assert mx.array_equal(hidden, again)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_last_layer_sees_whole_images_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bidirectional: bool
) -> None:
    """In a network of one layer the first soft token sees the last one where the config says so."""
    model = dg.load_model(write_checkpoint(tmp_path, replace(SIZES, layers="f")))
    model.config = replace(model.config, bidirectional_images=bidirectional)
    prompt, hidden = shown(SIZES, (3, WIDE, 2)), list[np.ndarray]()
    for last in (0.0, 1.0):
        features = mx.concatenate([mx.ones((11, 32)), mx.full((1, 32), last)])
        monkeypatch.setattr(model, "image_features", lambda images, given=features: [given])
        got = model.encode_hidden(prompt.ids, model.new_prefix(), images=prompt.images)
        hidden.append(np.array(got[0]))
    differing = np.flatnonzero(np.abs(hidden[0] - hidden[1]).max(axis=-1))
    assert differing.tolist() == list(range(3 if bidirectional else 14, 17))


def test_images_are_causal_where_the_config_says_so(folder: Path, tmp_path: Path) -> None:
    """Positions of an image that stand before a changed pixel's soft token stay as they are."""
    causal = dg.load_model(causal_copy(folder, tmp_path))
    assert not causal.config.bidirectional_images
    prompt = shown(SIZES, (3, WIDE, 2))
    fed = causal.image_features([WIDE])[0]
    x = causal.embedding.lookup(mx.array(prompt.ids)[None])
    x[:, 3:15] = fed
    # The same network with the features as a vocabulary of its own knows no images at all.
    plain = dg.load_model(causal_copy(folder, tmp_path / "plain"))
    plain.embedding = Fixed(plain.embedding, x)  # type: ignore[assignment]
    want = plain.encode(prompt.ids, images=None)
    got = encoded(causal, prompt)
    for a, b in zip(stored(got), stored(want), strict=True):
        assert_close(a, b, SAME, "causal")
    both = dg.load_model(folder)
    far = [
        np.abs(a - b).max() for a, b in zip(stored(encoded(both, prompt)), stored(got), strict=True)
    ]
    assert max(far) > 0.01


class Fixed:
    """An embedding whose lookup has one answer."""

    def __init__(self, inner: Any, answer: mx.array) -> None:
        self.inner, self.answer, self.dtype = inner, answer, inner.dtype

    def lookup(self, ids: mx.array) -> mx.array:
        assert ids.shape == self.answer.shape[:2]
        return self.answer


def causal_copy(folder: Path, to: Path) -> Path:
    """The same checkpoint with use_bidirectional_attention null."""
    write_checkpoint(to, SIZES, tensors=random_tensors(SIZES))
    return edit_config(
        to, lambda config: config["text_config"].update(use_bidirectional_attention=None)
    )


# --- what an image changes


def test_a_pixel_changes_nothing_before_its_image(model: dg.Model) -> None:
    prompt = shown(SIZES, (4, SMALL, 3, WIDE, 5))
    first = runs_of(prompt)[1].start
    rgb = WIDE.rgb.copy()
    rgb[-1, -1, 2] ^= 128
    changed = replace(WIDE, rgb=rgb)
    both = [encoded(model, Shown(prompt.ids, [SMALL, other])) for other in (WIDE, changed)]
    for ours, other in zip(*map(stored, both), strict=True):
        assert np.array_equal(ours[:, :, :first], other[:, :, :first])
    for ours, other in zip(both[0].keys[1:], both[1].keys[1:], strict=True):
        differing = np.abs(np.array(ours - other)).max(axis=(0, 1, 3)) > 0
        assert differing[first:].all()  # the whole of the image, and what comes after it


def test_shuffled_images_give_other_logits(model: dg.Model) -> None:
    one, other = random_pixels(2, 2, 1), random_pixels(2, 2, 2)
    prompt = shown(SIZES, (3, one, 2, other, 4))
    sides = [
        model.logits(model.decode(CANVAS, encoded(model, Shown(prompt.ids, images))))
        for images in ([one, other], [other, one])
    ]
    assert np.abs(np.array(sides[0] - sides[1])).max() > 0.01


def test_features_take_the_place_of_the_placeholders(model: dg.Model) -> None:
    features = model.image_features([SMALL, WIDE])
    assert [array.shape for array in features] == [(3, 32), (12, 32)]
    x = model._embedded(Piece(shown(SIZES, (2, SMALL, 1)).ids))
    assert model.image_features([]) == []
    prompt = shown(SIZES, (2, SMALL, 1))
    with_image = model._embedded(Piece(prompt.ids, placed(prompt.ids, prompt.images, IMAGE)))
    assert mx.array_equal(with_image[0, 2:5], features[0])
    assert mx.array_equal(with_image[0, :2], x[0, :2])
    assert mx.array_equal(with_image[0, 5:], x[0, 5:])


# --- what cannot be


@pytest.mark.parametrize(
    ("images", "facts"),
    [
        (SMALL, "images are given as a Pixels ... expected a list ... prepare_image"),
        ("photo.png", "images are given as a str ... expected a list ... prepare_image"),
        (np.zeros((48, 48, 3), np.uint8), "images are given as uint8 [48, 48, 3] ... a list"),
        (["photo.png"], "image 1 is a str ... Pixels ... prepare_image"),
        ([SMALL, np.zeros((48, 48, 3), np.uint8)], "image 2 is uint8 [48, 48, 3] ... Pixels"),
        ([None], "image 1 is a NoneType ... Pixels"),
    ],
)
def test_what_is_no_image_is_refused(model: dg.Model, images: Any, facts: str) -> None:
    for call in (
        lambda: model.encode([1, 2], images=images),
        lambda: model.image_features(images),
        lambda: dg.denoise(model, [1, 2], images=images),
    ):
        with raises(PromptError, facts):
            call()


def test_a_checkpoint_that_sees_no_images_says_so(blind: dg.Model) -> None:
    for call in (
        lambda: blind.encode([1, 2], images=[SMALL]),
        lambda: blind.image_features([]),
        lambda: dg.denoise(blind, [1, 2], images=[SMALL]),
    ):
        with raises(CheckpointError, "no vision tower ... leave them out"):
            call()
    assert blind.encode([1, IMAGE, 2]).length == 3


def test_a_tower_without_ids_of_images_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, SIZES)
    edit_config(tmp_path, lambda config: config.update(image_token_id=None))
    model = dg.load_model(tmp_path)
    with raises(CheckpointError, "config.json ... image_token_id"):
        model.encode([1, IMAGE], images=[ONE])


@pytest.mark.parametrize("where", ["layers.1.mlp.up_proj.linear", "patch_embedder.input_proj"])
def test_numbers_that_are_not_finite_name_the_tensor(tmp_path: Path, where: str) -> None:
    tensors = random_tensors(SIZES)
    (name,) = [name for name in tensors if name.endswith(f"{where}.weight") and "vision" in name]
    tensors[name] = tensors[name].copy()
    tensors[name].reshape(-1)[7] = np.nan
    model = dg.load_model(write_checkpoint(tmp_path, SIZES, tensors=tensors))
    prompt, prefix = shown(SIZES, (3, SMALL)), model.encode([1, 2])
    facts = f"features of an image are not finite ... {name} ... download or convert"
    for call in (
        lambda: model.image_features([SMALL]),
        lambda: encoded(model, prompt, prefix),
        lambda: list(dg.denoise(model, prompt.ids, images=prompt.images)),
    ):
        with raises(NumericsError, facts):
            call()
    assert prefix.tokens == [1, 2]
    assert encoded(model, Shown(random_text(SIZES, 5), []), prefix).length == 7


def test_an_image_token_may_be_text(model: dg.Model) -> None:
    """images=None: as a committed canvas is encoded, whose tokens the model chose itself."""
    ids = [4, IMAGE, IMAGE, 5, IMAGE]
    prefix = model.encode(ids, images=None)
    assert (prefix.tokens, prefix.images) == (ids, [])
    embedded = model.embedding.lookup(mx.array([ids]))
    assert mx.array_equal(model._embedded(Piece(ids)), embedded)
    assert prefix.shared(ids, [ImageRun(1, 3, "digest")]) == 1


# --- prefixes


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers so small that prompts of a few tokens are trimmed, saved and moved."""
    for name, value in (("ROLLBACK", 6), ("MARGIN", 3), ("STEP", 4)):
        monkeypatch.setattr(f"mlx_diffgemma.model.cache.{name}", value)


POOL = (SMALL, ONE, WIDE, random_pixels(3, 1, 4))


def random_parts(random: np.random.Generator, count: int) -> list[int | Pixels]:
    """Texts and images in turn, few of each kind, so that prompts have beginnings in common."""
    parts: list[int | Pixels] = []
    for _ in range(count):
        parts += [int(random.choice([1, 2, 4])), POOL[random.integers(4)]]
    return parts


def keyed(prompt: Shown) -> list[object]:
    """The ids with each image's replaced by its digest."""
    keys: list[object] = list(prompt.ids)
    for run in runs_of(prompt):
        keys[run.start : run.stop] = [run.digest] * (run.stop - run.start)
    return keys


@pytest.mark.parametrize("seed", range(100))
def test_what_prompts_share_is_text_and_whole_images(seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    one, other = (shown(SIZES, random_parts(random, 1 + seed % 4)) for _ in range(2))
    if seed % 3 == 0:  # the same beginning
        half = random_parts(random, 2)
        one, other = (shown(SIZES, half) + side for side in (one, other))
    if seed % 5 == 0:
        other = one + shown(SIZES, random_parts(random, 1))
    pairs = zip(keyed(one), keyed(other), strict=False)
    want = next((at for at, (a, b) in enumerate(pairs) if a != b), len(one.ids))
    for run in runs_of(one):
        want = run.start if run.start < want < run.stop else want
    prefix = Prefix([], list(one.ids), runs_of(one))
    assert prefix.shared(other.ids, runs_of(other)) == min(want, len(other.ids))


@pytest.mark.usefixtures("tight", "remembered")
@pytest.mark.parametrize("seed", range(14))
def test_any_history_equals_a_fresh_encode(model: dg.Model, seed: int) -> None:
    """Prompts one after the other on one prefix, each gone back to what it shares."""
    random = np.random.Generator(np.random.PCG64(seed))
    prefix, prompt = model.new_prefix(), Shown([], [])
    for call in range(6):
        if random.integers(3):
            prompt += shown(SIZES, random_parts(random, 1), call)
        else:
            prompt = shown(SIZES, random_parts(random, int(random.integers(1, 4))), seed % 2)
        shares = prefix.shared(prompt.ids, runs_of(prompt))
        reached = prefix.roll_back(shares)
        assert reached <= shares
        assert not any(run.start < reached < run.stop for run in runs_of(prompt))
        rest = [
            i for i, run in zip(prompt.images, runs_of(prompt), strict=True) if run.start >= reached
        ]
        model.encode(prompt.ids[reached:], prefix, images=rest, chunk=int(random.choice([3, 100])))
        if random.integers(2):
            prefix.mark()
        assert_same_prefix(prefix, encoded(model, prompt), model)


@pytest.mark.usefixtures("tight", "remembered")
def test_going_back_to_any_position(model: dg.Model) -> None:
    """To the position, or before the image that it lies in, or earlier where keys are gone."""
    prompt = shown(SIZES, (4, SMALL, 6, WIDE, 3, ONE, 8))
    runs, whole = runs_of(prompt), len(prompt.ids)
    edges = {edge + by for run in runs for edge in (run.start, run.stop) for by in (-1, 0, 1)}
    for position in sorted(edges | {0, whole - 7, whole - 6, whole - 2, whole}):
        prefix = encoded(model, prompt, chunk=5)
        reached = prefix.roll_back(position)
        assert reached == prefix.length <= position
        assert not any(run.start < reached < run.stop for run in runs)
        assert prefix.images == [run for run in runs if run.stop <= reached]
        if position >= whole - 6:
            assert reached == position
        rest = shown(SIZES, (2, SMALL, 3), 5)
        encoded(model, rest, prefix, chunk=4)
        before = [i for i, run in zip(prompt.images, runs, strict=True) if run.stop <= reached]
        assert_same_prefix(
            prefix, encoded(model, Shown(prompt.ids[:reached], before) + rest), model
        )


def test_an_interruption_leaves_no_image_behind() -> None:
    """Images are taken over before tokens: what has no tokens is forgotten at the next call."""
    prefix = Prefix([], [1, 2], [ImageRun(2, 5, "lost")])
    prefix.extend([3, IMAGE], [ImageRun(3, 4, "new")])
    assert prefix.images == [ImageRun(3, 4, "new")]


def test_a_second_question_about_an_image_encodes_the_new_tokens_alone(
    model: dg.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, positions = list[Pixels](), list[int]()
    features, piece = model.image_features, model._encode_piece

    def spied(images: Sequence[Pixels]) -> list[mx.array]:
        looked.extend(images)
        return features(images)

    def counted(ids: Sequence[int], *given: Any) -> None:
        positions.append(len(ids))
        piece(ids, *given)

    monkeypatch.setattr(model, "image_features", spied)
    monkeypatch.setattr(model, "_encode_piece", counted)
    settings = dg.Settings(max_tokens=8, max_denoising_steps=2, seed=1)
    first = shown(SIZES, (4, WIDE, 5))
    prefix = model.new_prefix()
    list(dg.denoise(model, first.ids, settings, images=first.images, prefix=prefix))
    assert (looked, sum(positions)) == ([WIDE], 21)
    second = first + shown(SIZES, (6,), 1) + shown(SIZES, (1, ONE, 3), 2)
    again = replace(WIDE)  # another object of the same content, as read again from a file
    assert prefix.roll_back(prefix.shared(second.ids, runs_of(second))) == 21
    list(dg.denoise(model, second.ids, settings, images=[again, ONE], prefix=prefix))
    assert looked == [WIDE, ONE]
    assert sum(positions) == len(second.ids)


def test_a_long_prompt_with_many_images_is_shared_whole() -> None:
    """261,900 tokens, 900 images."""
    ids, runs = list[int](), list[ImageRun]()
    for number in range(900):
        ids += [5] * 11
        runs.append(ImageRun(len(ids), len(ids) + 280, f"{number:064}"))
        ids += [IMAGE] * 280
    prefix = Prefix([], ids, runs)
    assert prefix.shared(tuple(ids), [replace(run) for run in runs]) == len(ids)
    for at in (0, 5, 4095, 4096, 4097, 100_000, len(ids) - 1):
        changed = [*ids[:at], 7, *ids[at + 1 :]]
        inside = (run.start for run in runs if run.start < at < run.stop)
        assert prefix.shared(changed, runs) == next(inside, at)
    assert prefix.shared(ids[:5000], runs) == prefix.shared([*ids[:5000], 9], runs) == 4958


# --- memory


def test_many_images_take_the_room_of_one(model: dg.Model) -> None:
    """The patches of twenty are 8.8 MB, twelve times their pixels; one image's exist at a time."""
    images = [random_pixels(4, 4, number) for number in range(20)]
    each = images[0].patches.nbytes
    parts = [part for image in images for part in (2, image)]
    prompt = shown(SIZES, parts)
    encoded(model, shown(SIZES, parts[:2]))  # what is made once
    tracemalloc.start()
    in_mlx = peak_of(lambda: encoded(model, prompt, chunk=64))
    in_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert in_numpy < 5 * each, (in_numpy, each)
    assert in_mlx < 5 * each, (in_mlx, each)
