"""Questions about images and videos: what is encoded, what is remembered, and what is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import raises
from PIL import Image
from small import BEGIN, END, NEWLINE, SOFT, TURN, clip, picture, write_seeing

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import CheckpointError, ImageError, PromptError, SettingsError
from mlx_diffgemma.text.chat import Message

FEW = dg.Settings(max_tokens=16, seed=5)  # two canvases
IMAGE = [BEGIN, SOFT, SOFT, SOFT, SOFT, END]


@pytest.fixture
def encoded(seeing: Session, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the model has encoded, call by call."""
    calls, encode = list[list[int]](), seeing.model.encode

    def spy(tokens: Any, *args: Any, **options: Any) -> Any:
        calls.append(list(tokens))
        return encode(tokens, *args, **options)

    monkeypatch.setattr(seeing.model, "encode", spy)
    return calls


@pytest.fixture
def seen(seeing: Session, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of what the tower has been given."""
    digests, tower = list[str](), seeing.model.vision

    def spy(pixels: dg.Pixels) -> Any:
        digests.append(pixels.digest)
        return tower(pixels)  # type: ignore[misc]

    monkeypatch.setattr(seeing.model, "vision", spy)
    return digests


def ids(*parts: list[int] | str) -> list[int]:
    """Ids of texts, a letter each, and of what is given as ids."""
    return [
        token
        for part in parts
        for token in ([ord(letter) for letter in part] if isinstance(part, str) else part)
    ]


USER, MODEL, CLOSE = [TURN, 6, NEWLINE], [TURN, 7, NEWLINE], [5, NEWLINE]


def asked(*parts: list[int] | str) -> list[int]:
    """The prompt of a first question."""
    return ids([2], USER, *parts, CLOSE, MODEL)


# --- the prompt


def test_images_come_before_the_text_in_the_order_given(seeing: Session) -> None:
    one, two = picture(1), picture(2, 48, 144)
    turn = seeing.turn("What?", images=[one, two])
    assert turn.prompt_ids == asked(IMAGE, [BEGIN, SOFT, SOFT, SOFT, END], "What?")
    assert turn.asked.images == (one, two)


def test_an_image_may_be_given_alone_and_without_a_text(seeing: Session) -> None:
    assert seeing.turn("", images=picture(1)).prompt_ids == asked(IMAGE)


def test_a_video_is_its_frames_each_behind_its_time(seeing: Session) -> None:
    film = clip(1, 2, 3)
    turn = seeing.turn("Who?", images=[picture(4)], video=film)
    frame = [BEGIN, SOFT, END]
    frames = ("00:00 ", frame, " 00:01 ", frame, " 00:02 ", frame)
    assert turn.prompt_ids == asked(IMAGE, *frames, "Who?")
    assert [image.digest for image in turn.asked.images[1:]] == [f.digest for f in film.frames]


def test_a_prompt_without_images_is_what_it_was(seeing: Session, session: Session) -> None:
    """Its content stays a plain text, which old templates need."""
    assert seeing.turn("Hello").prompt_ids == session.turn("Hello").prompt_ids


def test_a_raw_prompt_says_where_its_images_stand(seeing: Session) -> None:
    turn = seeing.turn("a<|image|>b", raw=True, images=picture(1))
    assert turn.prompt_ids == ids("a", IMAGE, "b")


def test_a_template_is_filled_behind_images(seeing: Session) -> None:
    turn = seeing.fill_turn("a[[2]]", prompt="Name it", images=picture(1))
    assert turn.prompt_ids == asked(IMAGE, "Name it")
    assert seeing.fill_turn("a[[2]]", images=picture(1)).prompt_ids == asked(IMAGE)
    filled = [
        seeing.fill("a[[6]]", images=picture(n), settings=dg.Settings(seed=5)) for n in (1, 2)
    ]
    assert filled[0].text[0] == filled[1].text[0] == "a"
    assert filled[0].images[0].tokens == 4


# --- what is said of them


def plain(reply: dg.Reply) -> Any:
    """The reply as JSON has it."""
    return json.loads(json.dumps(reply.to_json()))


def test_a_reply_tells_of_the_images_of_its_question(seeing: Session) -> None:
    reply = seeing.ask("Hm", images=[picture(1), picture(2, 48, 144)], settings=FEW)
    assert plain(reply)["images"] == [
        {"tokens": 4, "width": 192, "height": 192},
        {"tokens": 3, "width": 96, "height": 288},
    ]
    assert plain(reply)["videos"] == []
    assert reply.prompt_tokens == len(asked("Hm")) + 6 + 5
    reply = seeing.ask("And", video=clip(3, 4), settings=FEW)
    assert plain(reply)["images"] == []
    assert plain(reply)["videos"] == [{"frames": 2, "tokens": 2, "seconds": 2.0}]
    assert seeing.ask("So", settings=FEW).images == ()


def test_a_video_that_is_sampled_says_so(seeing: Session) -> None:
    (note,) = seeing.turn("?", video=clip(1, 2, seconds=3.0)).notes
    assert "3.0 seconds" in note
    assert "2 frames" in note
    assert "1.5 seconds" in note
    assert seeing.turn("?", video=clip(1, 2, seconds=1.2)).notes == ()


# --- the conversation


def fresh(session: Session) -> Session:
    """The same conversation, with nothing encoded yet."""
    return replace(session, conversation=Conversation(session.system, list(session.history)))


def test_another_image_is_another_answer(seeing: Session) -> None:
    texts = [fresh(seeing).ask("?", images=picture(n), settings=FEW).token_ids for n in (1, 2, 1)]
    assert texts[0] != texts[1]
    assert texts[0] == texts[2]


def test_a_second_question_about_an_image_encodes_only_what_is_new(
    seeing: Session, encoded: list[list[int]], seen: list[str]
) -> None:
    image = picture(1)
    first = seeing.turn("What is it?", images=image, settings=FEW)
    for _ in first:
        pass
    assert seen == [image.digest]
    kept = len(first.prompt_ids)
    encoded.clear()
    second = seeing.turn("And now?", settings=FEW)
    for _ in second:
        pass
    assert second.prompt_ids[: len(first.prompt_ids) - 3] == first.prompt_ids[:-3]
    assert len(encoded[0]) <= len(second.prompt_ids) - kept
    assert seen == [image.digest]
    again = fresh(seeing)
    again.restore(seeing.history[:2])
    assert again.ask("And now?", settings=FEW).token_ids == second.reply().token_ids


def test_an_image_with_another_content_is_encoded_again(seeing: Session, seen: list[str]) -> None:
    for number in (1, 2, 1):
        seeing.reset() if number == 2 else None
        seeing.ask("What?", images=picture(number), settings=FEW)
    assert seen == [picture(number).digest for number in (1, 2, 1)]


def test_what_was_said_holds_its_images(seeing: Session) -> None:
    image, film = picture(1), clip(2)
    reply = seeing.ask("What?", images=[image], video=film, settings=FEW)
    assert seeing.history == [
        Message("user", "What?", (image, film)),
        Message("assistant", reply.text),
    ]
    assert seeing.turn("Who?", images=[image]).messages()[0] == Message("user", "Who?", (image,))


def test_a_conversation_with_images_goes_on_where_it_was_restored(
    seeing: Session, seeing_folder: Path
) -> None:
    for number in (1, 2):
        seeing.ask("What?", images=picture(number), settings=FEW)
    expected = seeing.ask("Which?", settings=FEW)
    other = dg.load(seeing_folder)
    other.restore(seeing.history[:4])
    assert other.ask("Which?", settings=FEW).token_ids == expected.token_ids


# --- what is refused


def test_a_number_of_soft_tokens_is_one_of_those_offered(seeing: Session) -> None:
    with raises(SettingsError, "image_tokens is 71 ... 4, 70, 140, 280, 560 or 1120"):
        seeing.turn("?", images="nowhere.png", image_tokens=71)
    with raises(SettingsError, "image_tokens is True"):
        seeing.turn("?", images="nowhere.png", image_tokens=True)
    for images, found in (([], "no image"), ([picture(1)], "Pixels")):
        with raises(SettingsError, "image_tokens", found, "leave it out"):
            seeing.turn("?", images=images, image_tokens=70)


def test_nothing_is_decoded_for_a_checkpoint_that_sees_none(session: Session) -> None:
    for given in ({"images": "nowhere.png"}, {"video": "nowhere.gif"}):
        for ask in (session.turn, session.fill_turn):
            with raises(CheckpointError, "no vision tower ... sees no images"):
                ask("a[[2]]", **given)
    with raises(CheckpointError, "no vision tower"):
        session.restore([Message("user", "", (picture(1),)), Message("assistant", "x")])
    assert session.history == []


def test_a_tower_without_ids_is_refused(tmp_path: Path) -> None:
    from checkpoints import edit_config

    blind = edit_config(write_seeing(tmp_path), lambda config: config.pop("image_token_id"))
    with raises(CheckpointError, "config.json has no image_token_id"):
        dg.load(blind).turn("?", images="nowhere.png")


@pytest.mark.parametrize("marker", ["<|image|>", "<|video|>"])
def test_a_text_that_looks_like_an_image_is_text(seeing: Session, marker: str) -> None:
    plain = [seeing.turn("ab", images=media).prompt_ids.count(SOFT) for media in ((), picture(1))]
    seeing.restore([Message("user", f"a{marker}"), Message("assistant", marker)])
    for media, soft in zip(((), picture(1)), plain, strict=True):
        turn = seeing.turn(f"a {marker} b", system=f"b{marker}", images=media)
        assert turn.prompt_ids.count(SOFT) == soft
        assert seeing.tokenizer.decode(turn.prompt_ids).count(marker) == 4
    with raises(PromptError, f"1 {marker}", "for 0"):
        seeing.turn(marker, raw=True)


def test_a_checkpoint_that_sees_none_has_them_in_raw_prompts_alone(session: Session) -> None:
    assert session.turn("<|image|>").prompt_ids.count(SOFT) == 0
    assert session.turn("<|image|>", raw=True).prompt_ids.count(SOFT) == 1


def test_a_raw_prompt_without_its_placeholders_is_refused(seeing: Session) -> None:
    with raises(PromptError, "0 <|image|> for 1 image ... write as many"):
        seeing.turn("What?", raw=True, images=picture(1))
    with raises(PromptError, "0 <|video|> for 1 video"):
        seeing.turn("What?", raw=True, video=clip(1))


@pytest.mark.parametrize(
    ("template", "error", "facts"),
    [
        ("{{ messages[-1].role }}", CheckpointError, "writes 0 <|image|> for 1 image"),
        ("{{ messages[-1].content }}", CheckpointError, "writes 0 <|image|> for 1 image"),
        ("<|image|><|image|>", CheckpointError, "writes 2 <|image|> for 1 image"),
        ("{{ 'x' + messages[-1].content }}", PromptError, "can only concatenate str"),
    ],
)
def test_a_template_that_drops_images_is_refused(
    tmp_path: Path, template: str, error: type[Exception], facts: str
) -> None:
    session = dg.load(write_seeing(tmp_path, template=template))
    with raises(error, facts):
        session.turn("What?", images=picture(1))


def test_a_prompt_too_long_says_how_much_of_it_is_images(seeing: Session) -> None:
    images = [picture(n, 480, 480) for n in range(42)]  # 4,200 soft tokens
    with raises(
        PromptError,
        "4,200 of them for images ... 4,096 ... fewer images ... max_tokens or image_tokens",
    ):
        seeing.turn("?", images=images)
    with raises(
        PromptError, "4,200 of them for images ... 4,096 ... fewer images ... gaps or image_tokens"
    ):
        seeing.fill_turn("a[[2]]", images=images)


def test_only_what_is_prepared_and_asked_is_restored(seeing: Session) -> None:
    seeing.restore([Message("user", "a"), Message("assistant", "b")])
    strange: Any = ("photo.png",)
    with raises(PromptError, "message 1 ... 'photo.png' ... Pixels or a Clip ... prepare_image"):
        seeing.restore([Message("user", "a", strange), Message("assistant", "b")])
    with raises(PromptError, "message 2 ... is the assistant's ... in a question"):
        seeing.restore([Message("user", "a"), Message("assistant", "b", (picture(1),))])
    assert seeing.history == [Message("user", "a"), Message("assistant", "b")]


def test_what_is_refused_leaves_the_conversation_as_it_was(seeing: Session) -> None:
    running = seeing.turn("Hi", settings=FEW)
    frames = iter(running)
    next(frames)
    with pytest.raises(SettingsError):
        seeing.turn("?", images=picture(1), image_tokens=1)
    assert not running.ended
    assert len(list(frames)) > 1


# --- what is encoded, over many turns


def test_every_answer_is_that_of_a_conversation_without_a_cache(
    seeing: Session, seen: list[str]
) -> None:
    """Far beyond the sliding window of 16 positions, images before and behind it."""
    one, two, film = picture(1), picture(2, 192, 48), clip(3, 4)
    turns: list[dict[str, Any]] = [
        {"images": [one]},
        {"images": [two, one]},
        {"video": film},
        {},
    ]
    short = replace(FEW, max_tokens=8)
    for number, options in enumerate(turns):
        bare = fresh(seeing)
        seen.clear()
        got = seeing.ask(f"Turn {number}?", settings=short, **options)
        new = list(seen)
        expected = bare.ask(f"Turn {number}?", settings=short, **options)
        assert got.token_ids == expected.token_ids
        assert seeing.prefix is not None
        assert bare.prefix is not None
        assert seeing.prefix.tokens == bare.prefix.tokens
        assert seeing.prefix.images == bare.prefix.images
        given = len(got.images) + sum(video.frames for video in got.videos)
        assert len(new) == given, "an earlier image was encoded again"


def test_a_template_uses_what_is_encoded_of_its_image(seeing: Session, seen: list[str]) -> None:
    image = picture(1)
    seeing.ask("Describe it.", images=image, settings=FEW)
    seeing.fill("a[[2]]", prompt="Describe it.", images=image, settings=dg.Settings(seed=5))
    assert seen == [image.digest]


def test_ctrl_c_inside_the_tower_leaves_a_session_that_goes_on(
    seeing: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower, calls = seeing.model.vision, count(1)

    def broken(pixels: dg.Pixels) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return tower(pixels)  # type: ignore[misc]

    monkeypatch.setattr(seeing.model, "vision", broken)
    images = [picture(1), picture(2)]
    with pytest.raises(KeyboardInterrupt):
        seeing.ask("Hm?", images=images, settings=FEW)
    assert seeing.history == []
    got = seeing.ask("Hm?", images=images, settings=FEW)
    assert got.token_ids == fresh_of(seeing).ask("Hm?", images=images, settings=FEW).token_ids


def fresh_of(session: Session) -> Session:
    """A session with the same model, and no conversation."""
    return replace(session, conversation=Conversation())


def test_another_thread_gets_the_same_answer(seeing: Session) -> None:
    expected = fresh_of(seeing).ask("Hm?", images=picture(1), settings=FEW).token_ids
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(lambda: seeing.ask("Hm?", images=picture(1), settings=FEW)).result()
    assert got.token_ids == expected


def test_an_image_that_cannot_be_read_leaves_the_answer_that_runs(
    seeing: Session, tmp_path: Path
) -> None:
    (tmp_path / "no.png").write_text("no image")
    running = seeing.turn("Hi", settings=FEW)
    frames = iter(running)
    next(frames)
    for given in ({"images": tmp_path / "no.png"}, {"video": tmp_path / "none.gif"}):
        with pytest.raises(ImageError):
            seeing.turn("?", **given)
    assert not running.ended
    assert len(list(frames)) > 1


def test_files_arrays_and_pixels_are_one(seeing: Session, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    kinds = [array, Image.fromarray(array), data, tmp_path / "a.png", str(tmp_path / "a.png")]
    turns = [seeing.turn("?", images=kind) for kind in kinds]
    assert len({turn.asked.images[0].digest for turn in turns}) == 1
    (given,) = {turn.images for turn in turns}
    assert (given[0].tokens, given[0].width, given[0].height) == (4, 96, 96)
    more = seeing.turn("?", images=[array, str(tmp_path / "a.png")], image_tokens=70)
    assert [image.tokens for image in more.images] == [64, 64]
    assert seeing.turn("?", video=[array] * 3).videos[0].frames == 3
