"""Images and videos in a prompt's text: placeholders, and the ids that take their place."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from facts import raises

from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.errors import CheckpointError, PromptError
from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.images.video import Clip
from mlx_diffgemma.text.chat import Message, encode_raw, render_prompt
from mlx_diffgemma.text.placeholders import Medium, find_spelling, require_spelling
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

Load = Callable[[str], Tokenizer]
IMAGE_IDS = ImageIds(180, 181, 182)
MARKERS = {"<|image|>": 181, "<|video|>": 183}
TEMPLATES = ["launch.jinja", "second.jinja", "third.jinja"]
PARTS = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ p | tojson }}"
    "{% if p.type != 'text' %}<|{{ p.type }}|>{% endif %}{% endfor %}{% endif %}{% endfor %}"
)


def image(tokens: int) -> Pixels:
    """An image of so many soft tokens, one above the other."""
    rgb = np.zeros((48 * tokens, 48, 3), np.uint8)
    return Pixels(rgb, 48, 48 * tokens, Source(None, "0" * 64))


def clip(*tokens: int, first: int = 0) -> Clip:
    """A video of frames with so many soft tokens each, one a second from `first` on."""
    stamps = tuple(f"{s // 60:02}:{s % 60:02}" for s in range(first, first + len(tokens)))
    frames = tuple(map(image, tokens))
    return Clip(frames, stamps, float(len(frames)), Source(None, "0" * 64), len(frames))


def written(tokenizer: Tokenizer, messages: list[Message]) -> str:
    """The prompt of messages as a text with its control tokens."""
    ids = render_prompt(tokenizer, messages, image_ids=IMAGE_IDS).ids
    return tokenizer.decode(ids, special=True)


ONE, TWO = "<|image><|image|><image|>", "<|image><|image|><|image|><image|>"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_placeholder_becomes_as_many_as_the_image_has_soft_tokens(
    with_template: Load, template: str
) -> None:
    tokenizer = with_template(template)
    media = image(2), image(1)
    text = written(tokenizer, [Message("user", "the sky?", media)]).replace("\n\n", "")
    assert f"<|turn>user\n{TWO}{ONE}the sky?<turn|>\n" in text
    rendered = render_prompt(tokenizer, [Message("user", "", media)], image_ids=IMAGE_IDS)
    assert rendered.images == media
    assert [rendered.ids.count(token) for token in (180, 181, 182)] == [2, 3, 2]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_video_becomes_frames_behind_their_times(with_template: Load, template: str) -> None:
    tokenizer = with_template(template)
    film = clip(1, 2, first=59)
    rendered = render_prompt(tokenizer, [Message("user", "sky", (film,))], image_ids=IMAGE_IDS)
    text = tokenizer.decode(rendered.ids, special=True)
    assert f"00:59 {ONE} 01:00 {TWO}" in text
    assert MARKERS["<|video|>"] not in rendered.ids
    assert rendered.images == film.frames


def test_media_of_all_turns_are_placed_in_order_and_by_kind(with_template: Load) -> None:
    tokenizer, film = with_template("third.jinja"), clip(3)
    images = [image(n) for n in (1, 2, 4)]
    said = Message("assistant", "Blue.")
    turns = [
        Message("user", "a", (images[0], film, images[1])),
        said,
        Message("user", "b"),
        said,
        Message("user", "c", (images[2],)),
    ]
    rendered = render_prompt(tokenizer, turns, image_ids=IMAGE_IDS)
    assert rendered.images == (images[0], film.frames[0], images[1], images[2])


def test_parts_are_what_the_reference_gives_templates(with_template: Load) -> None:
    """A message without media stays a plain text; an empty text is no part."""
    tokenizer = with_template(PARTS)
    picture, text = '{"type": "image"}' + ONE, '{"type": "text", "text": "sky"}'
    assert written(tokenizer, [Message("user", "sky", (image(1),))]) == picture + text
    assert written(tokenizer, [Message("user", "", (image(1),))]) == picture
    film = '{"type": "video"}00:00 ' + ONE
    assert written(tokenizer, [Message("user", "", (clip(1), image(1)))]) == film + picture
    assert written(tokenizer, [Message("user", "sky")]) == "sky"


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("marker", [*MARKERS, "<|image>", "<image|>"])
def test_a_placeholder_in_a_text_is_text(with_template: Load, name: str, marker: str) -> None:
    tokenizer = with_template(name)
    said = Message("assistant", f"Blue{marker}.")
    for text in (marker, f"a{marker}b", marker * 2):
        seen = Message("user", text, (image(2), clip(1)))
        asked = [Message("system", text), seen, said, Message("user", text)]
        found = render_prompt(tokenizer, asked, image_ids=IMAGE_IDS)
        assert [found.ids.count(token) for token in (180, 181, 182, 183)] == [2, 3, 2, 0]
        assert [pixels.soft_tokens for pixels in found.images] == [2, 1]
        assert tokenizer.decode(found.ids).count(text) >= 3
        assert f"Blue{marker}." in tokenizer.decode(found.ids)
        assert render_prompt(tokenizer, [Message("user", text)]).ids.count(181) == 0


def test_a_raw_text_holds_its_own_placeholders(tokenizer: Tokenizer) -> None:
    media: list[Medium] = [image(1), clip(2), image(2)]
    raw = encode_raw(tokenizer, "a<|image|><|image|>b<|video|>", media, IMAGE_IDS)
    assert tokenizer.decode(raw.ids, special=True) == f"a{ONE}{TWO}b00:00 {TWO}"
    assert [pixels.soft_tokens for pixels in raw.images] == [1, 2, 2]
    for text, given, facts in (
        ("a", media[:1], "0 <|image|> for 1 image"),
        ("<|image|><|image|>", media[:1], "2 <|image|> for 1 image"),
        ("<|image|>", [], "1 <|image|> for 0 images"),
        ("<|image|><|video|>", media[:1], "1 <|video|> for 0 videos"),
        ("<|image|><|video|>", media[1:2], "1 <|image|> for 0 images"),
    ):
        with raises(PromptError, "the prompt has", facts):
            encode_raw(tokenizer, text, given, IMAGE_IDS)
    assert encode_raw(tokenizer, "<|image|>", [], None).ids == [181]


def test_a_checkpoint_whose_prompts_hold_no_images(with_template: Load) -> None:
    tokenizer = with_template("second.jinja")
    asked = [Message("user", "sky", (image(1),))]
    with raises(CheckpointError, "config.json has no image_token_id"):
        render_prompt(tokenizer, asked)
    for ids in (ImageIds(180, 9_999, 182), ImageIds(180, -1, 182), ImageIds(180, 1 << 40, 182)):
        assert find_spelling(tokenizer, ids) is None
        with raises(CheckpointError, "tokenizer.json has no text of its own", ids.soft):
            render_prompt(tokenizer, asked, image_ids=ids)
        assert render_prompt(tokenizer, [Message("user", "sky")], image_ids=ids).images == ()


def test_ids_that_are_read_as_other_tokens_are_refused(with_template: Load) -> None:
    tokenizer = with_template("second.jinja")
    split = ImageIds(180, 200, 182)  # <0x00>, which is written otherwise
    with raises(CheckpointError, "tokenizer.json has no text of its own ... 200"):
        require_spelling(tokenizer, split)


def test_tokens_that_only_the_tokenizers_config_names_are_found(
    with_template: Load,
) -> None:
    """`image_token` and the like, which a tokenizer.json may hold as plain entries."""
    folder = with_template("second.jinja").folder
    content = json.loads((folder / "tokenizer.json").read_text())
    kept = [token for token in content["added_tokens"] if token["id"] not in (180, 181, 182)]
    (folder / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": kept}))
    with raises(CheckpointError, "tokenizer.json has no text of its own"):
        require_spelling(load_tokenizer(folder), IMAGE_IDS)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    names = {"boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | names))
    assert require_spelling(load_tokenizer(folder), IMAGE_IDS).soft == "<|image|>"
