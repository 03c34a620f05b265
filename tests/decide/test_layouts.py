"""Layouts: the texts of prompts and canvases, and what one question sees of the others."""

import re
from collections.abc import Mapping
from typing import Any, cast

import pytest
from fakes import CHARACTERS, PAD, TURN_END, WORDS, FakeReader, FakeTexts, fake_model

import mlx_diffgemma as dg
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.options import Options
from mlx_diffgemma.decide.reader import LoadedModel
from mlx_diffgemma.decide.request import read_request

STATE = "Everything is down."
URGENT = dg.Noul("Reply now?", {"true": "they wait"})
TEAM = dg.Choice("Which team?", {"outage": "all is down", "billing": None})
TONE = dg.Score("How angry?", ["calm", "furious"])
ALL = {"urgent": URGENT, "team": TEAM, "tone": TONE}

JOINT = """\
<|turn>system
Answer a fixed set of questions about the state the user provides. Each question lists its \
allowed answers; reply with exactly one label per question.

Question 1: Reply now?
  yes: they wait
  no

Question 2: Which team?
  A: outage (all is down)
  B: billing

Question 3: How angry?
  0: calm
  1: furious

Reply with one line per question, in this order, formatted as "id: label".<turn|>
<|turn>user
Everything is down.<turn|>
<|turn>model
"""
OWN = """\
<|turn>system
Answer a question about the state the user provides. The question lists its allowed answers; \
reply with exactly one label.

Reply with one line, formatted as "id: label".<turn|>
<|turn>user
Everything is down.

Question 1: Which team?
  A: outage (all is down)
  B: billing
<turn|>
<|turn>model
"""


def asked(
    questions: Mapping[str, Any],
    layout: str,
    model: LoadedModel | None = None,
    state: str = STATE,
    **options: Any,
) -> tuple[dg.Decision, FakeReader, FakeTexts]:
    """The decision, and the reader that was asked."""
    model = model or fake_model()
    request = read_request({"state": state, "questions": questions})
    options = {"samples": 1, **options}
    decision = decide(request, model, Options(layout=cast(Any, layout), **options))
    return decision, cast(FakeReader, model.reader), cast(FakeTexts, model.texts)


def canvases(reader: FakeReader, texts: FakeTexts) -> list[str]:
    """The canvases without their padding."""
    return [texts.text(each.tokens).replace("<pad>", "") for each in reader.sheets]


def test_joint_asks_everything_at_once_in_the_published_words() -> None:
    _, reader, texts = asked(ALL, "joint")
    assert [texts.text(prompt.ids) for prompt in reader.prompts] == [JOINT]
    thought = "<|channel>thought\n<channel|>"
    assert canvases(reader, texts) == [f"{thought}1: yes\n2: A\n3: 0<turn|>"]


def test_rows_has_a_canvas_for_each_question_behind_the_same_prompt() -> None:
    _, reader, texts = asked(ALL, "rows")
    (prompt,) = reader.prompts
    some = " A reply may cover only some of the questions; answer every line that is present."
    assert texts.text(prompt.ids) == JOINT.replace('"id: label".', f'"id: label".{some}')
    thought = "<|channel>thought\n<channel|>"
    wanted = [f"{thought}{line}<turn|>" for line in ("1: yes", "2: A", "3: 0")]
    assert canvases(reader, texts) == wanted


def test_own_asks_one_question_behind_the_state() -> None:
    _, reader, texts = asked(ALL, "own")
    assert texts.text(reader.prompts[1].ids) == OWN
    assert canvases(reader, texts)[1] == "<|channel>thought\n<channel|>1: A<turn|>"


def test_one_question_is_the_same_in_joint_and_in_rows() -> None:
    joint, rows = (asked({"t": TEAM}, layout)[0] for layout in ("joint", "rows"))
    assert joint.answers == rows.answers


