"""Decisions of a session: as a plain loop with full logits makes them, moved by nothing else.

The plain loop writes prompt and canvas by hand, and looks at whole rows of logits in float64.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare import assert_close
from facts import raises
from held import held, settled
from small import SIZES, picture, write_random, write_seeing

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.deciding import DecideOptions
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.decide.options import Options

STATE = "Everything is down and we have a demo at noon."
URGENT = dg.Noul("Is it urgent?")
TEAM = dg.Choice("Which team?", {"outage": None, "billing": "about money", "feature": None})
TONE = dg.Score("How angry?", ["calm", "annoyed", "furious"])
ALL = {"urgent": URGENT, "team": TEAM, "tone": TONE}
WIDE = replace(SIZES, canvas_length=48)
SAME = 1e-5


@pytest.fixture(scope="module")
def deciding_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("deciding"), WIDE)


@pytest.fixture
def session(deciding_folder: Path) -> Session:
    return dg.load(deciding_folder)


def answers(decision: dg.Decision) -> Mapping[str, Any]:
    return decision.to_json()["answers"]  # type: ignore[no-any-return]


# --- the plain loop


def plain(session: Session, system: str, user: str, canvas: str, at: int, labels: str) -> Any:
    """Mean probabilities of labels that stand at `at` of a canvas, over the samples of seed 42."""
    encode, as_text, model = session.tokenizer.encode, session.tokenizer.encode_text, session.model
    asked = [*encode("<bos><|turn>system\n"), *as_text(system), *encode("<turn|>\n<|turn>user\n")]
    asked += [*as_text(user), *encode("<turn|>\n<|turn>model\n")]  # `user` is a control token there
    tokens, found = encode(f"{canvas}<turn|>"), []
    tokens += encode("<pad>") * (-len(tokens) % 16)
    prefix = model.encode(asked)
    for sample in range(4):
        seed = 42 + 7919 * sample
        (noise,) = np.array(dg.CounterNoise(seed).canvas(0, 1, WIDE.vocab_size)).tolist()
        now = [*tokens[:at], noise, *tokens[at + 1 :]]
        logits = np.array(model.logits(model.decode(now, prefix)))[0, at].astype(np.float64)
        shares = np.exp(logits - logits.max())
        own = shares[[encode(label)[0] for label in labels]]
        found.append(own / own.sum())
    return np.mean(found, axis=0)


def test_a_decision_is_the_plain_loops(session: Session) -> None:
    """Layout own, for each type of question; the vocabulary has y and n, no whole words."""
    system = (
        "Answer a question about the state the user provides. The question lists its allowed "
        'answers; reply with exactly one label.\n\nReply with one line, formatted as "id: label".'
    )
    asked = {
        "yn": "Question 1: Is it urgent?\n  y\n  n",
        "ABC": "Question 1: Which team?\n  A: outage\n  B: billing (about money)\n  C: feature",
        "012": "Question 1: How angry?\n  0: calm\n  1: annoyed\n  2: furious",
    }
    got = answers(session.decide(STATE, ALL, layout="own"))
    want = {
        labels: plain(session, system, f"{STATE}\n\n{text}\n", f"1: {labels[0]}", 3, labels)
        for labels, text in asked.items()
    }
    assert_close(got["urgent"]["noul"], want["yn"][0], SAME, "noul")
    for name, labels in (("team", "ABC"), ("tone", "012")):
        told = list(got[name]["probabilities"].values())
        assert_close(told, want[labels], SAME, name)
    assert_close(got["tone"]["score"], want["012"] @ np.arange(3), SAME, "score")
    assert got["team"]["choice"] == list(TEAM.criteria)[int(want["ABC"].argmax())]


# --- what moves an answer


@pytest.mark.parametrize("layout", ["joint", "rows", "own"])
def test_the_same_request_gives_the_same_bytes(session: Session, layout: Any) -> None:
    """In one session, in a fresh one, and behind another state."""

    def bytes_of(session: Session) -> str:
        return json.dumps(session.decide(STATE, ALL, layout=layout, samples=2).to_json())

    first = bytes_of(session)
    session.decide("Something else.", {"urgent": URGENT}, samples=1)
    session.decide(STATE[:20], {"urgent": URGENT}, samples=1)
    assert bytes_of(session) == first
    fresh = Session(session.model, session.tokenizer, session.info, name=session.name)
    assert bytes_of(fresh) == first


def test_order_ids_and_neighbours_do_not_move_an_answer_of_layout_own(session: Session) -> None:
    whole = answers(session.decide(STATE, ALL, layout="own", samples=2))
    names = {"tone": "z", "urgent": "99: yes", "team": "판단"}
    turned = {names[name]: ALL[name] for name in names}
    again = answers(session.decide(STATE, turned, layout="own", samples=2))
    assert list(again) == list(turned)
    for name, other in names.items():
        assert again[other] == whole[name]
        alone = session.decide(STATE, {name: ALL[name]}, layout="own", samples=2)
        assert answers(alone)[name] == whole[name]


def test_the_second_question_on_a_state_encodes_only_itself(session: Session) -> None:
    first = session.decide(STATE, {"urgent": URGENT}, layout="own")
    second = session.decide(STATE, {"team": TEAM}, layout="own")
    shown = "Question 1: Which team?\n  A: outage\n  B: billing (about money)\n  C: feature"
    behind = f"{shown}<turn|>\n<|turn>model\n"
    assert second.times.encoded <= len(session.tokenizer.encode(f"\n\n{behind}\n"))
    assert first.times.encoded == first.usage.input_tokens > second.times.encoded
    assert session.decide(STATE, {"team": TEAM}, layout="own").times.encoded == 0


@pytest.mark.parametrize("layout", ["joint", "rows"])
def test_the_same_questions_on_a_second_state_encode_that_state_only(
    session: Session, layout: Any
) -> None:
    """The system text with the questions stays, whatever the first state's length was."""
    ask = partial(session.decide, questions=ALL, layout=layout, samples=1)
    for state in (STATE, "Thanks!", ".", STATE * 3):
        decision = ask(state)
        behind = session.tokenizer.encode(f"{state}<turn|>\n<|turn>model\n")
        first = state == STATE
        assert decision.times.encoded == (decision.usage.input_tokens if first else len(behind))
        fresh = Session(session.model, session.tokenizer, session.info, name=session.name)
        again = fresh.decide(state, ALL, layout=layout, samples=1)
        assert json.dumps(again.to_json()) == json.dumps(decision.to_json())


