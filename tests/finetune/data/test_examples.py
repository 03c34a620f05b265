"""Examples from files of JSON lines, as token ids."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import raises
from PIL import Image

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.errors import CheckpointError, DataError, SettingsError
from mlx_diffgemma.finetune.data.asking import ImageFile
from mlx_diffgemma.finetune.data.examples import Example, Examples, read_examples
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

QUESTION, ANSWER = "What is 17 + 25?", "17 + 25 = 42."
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
ASKED = {"role": "user", "content": QUESTION}
SAID = {"role": "assistant", "content": ANSWER}
PLAIN = {"messages": [ASKED, SAID]}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": "{}"}]}
EOS = 1

Read = Callable[..., Examples]


@cache
def checkpoint(name: str) -> tuple[Tokenizer, ModelConfig]:
    folder = embedded_folder(name)
    assert folder
    return load_tokenizer(folder), read_config(folder)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The examples in a file of these lines, objects or text."""

    def run(*lines: Any, model: str = "tiny-chat", **options: Any) -> Examples:
        return read_examples(write(tmp_path, *lines), *checkpoint(model), **options)

    return run


def write(folder: Path, *lines: Any, name: str = "data.jsonl") -> Path:
    file = folder / name
    texts = (line if isinstance(line, str | bytes) else json.dumps(line) for line in lines)
    file.write_bytes(b"".join((t if isinstance(t, bytes) else t.encode()) + b"\n" for t in texts))
    return file


def parts(example: Example, model: str = "tiny-chat") -> tuple[str, str]:
    """Prompt and response as text, the fill left off."""
    tokenizer, _ = checkpoint(model)
    prompt, response = example.ids[: example.prompt], example.ids[example.prompt :]
    written = tokenizer.decode(response[response != EOS], special=True)
    return tokenizer.decode(prompt, special=True), written.removesuffix("<turn|>")


# --- tokens


@pytest.mark.slow
@pytest.mark.parametrize("think", [False, True])
def test_the_ids_are_those_of_a_conversation(read: Read, think: bool) -> None:
    """tiny-chat answers rightly, so that its own prompt and answer are what it is taught."""
    session = dg.load("tiny-chat")
    turn = session.turn(QUESTION, seed=1, think=think)
    for _ in turn:
        pass
    reply = turn.reply()
    said = {**SAID, "content": reply.text, "thinking": reply.thinking}
    (example,) = read({"messages": [ASKED, said]}).examples
    assert [*example.ids[: example.prompt]] == turn.prompt_ids
    response = [*example.ids[example.prompt :]]
    assert response == [*reply.token_ids, *[EOS] * (64 - len(reply.token_ids))]


@pytest.mark.slow
def test_the_ids_of_a_puzzle(read: Read) -> None:
    """The prompt is the task's, and 89 characters and one `<eos>` fill the canvas."""
    session = dg.load("tiny-sudoku")
    turn = session.turn(PUZZLE, seed=1)
    for _ in turn:
        pass
    reply = turn.reply()
    (example,) = read({"prompt": PUZZLE, "completion": reply.text}, model="tiny-sudoku").examples
    assert [*example.ids[: example.prompt]] == turn.prompt_ids
    assert (*example.ids[example.prompt :],) == reply.token_ids


def test_the_fill_ends_the_last_canvas(read: Read) -> None:
    """An answer that fills its canvases to the end, stop id included, gets no other one."""
    for length, canvases in ((62, 1), (63, 1), (64, 2)):
        (example,) = read({"prompt": "a", "completion": "b" * length}).examples
        response = example.ids[example.prompt :]
        assert len(response) == 64 * canvases
        assert [*response[length:]] == [5, *[EOS] * (64 * canvases - length - 1)]
        assert example.ids.dtype == np.int32


def test_a_text_is_all_response(read: Read) -> None:
    for text in ("Once.", "<bos>Once."):
        (example,) = read({"text": text}).examples
        assert [*example.ids[: example.prompt]] == [2]
        assert [*example.ids[1:]] == [*map(ord, "Once."), *[EOS] * 59]