def test_a_slot_is_where_the_label_stands_and_a_digit_is_one_further() -> None:
    _, reader, texts = asked(ALL, "joint")
    (sheet,) = reader.sheets
    said = [[texts.text([label]) for label in slot.labels] for slot in sheet.slots]
    assert said == [[" yes", " no"], [" A", " B"], ["0", "1"]]
    firsts = [slot.labels[0] for slot in sheet.slots]
    assert [sheet.tokens[slot.position] for slot in sheet.slots] == firsts
    assert texts.text(sheet.tokens[: sheet.slots[2].position]).endswith("3: ")


def test_a_canvas_is_padded_to_a_multiple_of_sixteen() -> None:
    for count, width in ((1, 16), (3, 16), (4, 32), (10, 48)):
        _, reader, _ = asked({str(i): URGENT for i in range(count)}, "joint")
        (sheet,) = reader.sheets
        assert len(sheet.tokens) == width
        end = sheet.tokens.index(TURN_END)
        assert set(sheet.tokens[end + 1 :]) <= {PAD}


def test_many_questions_are_answered_on_one_line_without_ids() -> None:
    _, reader, texts = asked({f"q{i}": URGENT for i in range(11)}, "joint")
    (canvas,) = canvases(reader, texts)
    assert canvas.endswith("1yes 2yes 3yes 4yes 5yes 6yes 7yes 8yes 9yes 10yes 11yes<turn|>")
    assert "immediately followed by its label" in texts.text(reader.prompts[0].ids)


def test_what_one_canvas_cannot_hold_is_asked_in_several_with_own_prompts() -> None:
    model = fake_model(canvas_length=16)
    decision, reader, texts = asked({f"q{i}": TEAM for i in range(5)}, "joint", model, samples=2)
    assert len(decision.answers) == 5
    shown = [texts.text(prompt.ids).count("Question") for prompt in reader.prompts]
    assert shown == [3, 2]
    assert {len(sheet.tokens) for sheet in reader.sheets} == {16}
    seeds = [options.seeds for options in reader.options]
    assert seeds == [(42, 7961), (104771, 112690)]


def test_a_question_that_wants_to_be_alone_has_a_canvas_of_its_own() -> None:
    questions = {"a": URGENT, "b": dg.Noul("Alone?", alone=True), "c": URGENT}
    _, reader, _ = asked(questions, "joint")
    assert [len(sheet.slots) for sheet in reader.sheets] == [1, 1, 1]


def test_an_answer_that_no_canvas_holds_is_refused() -> None:
    with pytest.raises(dg.RequestError, match=r"needs 8 positions, and .* has 7"):
        asked({"q": URGENT}, "joint", fake_model(canvas_length=7))


def test_a_label_that_is_another_token_further_down_is_refused() -> None:
    """Labels are tried with two answers; on this canvas the third one's is not one token."""
    model = fake_model(re.compile(f"3: A|{WORDS.pattern}", re.DOTALL))
    assert asked({"a": TEAM, "b": TEAM}, "joint", model)[0].answers
    with pytest.raises(dg.RequestError, match="do not share one token's place"):
        asked({"a": TEAM, "b": TEAM, "c": TEAM}, "joint", model)


def test_a_checkpoint_without_thoughts_has_none_on_its_canvas() -> None:
    model = fake_model(CHARACTERS, thought=None)
    _, reader, texts = asked({"q": URGENT}, "joint", model)
    assert canvases(reader, texts) == ["1: y<turn|>"]


class Opened(FakeTexts):
    """A template that writes the empty thought itself, as the one of the launch does."""

    def prompt(self, system: Any, user: Any, *, think: bool) -> Any:
        return (
            super()
            .prompt(system, user, think=think)
            .extended(self.encode("<|channel>thought\n<channel|>"))
        )


def test_a_thought_that_the_template_writes_is_not_written_again() -> None:
    texts = Opened()
    model = fake_model(reader=FakeReader(texts), texts=texts)
    _, reader, _ = asked({"q": URGENT}, "joint", model)
    assert canvases(reader, texts) == ["1: yes<turn|>"]


