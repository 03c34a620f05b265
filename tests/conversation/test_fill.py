"""`Session.fill`: pinned text to the letter, holes with what the model says, and nothing kept."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from facts import raises
from fake_model import CertainModel, Floats, tiny_config, wanting
from numpy.typing import NDArray
from small import SIZES, spell, write_random, write_tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.fill import END, FillTurn
from mlx_diffgemma.conversation.reply import ModelInfo
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import DiffGemmaError, PromptError, SettingsError
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

QUICK = dg.Settings(seed=5, max_denoising_steps=2)
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


# --- pinned text


def random_template(random: np.random.Generator) -> tuple[str, list[str], list[int]]:
    """A template's source, its texts, and its holes' lengths; brackets and backslashes abound."""
    letters = [chr(code) for code in range(32, 127)] + list("[[[]]].\\\\\\\n0123") * 3
    texts, source, lengths = list[str](), "", list[int]()
    for number in range(count := int(random.integers(2, 6))):
        text = "".join(random.choice(letters, int(random.integers(0, 40))))
        while dangerous(text):
            text = "".join(random.choice(letters, len(text)))
        texts.append(text)
        source += text
        if number < count - 1:
            slashes = len(text) - len(text.rstrip("\\"))
            source += "\\" * slashes  # doubled in front of a hole
            lengths.append(int(random.integers(1, random.choice([4, 30]))))
            source += f"[[{lengths[-1]}]]"
    return source, texts, lengths


def dangerous(text: str) -> bool:
    """Whether the text holds a hole of its own, or a bracket that would become part of one."""
    named = re.search(r"\[\[[A-Za-z_]\w*:", text)
    return bool(named) or ("]]" in text and "[[" in text) or text.endswith("[")


@pytest.mark.slow
def test_random_templates_keep_every_pinned_character(tmp_path: Path) -> None:
    sizes = replace(SIZES, layers="sf", canvas_length=24)
    session = dg.load(write_random(tmp_path, sizes))
    random = np.random.default_rng(11)
    canvases = set()
    for number in range(100):
        source, texts, lengths = random_template(random)
        settings = replace(QUICK, seed=number)
        reply = session.fill(source, prompt="x" * (number % 3), settings=settings)
        assert len(reply.holes) == len(lengths)
        parts = [part for pair in zip(texts, [*reply.holes, ""], strict=True) for part in pair]
        assert reply.text == "".join(parts), source
        assert session.tokenizer.decode(reply.token_ids) == reply.text
        for hole, length in zip(reply.holes, lengths, strict=True):
            assert len(session.tokenizer.encode(hole)) <= length
        assert reply.finish_reason == "stop"
        assert reply.generated_tokens == sum(map(len, reply.holes))
        canvases.add(reply.canvases)
    assert len(canvases) > 3


def test_bytes_that_make_no_character_do_not_touch_the_text_beside_them(tmp_path: Path) -> None:
    """The library, given both, spoils the text behind a hole that ends with half a character."""
    vocab = {"<eos>": 0, "<bos>": 1, **{f"<0x{byte:02X}>": 2 + byte for byte in range(256)}}
    backend = Backend(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.save(str(tmp_path / "tokenizer.json"))
    half = [2 + 0xE2, 2 + 0x82]  # of a character of three bytes
    session = saying(load_tokenizer(tmp_path), [9, 9, *half, 9, 9, 9, 9])
    reply = session.fill("é[[2]]é")
    assert (reply.text, reply.holes) == ("é\ufffd\ufffdé", ("\ufffd\ufffd",))
    assert session.tokenizer.decode(reply.token_ids) == reply.text
    assert "é" not in backend.decode(list(reply.token_ids))[1:]  # what it guards against


# --- what a model says in a hole


def saying(tokenizer: Tokenizer, canvas: Sequence[int], stop_ids: Sequence[int] = (1,)) -> Session:
    """A session whose model wants this canvas, whatever comes in front."""

    def network(prefix: list[int], now: NDArray[np.int32], soft: Floats | None) -> Floats:
        return wanting([*canvas, *[ord("_")] * now.size][: now.size])

    config = tiny_config(vocab=tokenizer.vocab_size, canvas=len(canvas), stop_ids=stop_ids)
    info = ModelInfo(path="none", revision=None, quantization=None, layers=1, parameters=0)
    return Session(cast(Model, CertainModel(config, network)), tokenizer, info)


def shown(session: Session) -> list[int]:
    """The canvas the network saw last."""
    return [int(token) for token in session.model.asked("decode")[-1][0]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("marker", ["<end>", "<pad>", "<|channel>", "<|turn>", "<eos>"])
def test_a_control_token_ends_a_hole(tokenizer: Tokenizer, marker: str) -> None:
    says = spell(tokenizer, *"ab__", " sky", marker, "the", *"__c.__")
    session = saying(tokenizer, says[:12], stop_ids=[cast(int, tokenizer.id_of("<end>"))])
    reply = session.fill("ab[[4]]c")
    assert (reply.text, reply.holes) == ("ab__ skyc", ("__ sky",))
    assert reply.generated_tokens == 3


def test_a_stop_id_in_a_hole_ends_no_more_than_that(tokenizer: Tokenizer) -> None:
    """Whoever shows frames takes what stands behind a stop id for no part of the answer."""
    end = cast(int, tokenizer.id_of("<end>"))
    session = saying(tokenizer, [ord("a"), end, end, ord("b"), 9, 9], stop_ids=[end])
    assert list(session.turn("x").stop_ids) == [end]
    turn = session.fill_turn("a[[2]]b")
    assert list(turn.stop_ids) == []
    list(turn)
    assert turn.reply().text == "ab"


def test_a_hole_may_come_to_nothing(tokenizer: Tokenizer) -> None:
    reply = saying(tokenizer, spell(tokenizer, *"ab", "<pad>", *"zzzzzzzzz")).fill("ab[[2]]cd")
    assert (reply.text, reply.holes) == ("abcd", ("",))


def test_behind_the_template_stands_what_the_model_was_trained_on(tokenizer: Tokenizer) -> None:
    """The end of the turn where that is a stop id, then the end of text up to the canvas's end."""
    end, turn, eos = (cast(int, tokenizer.id_of(t)) for t in ("<end>", "<turn|>", END))
    for stop_ids, expected in (
        ([end], [eos] * 3),
        ([end, turn], [turn, eos, eos]),
        ([], [eos] * 3),
    ):
        session = saying(tokenizer, [ord("x")] * 6, stop_ids)
        session.fill("a[[1]]b")
        assert shown(session) == [ord("a"), shown(session)[1], ord("b"), *expected]