# --- forms


@pytest.mark.parametrize(
    "line",
    [
        PLAIN,
        {"prompt": QUESTION, "completion": ANSWER},
        {"prompt": [{"type": "text", "text": QUESTION}], "completion": ANSWER, "messages": None},
        {"messages": [{**ASKED, "content": [{"type": "text", "text": QUESTION}]}, SAID]},
    ],
)
def test_one_example_in_many_forms(read: Read, line: dict[str, Any]) -> None:
    (example,) = read({**line, "skill": "sums"}).examples
    assert parts(example) == (f"<bos><|turn>user\n{QUESTION}<turn|>\n<|turn>model\n", ANSWER)
    assert example.skill == "sums"


def test_tools_and_their_results(read: Read) -> None:
    call = {**CALL, "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}]}
    result = {"role": "tool", "name": "add", "content": "3"}
    line = {"messages": [ASKED, call], "tools": [{"function": {"name": "add"}}]}
    first, second = read(line, {**line, "messages": [ASKED, call, result, SAID]}).examples
    assert "<|tool>declaration:add{" in parts(first)[0]
    assert parts(first)[1] == "<|tool_call>call:add{a:1}<tool_call|><|tool_response>"
    assert 'add{value:<|"|>3<|"|>}<tool_response|>' in parts(second)[0]
    assert parts(second)[1] == ANSWER


def test_what_is_not_taken_as_it_stands_is_counted(read: Read) -> None:
    long = {"messages": [ASKED, SAID, ASKED, SAID], "weight": 1, "prompt": "x"}
    found = read(PLAIN, "", {**PLAIN, "weight": 2}, " \t", long, "")
    assert len(found.examples) == 3
    assert found.blank == 3
    assert found.unused == {"weight": 2, "prompt": 1}
    assert found.multi_turn == 1
    assert parts(found.examples[2])[0].count(ANSWER) == 1


def test_a_folder_has_its_train_file(tmp_path: Path) -> None:
    write(tmp_path, PLAIN, name="train.jsonl")
    found = read_examples(tmp_path, *checkpoint("tiny-chat"))
    assert found.file.name == "train.jsonl"
    assert len(found.examples) == 1


def test_progress_is_told_in_bytes(read: Read, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    read(PLAIN, PLAIN, progress=lambda done, size: told.append((done, size)))
    size = (tmp_path / "data.jsonl").stat().st_size
    assert told == [(size // 2, size), (size, size)]


# --- images


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """The name of an image in the folder of the data."""
    Image.new("RGB", (96, 48), (200, 30, 30)).save(tmp_path / "red.png")
    return "red.png"


SEEING = replace(checkpoint("tiny-sudoku")[1], task=None)  # a checkpoint that sees, for any prompt


def read_seeing(folder: Path, *lines: Any) -> Examples:
    return read_examples(write(folder, *lines), checkpoint("tiny-sudoku")[0], SEEING)


def test_images_beside_and_among_the_messages(tmp_path: Path, picture: str) -> None:
    text = {"type": "text", "text": "12"}
    named = [[{"type": "image", key: picture}, text] for key in ("path", "url", "image")]
    contents = [("12", [picture]), *((content, None) for content in named)]
    contents += [([{"type": "image"}, text], picture)]
    lines = [
        {"messages": [{**ASKED, "content": content}, {**SAID, "content": "1"}], "images": images}
        for content, images in contents
    ]
    found = read_seeing(tmp_path, *lines).examples
    assert len({example.ids.tobytes() for example in found}) == 1
    for example in found:
        (image,) = example.images
        assert isinstance(image, ImageFile)
        pixels = image.placed().pixels
        assert pixels.rgb[0, 0].tolist() == [200, 30, 30]
        ids = example.ids[image.span.start : image.span.stop]
        assert set(ids) == {SEEING.image_token_id}
        assert len(ids) == pixels.soft_tokens


def test_an_image_that_changed(tmp_path: Path, picture: str) -> None:
    line = {"prompt": "12", "completion": "1", "images": [picture]}
    (example,) = read_seeing(tmp_path, line).examples
    Image.new("RGB", (96, 48)).save(tmp_path / picture)
    (image,) = example.images
    assert isinstance(image, ImageFile)
    with raises(DataError, tmp_path / picture, "another image"):
        image.placed()


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ({"images": ["none.png"]}, "none.png: No such file"),
        ({"images": ["data.jsonl"]}, "data.jsonl"),
        ({"images": [1]}, "images is [1], expected a list of paths"),
        ({"images": ["https://a.org/b.png"]}, "https://a.org/b.png ... download it"),
        ({"prompt": [{"type": "image"}]}, "0 paths ... 1 part"),
        ({"prompt": [{"type": "image"}], "images": ["red.png"] * 2}, "2 paths ... 1 part"),
        ({"prompt": [{"type": "image", "path": 3}]}, "the image 3 ... its path"),
        ({"prompt": [{"type": "audio"}]}, "prompt ... {'type': 'audio'} ... text ... image"),
        ({"completion": "see <|image|>"}, "<|image|> ... plain text"),
    ],
)
def test_bad_images(tmp_path: Path, picture: str, line: dict[str, Any], facts: str) -> None:
    good = {"prompt": "12", "completion": "1"}
    with raises(DataError, f"{tmp_path / 'data.jsonl'} line 2: ", facts):
        read_seeing(tmp_path, good, {**good, **line})


def test_a_placeholder_in_a_text(tmp_path: Path) -> None:
    with raises(DataError, "line 1: ... placeholder ... plain text"):
        read_seeing(tmp_path, {"text": "12<|image|>"})


def test_images_for_a_checkpoint_that_sees_none(read: Read, picture: str) -> None:
    with raises(CheckpointError, "line 1: ... no vision tower ... leave them out"):
        read({**PLAIN, "images": [picture]})


# --- lengths


def test_longer_examples_are_all_counted(read: Read) -> None:
    long = [{"prompt": "a", "completion": "b" * n} for n in (10, 70, 200, 70)]
    facts = "3 examples ... 100 tokens ... line 2 ... longest of 266 ... max_length ... truncate"
    with raises(DataError, facts):
        read(*long, max_length=100)


def test_truncate_cuts_whole_canvases_and_drops_long_prompts(read: Read) -> None:
    lines = [{"prompt": "a", "completion": "b" * n} for n in (10, 70, 200)]
    found = read(*lines, {"prompt": "a" * 90, "completion": "b"}, max_length=150, truncate=True)
    assert [len(example.ids) for example in found.examples] == [74, 138, 138]
    assert (found.cut, found.dropped) == (1, 1)
    assert [*found.examples[2].ids[-128:]] == [ord("b")] * 128


def test_no_example_is_left(read: Read) -> None:
    with raises(DataError, "every example ... 70 tokens ... max_length"):
        read({"prompt": "a" * 90, "completion": "b"}, max_length=70, truncate=True)


def test_the_context_is_the_limit(read: Read) -> None:
    with raises(DataError, "1 example ... 2,048 tokens ... line 1 ... 2,058; shorten ... truncate"):
        read({"prompt": "a", "completion": "b" * 2000})


@pytest.mark.parametrize("length", [64, 2049])
def test_a_limit_that_is_none(read: Read, length: int) -> None:
    with raises(SettingsError, f"max_length is {length:,} ... 65 ... 2,048"):
        read(PLAIN, max_length=length)


# --- bad input


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("{", "expected a JSON object"),
        ("[1]", "[1], expected a JSON object"),
        ('{"text": NaN}', "NaN ... expected a JSON object"),
        ('{"text": "a", "text": "b"}', "'text' is there twice"),
        (b'{"text": "\xff"}', "not UTF-8: byte 0xff at 10"),
        ({}, "none with a value, expected messages, prompt and completion, or text"),
        ({"question": "a", "prompt": "b"}, "'question', 'prompt', expected messages"),
        ({"messages": None}, "expected messages"),
        ({"messages": "a"}, "messages is 'a', expected a list"),
        ({"messages": []}, "messages is [], expected a list"),
        ({"messages": [3]}, "message 1 is 3, expected an object"),
        ({"messages": [{"role": "bot"}]}, "message 1 has the role 'bot', expected system, user"),
        ({"messages": [SAID]}, "message 1 ... assistant, first, expected system or user"),
        ({"messages": [ASKED, ASKED, SAID]}, "message 2 ... user, behind ... expected assistant"),
        ({"messages": [ASKED, SAID, {"role": "system", "content": ""}]}, "message 3 ... system"),
        ({"messages": [ASKED, SAID, SAID]}, "message 3 ... assistant ... expected user"),
        ({"messages": [ASKED, CALL, SAID]}, "message 3 ... tool call, expected tool or user"),
        ({"messages": [ASKED]}, "the last message ... user, expected assistant"),
        ({"messages": [ASKED, {**SAID, "content": " "}]}, "the last message is empty"),
        ({"messages": [ASKED, {"role": "assistant"}]}, "the content of message 2 is None"),
        ({"messages": [ASKED, {**SAID, "content": [1]}]}, "message 2 has the part 1, expected"),
        ({"messages": [ASKED, {**SAID, "thinking": 3}]}, "thinking of message 2 is 3"),
        ({"messages": [ASKED, {**CALL, "tool_calls": 1}]}, "tool_calls of message 2 is 1"),
        ({"messages": [ASKED, {**CALL, "tool_calls": [{}]}]}, "message 2 ... tool call {}"),
        (
            {"messages": [ASKED, {**CALL, "tool_calls": [{"name": "f", "arguments": "{"}]}]},
            "message 2 calls f ... '{', expected an object",
        ),
        ({**PLAIN, "tools": {}}, "tools is {}, expected a list"),
        ({**PLAIN, "tools": [{"function": 1}]}, "tool 1 is {'function': 1}"),
        ({**PLAIN, "skill": 3}, "skill is 3, expected a text"),
        ({**PLAIN, "think": "no"}, "think is 'no', expected true or false"),
        ({"prompt": "a", "completion": 3}, "completion is 3, expected a text"),
        ({"prompt": "a", "completion": ""}, "completion is empty"),
        ({"prompt": 3, "completion": "a"}, "prompt is 3, expected a text or a list"),
        ({"completion": "a"}, "'completion', expected messages, prompt and completion"),
        ({"text": ""}, "text is empty"),
        ({"prompt": "a", "completion": "b<turn|>c"}, "<turn|> ... ends an answer"),
    ],
)
def test_a_bad_line(tmp_path: Path, read: Read, line: Any, facts: str) -> None:
    with raises(DataError, f"{tmp_path / 'data.jsonl'} line 3: ", facts):
        read(PLAIN, "", line, PLAIN)


