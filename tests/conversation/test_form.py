"""Answers with a form: whatever the model would write, in every mode, with a thought before it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import edit_json
from facts import assert_says, raises
from small import picture, spell, talker, write_random, write_seeing

import mlx_diffgemma as dg
from mlx_diffgemma.autoregressive.router import Decision, Router, Times
from mlx_diffgemma.constrain.form import form_of
from mlx_diffgemma.conversation.form import Forms
from mlx_diffgemma.conversation.prompt import IGNORED, Prompt
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import CheckpointError, ConstraintError, SettingsError
from mlx_diffgemma.text.chat import Message
from mlx_diffgemma.text.tokenizer import Tokenizer

LETTERS = "[a-z]{20}(12|3)!?"
STOP = 3  # of the random checkpoint: `<unk>`, which writes nothing
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
ASKED = "Make JSON: name Anna, age 23."


@pytest.fixture(scope="module")
def ending_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint whose answers can end."""
    folder = write_random(tmp_path_factory.mktemp("ending"))
    edit_json(folder / "generation_config.json", eos_token_id=STOP)
    return folder


@pytest.fixture
def ending(ending_folder: Path) -> Session:
    """A session with a random network, canvases of 8 and a stop id."""
    return dg.load(ending_folder)


class Alternating(Router):
    """Canvases and tokens in turn."""

    def decide(self, tokens_left: int, positions_left: int) -> str:
        mode = "ar" if len(self.decisions) % 2 else "diffusion"
        self.decisions.append(Decision(len(self.decisions), mode, 1.0, 1.0))
        return mode


# --- a network that knows nothing writes what the form allows


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
@pytest.mark.parametrize(
    "max_tokens",
    [22, *(pytest.param(count, marks=pytest.mark.slow) for count in (23, 24)), 40],
)
def test_random_weights_write_the_form_in_as_many_tokens_as_they_have(
    ending: Session, mode: str, max_tokens: int
) -> None:
    """Canvases of 8: the answer crosses two of their borders."""
    reply = ending.ask("Hello", mode=mode, max_tokens=max_tokens, seed=3, pattern=LETTERS)
    assert re.fullmatch(LETTERS, reply.text)
    assert reply.finish_reason == "stop"
    assert reply.generated_tokens <= max_tokens
    assert reply.constraint is not None
    assert reply.constraint.kind == "pattern"
    assert reply.constraint.strain is not None
    assert reply.constraint.strain > 10
    assert reply.constraint.canvases == (None if mode == "ar" else 3)
    assert ending.history[-1].content == reply.text