def test_several_gaps_and_one_for_all(tokenizer: Tokenizer) -> None:
    session = saying(tokenizer, [ord("x")] * 12)
    assert session.fill("a[[...]]b[[...]]", gaps=2).text == "axxbxx"
    assert session.fill("a[[...]]b[[...]]", gaps=[1, 3]).text == "axbxxx"
    assert session.fill(r"\[[...]]b[[...]]", gaps=1).text == "[[...]]bx"
    assert len(session.fill("[[...]]").holes[0]) == 32


# --- frames, replies, conversations


def test_its_frames_are_those_of_an_answer(session: Session) -> None:
    turn = session.fill_turn("Hi [[3]] and [[9]] there", settings=QUICK)
    frames = list(turn)
    assert all(isinstance(frame, Frame) for frame in frames)
    committed = [frame for frame in frames if frame.committed]
    assert "".join(frame.text for frame in committed) == turn.reply().text
    assert turn.reply().token_ids == tuple(t for f in committed for t in f.tokens.tolist())
    assert turn.reply().steps == tuple(frame.step + 1 for frame in committed)
    assert turn.finished


def test_a_fill_is_json_with_the_keys_of_an_answer_and_holes(session: Session) -> None:
    reply = session.fill("a [[3]] b [[2]]", settings=QUICK)
    content = json.loads(json.dumps(reply.to_json(), allow_nan=False))
    answer = session.ask("x", settings=replace(QUICK, max_tokens=8)).to_json()
    assert list(content) == [*answer, "holes", "fields"]
    assert content["holes"] == list(reply.holes)
    assert content["sampler"]["max_tokens"] == 5
    assert (content["thinking"], content["tool_calls"]) == (None, [])
    assert content["tokens_per_step"] == reply.generated_tokens / sum(reply.steps)