def test_no_puzzle_for_a_checkpoint_of_puzzles(read: Read) -> None:
    with raises(DataError, "line 1: ... 81"):
        read({"prompt": "Hello", "completion": "1"}, model="tiny-sudoku")


def test_ids_beyond_the_vocabulary(tmp_path: Path) -> None:
    tokenizer, config = checkpoint("tiny-chat")
    small = replace(config, text=replace(config.text, vocab_size=100))
    with raises(DataError, "line 1: the token 116, expected ids below 100"):
        read_examples(write(tmp_path, PLAIN), tokenizer, small)


@pytest.mark.parametrize("lines", [[], ["", " "]])
def test_a_file_without_examples(read: Read, tmp_path: Path, lines: list[str]) -> None:
    with raises(DataError, tmp_path / "data.jsonl", "no example"):
        read(*lines)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with raises(DataError, tmp_path / "none.jsonl", "No such file"):
        read_examples(tmp_path / "none.jsonl", *checkpoint("tiny-chat"))


def test_a_folder_without_train_file(tmp_path: Path) -> None:
    write(tmp_path, PLAIN, name="test.jsonl")
    with raises(DataError, tmp_path, "test.jsonl, expected train.jsonl"):
        read_examples(tmp_path, *checkpoint("tiny-chat"))