def test_both_modes_of_one_answer_share_its_form(
    ending: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = Times(1.0, 1.0, "given")
    monkeypatch.setattr(ending, "router", lambda *_: Alternating(times, 8))
    turn = ending.turn("Hello", mode="auto", max_tokens=40, seed=3, pattern=LETTERS)
    frames = list(turn)
    reply = turn.reply()
    assert re.fullmatch(LETTERS, reply.text)
    assert [segment.mode for segment in reply.segments] == ["diffusion", "ar", "diffusion"]
    told = reply.constraint
    assert told is not None
    assert told.canvases == 2
    assert told.strain == max(f.strain for f in frames if f.committed and f.strain is not None)


@pytest.mark.parametrize(("mode", "shown"), [("ar", 11), ("ar", 1), ("diffusion", 7)])
def test_an_interrupted_answer_goes_on_in_its_form(ending: Session, mode: str, shown: int) -> None:
    settings = dg.Settings(mode=mode, seed=3, max_tokens=30)
    frames = ending.stream("Hello", settings=settings, pattern=LETTERS)
    for _ in range(shown):
        next(frames)
    frames.close()  # type: ignore[attr-defined]
    begun = ending.history[-1].content
    assert 0 < len(begun) < 20
    reply = ending.more(settings=replace(settings, max_tokens=24))
    assert reply.text.startswith(begun)
    assert re.fullmatch(LETTERS, reply.text)
    assert reply.constraint is not None
    assert ending.history == [Message("user", "Hello"), Message("assistant", reply.text)]


def test_the_rest_of_an_answer_needs_its_tokens_too(ending: Session) -> None:
    frames = ending.stream("Hello", mode="ar", seed=3, pattern=LETTERS)
    for _ in range(5):
        next(frames)
    frames.close()  # type: ignore[attr-defined]
    with raises(ConstraintError, "rest ... 17 tokens, max_tokens is 16"):
        ending.more(max_tokens=16)
    with raises(SettingsError, "stop cannot go with pattern"):
        ending.more(stop=["a"])
    assert ending.more(max_tokens=17, mode="ar", seed=3).finish_reason == "stop"


@pytest.mark.slow
def test_greedy_tokens_are_the_same_interrupted_or_not(ending: Session) -> None:
    settings = dg.Settings(mode="ar", temperature=0, seed=3)
    whole = ending.ask("Hello", settings=settings, pattern=LETTERS)
    ending.reset()
    frames = ending.stream("Hello", settings=settings, pattern=LETTERS)
    for _ in range(6):
        next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert ending.more(settings=settings).text == whole.text


# --- tiny-chat


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_a_schema_that_fits_changes_nothing_and_costs_nothing(chat: Session, mode: str) -> None:
    free = chat.ask(ASKED, mode=mode, seed=1)
    chat.reset()
    held = chat.ask(ASKED, mode=mode, seed=1, schema=PERSON)
    assert json.loads(held.text) == {"name": "Anna", "age": 23}
    assert held.text == free.text
    assert free.constraint is None
    told = held.constraint
    assert told is not None
    assert told.strain is not None
    assert 0 <= told.strain < 0.01
    counts = None if mode == "ar" else 1
    content = {"kind": "schema", "strain": told.strain, "settled": counts, "canvases": counts}
    assert held.to_json()["constraint"] == content


def test_an_answer_is_one_of_the_choices(chat: Session) -> None:
    turn = chat.turn("Is 3 larger than 5?", seed=1, choices=["Yes.", "No."])
    list(turn)
    assert turn.reply().text == "No."
    assert turn.remarks == ()


def test_a_thought_comes_first_where_it_is_asked_for(chat: Session) -> None:
    reply = chat.ask("Is 12 bigger than 4?", seed=1, think=True, choices=["Yes.", "No."])
    assert (reply.text, reply.thinking) == ("Yes.", "12 > 4")
    assert chat.history[-1].content == "Yes."


def test_a_form_against_the_models_habit_is_said(chat: Session) -> None:
    """Raw, so that no thought is a way out."""
    asked = "<bos><|turn>user\nWhat is 17 + 25?<turn|>\n<|turn>model\n"
    turn = chat.turn(asked, raw=True, seed=1, pattern="#{12}", max_denoising_steps=1)
    for _ in turn:
        pass
    reply = turn.reply()
    assert reply.text == "#" * 12
    strained, unsettled = turn.remarks
    assert reply.constraint is not None
    assert_says(strained, "form", f"{reply.constraint.strain:.0f} nats")
    assert_says(unsettled, "1 of 1 canvas")


@pytest.mark.parametrize("given", [{"max_denoising_steps": 2}, {"mode": "ar"}])
def test_too_few_tokens_are_refused_with_both_numbers(chat: Session, given: Any) -> None:
    with raises(ConstraintError, "shortest answer takes 6 tokens, max_tokens is 5"):
        chat.turn("Hello", pattern="abcde", max_tokens=5, **given)
    assert chat.history == []
    exact = {**given, "max_tokens": 6, "seed": 1}
    assert chat.ask("Hello", pattern="abcde", settings=dg.Settings(**exact)).text == "abcde"


def test_a_context_that_is_too_short_is_refused_with_both_numbers(chat: Session) -> None:
    """2,048 positions, of which the prompt leaves two canvases of 64."""
    with raises(ConstraintError, "shortest answer takes 151 tokens ... 128 ... max_tokens"):
        chat.turn("x" * 1880, pattern="(abcde){30}")


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"pattern": "a", "choices": ["a"]}, "pattern and choices"),
        ({"schema": {}, "pattern": "a"}, "schema and pattern"),
        ({"pattern": "a", "stop": ["b"]}, "stop cannot go with pattern"),
        ({"tool_choice": "required"}, "tool_choice ... 'required' ... tools"),
        ({"tools": [{"name": "f"}], "raw": True}, "tools cannot go with raw"),
    ],
)
def test_what_does_not_go_together_is_refused(chat: Session, options: Any, facts: str) -> None:
    with raises(SettingsError, facts):
        chat.turn("Hello", **options)