def test_given_up_early_it_is_what_is_finished(session: Session) -> None:
    source = "one [[2]] two [[30]] three"
    long = replace(QUICK, seed=31)  # it fills both holes to the brim
    whole = session.fill(source, settings=long)
    turn = session.fill_turn(source, settings=long)
    texts = [turn.reply().text]
    for frame in turn:
        if frame.committed:
            texts.append(turn.reply().text)
            if frame.canvas == 2:
                break
    assert texts[0] == ""
    assert not turn.finished
    assert turn.reply().finish_reason == "interrupted"
    assert all(whole.text.startswith(text) for text in texts)
    assert texts == sorted(texts, key=len)
    assert texts[-1].startswith("one " + whole.holes[0] + " two ")


def test_the_same_seed_is_the_same_text(session: Session) -> None:
    texts = [session.fill("a [[9]] b", settings=replace(QUICK, seed=s)).text for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_conversation_neither_sees_nor_keeps_it(session: Session) -> None:
    asking = replace(QUICK, max_tokens=8)
    first = session.fill("a [[9]] b", prompt="Hello", settings=QUICK)
    assert session.history == []
    session.ask("Hello", settings=asking)
    history = list(session.history)
    again = session.fill("a [[9]] b", prompt="Hello", settings=QUICK)
    assert again.text == first.text
    assert again.prompt_tokens == first.prompt_tokens
    assert session.history == history
    fresh = replace(session, conversation=Conversation(session.system, list(history)))
    assert session.ask("And?", settings=asking).text == fresh.ask("And?", settings=asking).text


def test_what_is_encoded_of_the_prompt_is_used_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[int]] = []
    encode = session.model.encode
    monkeypatch.setattr(
        session.model, "encode", lambda t, *a, **o: (calls.append(list(t)), encode(t, *a, **o))[1]
    )
    for _ in range(2):
        reply = session.fill("a [[3]]", prompt="A long question", settings=QUICK)
    assert len(calls[0]) == reply.prompt_tokens
    assert calls[1:] == []


# --- prompts


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        ({"prompt": "Hi"}, "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"),
        ({}, "<bos><|turn>user\n<turn|>\n<|turn>model\n"),
        ({"system": "Be"}, "<bos><|turn>system\nBe<turn|>\n<|turn>user\n<turn|>\n<|turn>model\n"),
        ({"prompt": "Hi", "raw": True}, "Hi"),
        ({"raw": True}, "<bos>"),
    ],
)
def test_the_prompt_is_rendered_as_a_question(
    tokenizer: Tokenizer, options: dict[str, Any], prompt: str
) -> None:
    turn = saying(tokenizer, [9] * 8).fill_turn("a[[1]]", **options)
    assert tokenizer.decode(turn.prompt_ids, special=True) == prompt


def test_without_a_chat_template_bos_alone_is_the_prompt(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path, template=None)
    session = saying(tokenizer, [9] * 8)
    assert session.fill_turn("a[[1]]").prompt_ids == [tokenizer.id_of("<bos>")]
    with pytest.raises(DiffGemmaError, match="has no chat template"):
        session.fill_turn("a[[1]]", prompt="Hi")


# --- what is refused