def test_a_later_stage_encodes_the_answers_of_the_first_only(session: Session) -> None:
    later = dg.Noul("Is it still?", depends_on=["urgent"])
    asked = session.decide(STATE, {"urgent": URGENT, "later": later}, samples=1)
    empty = "<|channel>thought\n<channel|>1: y"
    assert asked.times.encoded <= asked.usage.input_tokens + len(session.tokenizer.encode(empty))


def test_the_conversation_stays_as_it_is(session: Session) -> None:
    settings = dg.Settings(seed=3, max_tokens=48)
    session.ask("Hello", settings=settings, raw=True)
    prefix, history = session.prefix, session.history
    assert prefix is not None
    tokens, keys = list(prefix.tokens), [np.array(key) for key in prefix.keys]
    session.decide(STATE, ALL, samples=1)
    assert session.prefix is prefix
    assert (prefix.tokens, session.history) == (tokens, history)
    for key, before in zip(prefix.keys, keys, strict=True):
        assert np.array_equal(np.array(key), before)


@pytest.mark.slow
def test_memory_is_flat_over_decisions(session: Session) -> None:
    """Of three states in turn; arrays of the host come and go, a few kilobytes of 0.7 MB."""
    left, before = list[int](), settled()
    for number in range(12):
        session.decide(f"{STATE} {number % 3}", {"urgent": URGENT}, samples=2, layout="own")
        left.append(held() - before)
    assert max(left[6:]) <= 1.02 * max(left[:6])


# --- images


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return dg.load(write_seeing(tmp_path_factory.mktemp("seeing"), WIDE))


def test_images_stand_in_front_of_the_state(seeing: Session) -> None:
    """They are read, and kept with the state."""

    def noul(seed: int) -> tuple[float, int]:
        decision = seeing.decide(
            STATE, {"urgent": URGENT}, images=picture(seed), layout="own", samples=1
        )
        return answers(decision)["urgent"]["noul"], decision.times.encoded

    (first, encoded), (other, _) = noul(1), noul(2)
    assert first != other
    assert noul(1)[0] == first
    plain = seeing.decide(STATE, {"urgent": URGENT}, layout="own", samples=1)
    assert encoded == plain.times.encoded + 6  # four soft tokens, a begin and an end


def test_a_text_that_looks_like_an_image_is_text(seeing: Session) -> None:
    """With an image, which stands where the template has it, and without."""
    for images in ((), picture(1)):
        plain, found = (
            seeing.decide(f"what is {text}?", {"urgent": URGENT}, images=images, samples=1)
            for text in ("<_image_>", "<|image|>")
        )
        assert found.usage == plain.usage


def test_images_for_a_checkpoint_that_sees_none(session: Session) -> None:
    with raises(dg.RequestError, "images ... 1 image"):
        session.decide(STATE, {"urgent": URGENT}, images=picture(1))


# --- what cannot be asked


def test_what_is_no_question(session: Session) -> None:
    with raises(dg.RequestError, "questions ... empty"):
        session.decide(STATE, {})
    with raises(dg.SettingsError, "steps ... 9 ... 1 to 8"):
        session.decide(STATE, ALL, steps=9)
    with raises(dg.RequestError, "state ... 4,096"):
        session.decide("x" * 5000, ALL)


def test_a_template_that_drops_the_system_text(tmp_path: Path) -> None:
    deaf = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    session = dg.load(write_seeing(tmp_path, WIDE, deaf))
    with raises(dg.CheckpointError, "chat_template.jinja"):
        session.decide(STATE, ALL)


def test_the_settings_have_the_names_of_options() -> None:
    assert set(DecideOptions.__annotations__) == set(vars(Options()))


# --- tiny-chat


@pytest.mark.slow
def test_tiny_chat_keeps_the_contract() -> None:
    """Its labels are single characters and it never saw such a prompt: no word of accuracy."""
    session = dg.load("tiny-chat")
    for layout in ("joint", "rows", "own"):
        made = session.decide(STATE, ALL, layout=layout)
        again = session.decide(STATE, ALL, layout=layout)
        assert json.dumps(made.to_json()) == json.dumps(again.to_json())
        told = answers(made)
        assert list(told) == list(ALL)
        assert 0 <= told["urgent"]["noul"] <= 1
        for name in ("team", "tone"):
            assert sum(told[name]["probabilities"].values()) == pytest.approx(1)
    thought = session.decide(STATE, {"urgent": URGENT}, think=64, samples=1)
    assert 0 < thought.usage.output_tokens <= 64
    steps = session.decide(STATE, {"urgent": URGENT}, steps=4, samples=1)
    assert 0 <= answers(steps)["urgent"]["noul"] <= 1