def test_a_checkpoint_without_a_stop_id_holds_no_form(session: Session) -> None:
    with raises(ConstraintError, "stop ids [] ... control token ... eos_token_id"):
        session.turn("Hello", pattern="a")


# --- tools


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


WEATHER = "What is the weather in Rome?"
UNASKED = pytest.param("Good morning!", "weather", marks=pytest.mark.slow)


@pytest.mark.parametrize(("question", "choice"), [(WEATHER, "required"), UNASKED])
def test_a_call_that_is_required_is_made_and_read_back(
    chat: Session, question: str, choice: str
) -> None:
    reply = chat.ask(question, seed=1, tools=TOOLS, tool_choice=choice)
    assert [call.name for call in reply.tool_calls] == ["weather"]
    assert reply.constraint is not None
    assert reply.constraint.kind == "tools"


@pytest.mark.slow
def test_auto_leaves_a_call_to_the_model(chat: Session) -> None:
    asked = chat.ask(WEATHER, seed=1, tools=TOOLS)
    assert asked.constraint is None
    calls = [(call.name, call.arguments) for call in asked.tool_calls]
    assert calls == [("weather", {"city": "Rome"})]


@pytest.mark.parametrize("mode", ["diffusion", pytest.param("ar", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", [{"schema": PERSON}, {"pattern": r'\{[^"]*"name".*\n.*\n\}'}])
def test_beside_tools_an_answer_is_calls_or_fits_the_form(
    chat: Session, mode: str, form: Any
) -> None:
    kind, *_ = form
    asked = {"mode": mode, "seed": 1, "tools": TOOLS, "max_tokens": 128, **form}
    for question, calls, told in (
        (WEATHER, [("weather", {"city": "Rome"})], None),
        (ASKED, [], {"name": "Anna", "age": 23}),
    ):
        chat.reset()
        turn = chat.turn(question, **asked)
        list(turn)
        reply = turn.reply()
        assert [(call.name, call.arguments) for call in reply.tool_calls] == calls
        assert (json.loads(reply.text) if told else reply.text) == (told or "")
        assert turn.remarks == ()
        assert reply.constraint is not None
        assert reply.constraint.kind == kind
        assert reply.constraint.strain is not None
        assert reply.constraint.strain < 0.1


def test_calls_that_must_be_made_leave_a_text_no_place(chat: Session) -> None:
    reply = chat.ask(ASKED, seed=1, tools=TOOLS, tool_choice="required", schema=PERSON)
    assert [call.name for call in reply.tool_calls] == ["weather"]
    assert reply.text == ""
    assert reply.constraint is not None
    assert reply.constraint.kind == "tools"
    with raises(ConstraintError, "not"):
        chat.turn(ASKED, tools=TOOLS, tool_choice="required", schema={"not": {}})


def test_a_thought_comes_before_either(chat: Session) -> None:
    """The thought is needed, so the first token cannot tell a call from a text."""
    pattern = "[0-9]+ . [0-9]+ = [0-9]+."
    reply = chat.ask("How much is 17 + 25?", tools=TOOLS, pattern=pattern, seed=1, think=True)
    assert reply.thinking
    assert re.fullmatch(pattern, reply.text)  # which sum is the model's to say
    assert reply.tool_calls == ()


def test_an_interrupted_call_beside_a_form_goes_on(chat: Session) -> None:
    settings = dg.Settings(mode="ar", temperature=0, seed=1, max_tokens=64)
    frames = chat.stream(WEATHER, settings=settings, tools=TOOLS, schema=PERSON)
    for _ in range(12):
        next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert chat.history[-1].content == ""
    reply = chat.more(settings=settings)
    calls = [(call.name, call.arguments) for call in reply.tool_calls]
    assert calls == [("weather", {"city": "Rome"})]
    assert (reply.text, reply.finish_reason) == ("", "stop")


def test_tools_stand_in_the_prompt_and_their_names_are_checked(chat: Session) -> None:
    prompts = [
        chat.tokenizer.decode(chat.turn("Hello", tools=tools).prompt_ids)
        for tools in (None, [], TOOLS)
    ]
    assert ["declaration:weather" in prompt for prompt in prompts] == [False, False, True]
    with raises(ConstraintError, "forecast"):
        chat.turn("Hello", tools=TOOLS, tool_choice="forecast")


def test_a_template_that_leaves_tools_out_is_refused(ending: Session) -> None:
    with raises(CheckpointError, "leaves out the tool weather"):
        ending.turn("Hello", tools=TOOLS)


# --- what the model is told to say


def told(tokenizer: Tokenizer, *pieces: str) -> Session:
    """A session whose model says one answer, and its end up to the end of the canvas."""
    return talker(tokenizer, spell(tokenizer, *pieces, *["<end>"] * 32), canvas=32)


def test_a_fence_is_taken_off_the_text_and_the_history(tokenizer: Tokenizer) -> None:
    session = told(tokenizer, '```json\n{"a": 1}\n```')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    frames = list(session.stream("hello", seed=1, schema=schema))
    assert "```" in frames[-1].text
    assert session.history[-1].content == '{"a": 1}'


def test_a_thought_of_another_name_is_no_part_of_the_text(tokenizer: Tokenizer) -> None:
    session = told(tokenizer, "<|channel>", "other\nwell", "<channel|>", "yes")
    reply = session.ask("hello", seed=1, choices=["yes", "no"])
    assert (reply.text, reply.thinking) == ("yes", "well")


def test_blanks_around_a_choice_stay_also_behind_a_thought(tokenizer: Tokenizer) -> None:
    session = told(tokenizer, "<|channel>", "thought\nwell", "<channel|>", " yes ")
    assert session.ask("hello", seed=1, choices=[" yes ", "no"]).text == " yes "


def test_where_thoughts_may_come(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, [])
    forms = Forms(tokenizer, session.model.config)
    form = form_of(pattern="a")
    assert form is not None
    opening, closing = spell(tokenizer, "<|channel>", "<channel|>")

    def channel(*, think: bool = False, raw: bool = False, **prompt: Any) -> Any:
        asked = Prompt(**{"ids": [7], **prompt})
        return forms.answer_form(form, asked, think=think, raw=raw).channel

    assert channel().needed is False
    assert channel(think=True).needed is True
    assert channel(raw=True) is None
    assert channel(ids=[opening, closing]) is None
    ignored = channel(think=True, notes=(IGNORED["think"],))
    assert ignored.needed is False, "the model was not told to think"
    assert Forms(dg.load("tiny-sudoku").tokenizer, session.model.config)._channel(True) is None


@pytest.mark.slow
def test_a_puzzle_is_solved_in_its_shape() -> None:
    sudoku = dg.load("tiny-sudoku")
    puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    turn = sudoku.turn(puzzle, seed=7, pattern=r"([1-9]{9}\n){8}[1-9]{9}\n?")
    list(turn)
    assert turn.problem() is None
    assert turn.constraint_info is not None
    assert turn.constraint_info.strain is not None
    assert turn.constraint_info.strain < 0.01


def test_a_question_with_an_image_can_have_a_form(tmp_path: Path) -> None:
    folder = write_seeing(tmp_path)
    edit_json(folder / "generation_config.json", eos_token_id=STOP)
    reply = dg.load(folder).ask("what?", images=picture(1), seed=1, choices=["aa", "bb"])
    assert reply.text in ("aa", "bb")


def test_a_form_is_compiled_once_for_a_session(ending: Session) -> None:
    machines = [ending.turn("Hello", pattern=text).form for text in ("a+", "a+", "b+")]
    first, again, other = (form.machine for form in machines if form)
    assert first is again
    assert first is not other