@pytest.mark.parametrize(
    ("template", "options", "kind", "facts"),
    [
        ("", {}, PromptError, "template is empty"),
        ("a", {}, PromptError, "no hole"),
        ("a[[0]]", {}, PromptError, "line 1 ... 0 tokens"),
        ("a[[...]]", {"gaps": [1, 2]}, SettingsError, "gaps has 2 ... template 1"),
        ("é[[1]]", {}, PromptError, "line 1 has 'é' ... tokenizer"),
        ("[[5000]]", {}, PromptError, "9 prompt tokens ... a template of 5,001 ... 5,010"),
        ("[[1]]", {"settings": dg.Settings(max_tokens=5)}, SettingsError, "max_tokens is 5"),
        ("[[1]]", {"settings": dg.Settings(stop=("x",))}, SettingsError, "stop is ('x',)"),
    ],
)
def test_what_cannot_be_filled_is_refused_at_the_call(
    session: Session, template: str, options: dict[str, Any], kind: type[Exception], facts: str
) -> None:
    with raises(kind, facts):
        session.fill_turn(template, **options)


def test_a_context_beyond_the_memory_is_refused(session: Session) -> None:
    asked: list[int] = []
    session.require_room = asked.append
    session.fill_turn("[[100]]")
    assert asked == [9 + 101]


def test_pinned_text_that_changed_is_an_error(session: Session) -> None:
    turn = session.fill_turn("ab[[3]]cd", settings=QUICK)
    list(turn)
    tokens = turn.committed[-1].tokens.copy()
    tokens[-1] += 1
    turn.committed[-1] = replace(turn.committed[-1], tokens=tokens)
    with pytest.raises(DiffGemmaError, match="the template's own text changed"):
        turn.reply()
    turn.committed[-1] = replace(
        turn.committed[-1],
        tokens=turn.committed[-1].tokens[:-1],
        holes=turn.committed[-1].holes[:-1],  # type: ignore[attr-defined, call-arg, unused-ignore]
    )
    with pytest.raises(DiffGemmaError, match="the template's own text changed"):
        turn.reply()


# --- puzzles


@pytest.fixture(scope="module")
def solver() -> Session:
    return dg.load("tiny-sudoku")


def filled(solver: Session, template: str, **options: Any) -> FillTurn:
    turn = solver.fill_turn(template, settings=dg.Settings(seed=1), **options)
    list(turn)
    return turn


def test_a_puzzle_is_filled_and_its_givens_stay(solver: Session) -> None:
    turn = filled(solver, PUZZLE)
    assert turn.reply().text.replace("\n", "") == SOLUTION
    assert turn.problem() is None
    blanks = [digit for given, digit in zip(PUZZLE, SOLUTION, strict=True) if given == "."]
    assert list(turn.reply().holes) == blanks
    assert turn.reply().generated_tokens == 51


def test_its_prompt_is_the_puzzle_of_the_pinned_digits(solver: Session) -> None:
    prompt = solver.turn(PUZZLE).prompt_ids
    for form in (PUZZLE, PUZZLE.replace(".", "0"), PUZZLE.replace(".", "[[1]]")):
        turn = solver.fill_turn(form)
        assert turn.prompt_ids == prompt
        assert sum(turn.template.lengths) == len(turn.template.lengths) == 51
    blank = "." * 81
    assert solver.fill_turn(PUZZLE, prompt=blank).prompt_ids == solver.turn(blank).prompt_ids


def test_a_puzzle_pinned_wrongly_gets_its_verdict(solver: Session) -> None:
    """A given that leads nowhere is kept all the same, and the answer is no solution."""
    turn = filled(solver, "532" + PUZZLE[3:])
    assert turn.reply().text.startswith("532")
    assert turn.problem() is not None


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        ("a[[1]]", "'a' at line 1, character 1 ... puzzle"),
        ("[[1]]x", "'x' at line 1, character 6 ... puzzle"),
        (SOLUTION, "the template has no hole"),
        (PUZZLE[1:], "80 of 81 cells"),
        ("5" + PUZZLE[1:8] + "5" + PUZZLE[9:], "no solution"),
    ],
)
def test_what_is_no_puzzle_is_refused(solver: Session, template: str, facts: str) -> None:
    with raises(PromptError, facts):
        solver.fill_turn(template)


def test_raw_it_is_any_template(solver: Session) -> None:
    turn = filled(solver, "53[[2]] x", raw=True, prompt="abc")
    assert turn.reply().text.startswith("53")
    assert turn.reply().text.endswith(" x")
    assert turn.problem() is None
