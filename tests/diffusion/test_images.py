"""The loops with images: a prompt has them, a canvas or a template never does."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from facts import raises
from fake_model import CertainModel, FakeModel, answering, tiny_config
from random_images import Shown, random_pixels, shown

import mlx_diffgemma as dg
from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.diffusion.infill import fill
from mlx_diffgemma.diffusion.template import TokenTemplate
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.images.pixels import Pixels
from mlx_diffgemma.model.images import ImageRun, placed
from mlx_diffgemma.model.prefix import Prefix

IMAGE = 20  # of a vocabulary of 40
END, PAD = 30, 31
ONE, TWO, OTHER = random_pixels(2, 1, 1), random_pixels(3, 1, 2), random_pixels(2, 1, 3)
PROMPT = [3, IMAGE, IMAGE, 4, IMAGE, IMAGE, IMAGE, 5]
QUICK = Settings(max_tokens=12, max_denoising_steps=2)

Loop = Callable[..., Iterator[Any]]


def scripted(script: list[int]) -> CertainModel:
    return CertainModel(tiny_config(image_id=IMAGE), answering(len(PROMPT), script))


def filling(model: FakeModel, prompt: list[int], **more: Any) -> Iterator[Any]:
    template = TokenTemplate(((7,), ()), (2,), (END,), PAD, frozenset())
    return fill(model, prompt, template, QUICK, **more)  # type: ignore[arg-type]


def answer(model: FakeModel, prompt: list[int], **more: Any) -> Iterator[Any]:
    return denoise(model, prompt, QUICK, **more)  # type: ignore[arg-type]


BOTH = pytest.mark.parametrize("loop", [answer, filling])


def test_images_are_the_prompts_and_canvases_are_text() -> None:
    """An id of an image that the model writes itself is a token like others."""
    script = [10, IMAGE, IMAGE, IMAGE, 11, IMAGE, IMAGE, 12, 13, 14, 15, 16]
    model, prefix = scripted(script), None
    prefix = model.new_prefix()
    frames = list(answer(model, PROMPT, images=[ONE, TWO], prefix=prefix))
    written = [token for frame in frames if frame.committed for token in frame.tokens.tolist()]
    assert written == script
    assert model.asked("encode") == [PROMPT, script[:6]]
    assert model.asked("images") == [[ONE, TWO], None]
    assert prefix.images == [ImageRun(1, 3, ONE.digest), ImageRun(4, 7, TWO.digest)]


def test_what_the_model_wrote_is_never_shared_with_an_image() -> None:
    """The next prompt has an image where the answer had its ids: it is encoded anew from there."""
    model = scripted([10, IMAGE, IMAGE, 11, 12, 13])
    prefix = model.new_prefix()
    list(answer(model, PROMPT, images=[ONE, TWO], prefix=prefix))
    after = [*PROMPT, 10, IMAGE, IMAGE, 11]
    runs = [image.run(0) for image in placed(after, [ONE, TWO, OTHER], IMAGE)]
    assert prefix.length == len(PROMPT) + 6
    assert prefix.shared(after, runs) == len(PROMPT) + 1
    with raises(PromptError, "the prefix holds other tokens or images"):
        answer(model, after, images=[ONE, TWO, OTHER], prefix=prefix)


@BOTH
def test_what_a_prefix_holds_is_not_encoded_again(loop: Loop) -> None:
    model = scripted([])
    prefix = model.encode(PROMPT[:4], images=[ONE])
    list(loop(model, PROMPT, images=[ONE, TWO], prefix=prefix))
    assert model.asked("encode")[1] == PROMPT[4:]
    assert model.asked("images")[1] == [TWO]
    assert [run.digest for run in prefix.images] == [ONE.digest, TWO.digest]


@BOTH
@pytest.mark.parametrize(
    ("images", "facts"),
    [
        ([OTHER, TWO], "the prefix holds other tokens or images ... give an empty one"),
        ([], "2 runs ... token id 20 ... 0 images"),
        ([ONE], "2 runs ... token id 20 ... 1 image"),
        ([TWO, ONE], "image 1 ... 2 placeholders ... expected 3"),
    ],
)
def test_other_images_are_refused_at_the_call(loop: Loop, images: list[Pixels], facts: str) -> None:
    model = scripted([])
    prefix = model.encode(PROMPT[:4], images=[ONE])
    with raises(PromptError, facts):
        loop(model, PROMPT, images=images, prefix=prefix)
    assert len(model.asked("encode")) == 1


def test_a_prefix_with_an_image_is_none_of_a_text() -> None:
    """Nor the other way round, though the ids are the same."""
    model = scripted([])
    text = model.encode(PROMPT[:4], images=None)
    with raises(PromptError, "the prefix holds other tokens or images"):
        answer(model, PROMPT, images=[ONE, TWO], prefix=text)


def test_a_template_is_text() -> None:
    """Its ids of images too: those encoded in front of the first canvas, and those settled."""
    before = (IMAGE, 8, *[9] * 9, IMAGE)
    template = TokenTemplate((before, (IMAGE, 7), ()), (2, 1), (END,), PAD, frozenset())
    model = CertainModel(tiny_config(image_id=IMAGE), answering(len(PROMPT), [], filler=IMAGE))
    told: list[tuple[int, int]] = []
    frames = list(
        fill(
            model,  # type: ignore[arg-type]
            PROMPT,
            template,
            QUICK,
            images=[ONE, TWO],
            progress=lambda *at: told.append(at),
        )
    )
    settled = [token for frame in frames if frame.committed for token in frame.tokens.tolist()]
    assert settled == [*before, IMAGE, IMAGE, IMAGE, 7, IMAGE]
    first, *others = model.asked("encode")
    assert first == PROMPT
    assert others[0] == settled[: len(others[0])]
    assert model.asked("images") == [[ONE, TWO], *[None] * len(others)]
    assert told == [(8, 8)]


# --- a whole network

SIZES = Sizes("fsf", sliding_window=5, vision=True)
SETTINGS = dg.Settings(max_tokens=16, max_denoising_steps=3, seed=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    return dg.load_model(write_checkpoint(tmp_path_factory.mktemp("images"), SIZES))


def written(model: dg.Model, prompt: Shown, prefix: Prefix | None = None) -> list[np.ndarray]:
    """Tokens and entropies of every frame."""
    frames = dg.denoise(model, prompt.ids, SETTINGS, images=prompt.images, prefix=prefix)
    return [part for frame in frames for part in (frame.tokens, frame.entropies)]


def test_a_prefix_with_images_gives_the_answer_of_none(model: dg.Model) -> None:
    """Of an earlier prompt with an answer behind it, gone back to what both share."""
    begin = shown(SIZES, (4, random_pixels(4, 2, 5), 3))
    first = begin + shown(SIZES, (2,), 1)
    second = begin + shown(SIZES, (5, random_pixels(2, 2, 6), 1), 2)
    prefix = model.new_prefix()
    written(model, first, prefix)
    runs = [image.run(0) for image in placed(second.ids, second.images, SIZES.image_ids[1])]
    assert prefix.roll_back(prefix.shared(second.ids, runs)) == len(begin.ids)
    for got, want in zip(written(model, second, prefix), written(model, second), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_an_answer_depends_on_its_image(model: dg.Model) -> None:
    parts = [(4, random_pixels(2, 2, key), 3) for key in (5, 6)]
    one, other = (written(model, shown(SIZES, part)) for part in parts)
    assert not np.array_equal(one[1], other[1])


def test_a_template_is_filled_with_an_image_in_view(model: dg.Model) -> None:
    template = TokenTemplate(((7, 8), (9,)), (3,), (5,), 0, frozenset())
    prompt = shown(SIZES, (4, random_pixels(2, 2, 5), 3))
    sides = []
    for images in (prompt.images, [random_pixels(2, 2, 6)]):
        frames = list(fill(model, prompt.ids, template, SETTINGS, images=images))
        assert frames[-1].tokens.tolist()[:2] == [7, 8]
        sides.append(frames[0].entropies)
    assert not np.array_equal(*sides)