@pytest.mark.parametrize("layout", ["joint", "rows", "own"])
def test_ids_never_reach_the_model(layout: str) -> None:
    names = ["zz-renamed.1", "Q 🙂", "x: y\nz"]
    plain, _, _ = asked(ALL, layout)
    renamed, reader, texts = asked(dict(zip(names, ALL.values(), strict=True)), layout)
    assert list(renamed.answers) == names
    assert list(renamed.answers.values()) == list(plain.answers.values())
    seen = "".join(texts.text(prompt.ids) for prompt in reader.prompts)
    assert not any(name in seen for name in names)


def test_in_own_no_other_question_moves_an_answer() -> None:
    alone = {name: asked({name: each}, "own")[0].answers[name] for name, each in ALL.items()}
    for questions in (ALL, dict(reversed(ALL.items())), {**ALL, "x": TONE, "y": TEAM, "z": URGENT}):
        decision, _, _ = asked(questions, "own")
        assert {name: decision.answers[name] for name in ALL} == alone


def test_the_fake_model_would_notice_other_questions() -> None:
    """Without that the test above would show nothing."""
    for layout in ("joint", "rows"):
        together, apart = (asked(each, layout)[0] for each in (ALL, {"tone": TONE}))
        assert together.answers["tone"] != apart.answers["tone"]


def test_in_own_the_state_is_said_to_be_shared_and_nothing_behind_it() -> None:
    _, reader, texts = asked(ALL, "own")
    shared = {texts.text(prompt.ids[: prompt.shared[0]]) for prompt in reader.prompts}
    (state,) = shared
    assert state.endswith("Everything is down.\n\n")


@pytest.mark.parametrize("layout", ["joint", "rows"])
@pytest.mark.parametrize("state", [STATE, ". !", "!", ""])
def test_what_all_states_share_is_the_system_text(layout: str, state: str) -> None:
    _, reader, texts = asked(ALL, layout, state=state)
    (prompt,) = reader.prompts
    system = texts.text(prompt.ids[: prompt.shared[0]])
    assert system.endswith("<turn|>\n<|turn>user\n")
    assert texts.text(prompt.ids).startswith(f"{system}{state}<turn|>")


def test_a_later_stage_shares_the_whole_prompt_of_the_first() -> None:
    later = dg.Noul("Still?", depends_on=["urgent"])
    _, reader, _ = asked({"urgent": URGENT, "later": later}, "joint")
    first, second = reader.prompts
    assert second.shared == (*first.shared, len(first.ids))


def test_usage_counts_what_prompts_share_once() -> None:
    one, reader, _ = asked({"a": URGENT}, "own")
    two, _, _ = asked({"a": URGENT, "b": URGENT}, "own")
    assert one.usage.input_tokens == one.usage["input_tokens"] == len(reader.prompts[0].ids)
    assert two.usage == one.usage
    other, _, _ = asked({"a": URGENT, "b": TEAM}, "own")
    assert one.usage.input_tokens < other.usage.input_tokens < 2 * one.usage.input_tokens


def test_a_state_beyond_the_context_is_refused_with_both_counts_before_any_read() -> None:
    model = fake_model(context_length=300)
    with pytest.raises(dg.RequestError, match=r"takes \d+ positions .* has 300") as caught:
        asked(ALL, "joint", model)
    assert caught.value.status == 413
    assert model.reader.encoded() == 0


def test_an_object_is_told_as_json_with_every_character_kept() -> None:
    model = fake_model()
    request = read_request({"state": {"é": ["日本", 1.5]}, "questions": {"q": URGENT}})
    decide(request, model)
    prompt = cast(FakeReader, model.reader).prompts[0]
    assert '{"é": ["日本", 1.5]}' in cast(FakeTexts, model.texts).text(prompt.ids)


@pytest.mark.parametrize("layout", ["joint", "rows", "own"])
def test_instructions_stand_before_the_questions(layout: str) -> None:
    model = fake_model()
    body = {"state": STATE, "questions": ALL, "instructions": " Be strict. "}
    request = read_request(body)
    decide(request, model, request.options(layout=layout))
    text = cast(FakeTexts, model.texts).text(cast(FakeReader, model.reader).prompts[0].ids)
    assert "\n\nBe strict.\n\n" in text.partition("<|turn>user")[0]
