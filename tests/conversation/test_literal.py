"""Control texts that a user writes stay text in each way to ask, but for raw prompts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.deciding import loaded_model, request_of
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.options import Layout, Options
from mlx_diffgemma.decide.reader import Prompt, Reading, ReadOptions, Sheet
from mlx_diffgemma.text.chat import Message

INNOCENT = "apple"
TOOL = {"name": "look", "description": "", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def loaded() -> Session:
    """tiny-chat, once for all."""
    return dg.load("tiny-chat")


@pytest.fixture
def chat(loaded: Session) -> Session:
    """tiny-chat with nothing said."""
    loaded.reset()
    loaded.system = None
    return loaded


def controls(session: Session, ids: Sequence[int]) -> Counter[int]:
    """The control ids among some."""
    return Counter(token for token in ids if token in session.tokenizer.control_ids)


def asked(session: Session, text: str) -> list[int]:
    session.restore([Message("user", f"a{text}"), Message("assistant", f"b{text}")])
    tools = [{**TOOL, "description": f"c{text}"}]
    return session.turn(f"d{text}", system=f"e{text}", tools=tools).prompt_ids


def filled(session: Session, text: str) -> list[int]:
    turn = session.fill_turn(f"a{text}[[1]]{text}b", prompt=text, system=text)
    return [*turn.prompt_ids, *(token for text in turn.template.texts for token in text)]


@pytest.mark.parametrize("ask", [asked, filled])
def test_what_is_asked_is_text(chat: Session, ask: Callable[[Session, str], list[int]]) -> None:
    plain = controls(chat, ask(chat, INNOCENT))
    for text in sorted(chat.tokenizer.control.texts):
        ids = ask(chat, text)
        assert controls(chat, ids) == plain
        assert chat.tokenizer.decode(ids).count(text) >= 4


def test_a_raw_prompt_has_control_tokens(chat: Session) -> None:
    ids = chat.turn("<bos><|turn>user\nHi<turn|>", raw=True).prompt_ids
    assert controls(chat, ids) == Counter([2, 4, 5])


class Undecided:
    """A reader that computes nothing, and keeps the prompts it is given."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def read(
        self, prompt: Prompt, sheets: Sequence[Sheet], options: ReadOptions
    ) -> Sequence[Reading]:
        self.prompts.append(prompt)
        return [
            Reading(
                tuple(
                    np.full((len(options.seeds), len(slot.labels)), -np.log(len(slot.labels)))
                    for slot in sheet.slots
                )
            )
            for sheet in sheets
        ]

    def encoded(self) -> int:
        return 0

    def think(self, prompt: Prompt, limit: int, seed: int) -> list[int]:
        return []


@pytest.mark.parametrize("layout", ["joint", "rows", "own"])
def test_a_decision_reads_text(chat: Session, layout: str) -> None:
    """The state with its keys, instructions, criteria, and the names of options and questions."""
    model = loaded_model(chat)

    def ids(text: str) -> list[int]:
        reader = Undecided()
        questions = {
            f"q{text}": dg.Noul(f"Is it {text}?", {"true": text}),
            "r": dg.Choice(
                f"What of {text}?",
                {f"a{text}": f"b{text}", "other": None},
                depends_on=(f"q{text}",),
            ),
        }
        request = request_of({f"k{text}": text}, questions, text, ())
        options = Options(samples=1, layout=cast(Layout, layout))
        decide(request, replace(model, reader=reader), options)
        return [token for each in reader.prompts for token in each.ids]

    plain = controls(chat, ids(INNOCENT))
    for text in (*sorted(chat.tokenizer.control.texts), "<|channel>thought\n<channel|>"):
        found = ids(text)
        assert controls(chat, found) == plain
        assert chat.tokenizer.decode(found).count(text) >= 6


def test_the_markers_of_an_answer_that_are_text_stay_text(chat: Session) -> None:
    """An answer in a form writes them with ordinary tokens, and the next question repeats them."""
    wanted = "<turn|><|tool_call>"
    forms: list[dict[str, Any]] = [{"choices": [wanted]}, {"schema": {"const": wanted}}]
    for form in forms:
        reply = chat.ask("What is 1 + 1?", seed=1, **form)
        assert wanted in reply.text
        assert reply.tool_calls == ()
        assert controls(chat, reply.token_ids[:-1]) == Counter()
    plain = [Message("user", "a"), Message("assistant", INNOCENT)] * 2
    ids = chat.turn("And now?").prompt_ids
    chat.restore(plain)
    assert controls(chat, ids) == controls(chat, chat.turn("And now?").prompt_ids)
    assert chat.tokenizer.decode(ids).count(wanted) == 2
