"""All kept schemas and a tool call with the released model's 262,144 tokens, on random logits."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from answering import answered
from random_schemas import SCHEMAS

from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.form import compiled, ending, form_of, stripped, tools_form
from mlx_diffgemma.constrain.machine import Channel, Machine
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.constrain.vocabulary import Vocabulary
from mlx_diffgemma.text.answer import Answer
from mlx_diffgemma.text.reader import parse_answer
from mlx_diffgemma.text.token_bytes import token_bytes
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.tokenizer

STOPS, FILLERS = (1, 106, 50), (0, 1, 106)
SPARE = 30  # tokens more than the shortest answer takes


@pytest.fixture(scope="module")
def real(real_folder: Path) -> Tokenizer:
    return load_tokenizer(real_folder)


@pytest.fixture(scope="module")
def vocabulary(real: Tokenizer) -> Vocabulary:
    return vocabulary_of(token_bytes(real, 262_144))


def tokens_of(made: Machine, seed: int) -> list[int]:
    """An answer on random logits of all tokens, a canvas of 64 at a time."""
    random = np.random.default_rng(seed)
    row = random.normal(0, 8, len(made.of)).astype(np.float32)
    rule = Constraint(made, int(made.distance[made.start]) + SPARE)
    tokens = answered(
        rule, lambda: np.stack([np.roll(row, by) for by in random.integers(0, len(row), 64)])
    )
    end = next(i for i, token in enumerate(tokens) if token in STOPS)
    return tokens[:end]


@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_are_valid(name: str, real: Tokenizer, vocabulary: Vocabulary) -> None:
    form = form_of(schema=SCHEMAS[name])
    assert form is not None
    stops = ending(STOPS, vocabulary)
    tokens = tokens_of(compiled(form, vocabulary, stops, FILLERS), 1)
    text = real.decode(tokens)
    assert text == b"".join(vocabulary.texts[t] or b"" for t in tokens).decode()
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(json.loads(stripped(text)))


def test_a_thought_may_come_first(real: Tokenizer, vocabulary: Vocabulary) -> None:
    form = form_of(choices=["yes", "no"])
    assert form is not None
    channel = Channel(100, 101, needed=True)
    tokens = tokens_of(compiled(form, vocabulary, STOPS, FILLERS, channel), 2)
    assert tokens[0] == 100
    assert real.decode(tokens[tokens.index(101) + 1 :]) in ("yes", "no")


def test_calls_are_read_back(real: Tokenizer, vocabulary: Vocabulary) -> None:
    tools = [
        {"name": name, "parameters": schema}
        for name, schema in SCHEMAS.items()
        if name in ("article", "invoice", "weather-call")
    ]
    marks = {name: real.id_of(name) for name in ("<|tool_call>", "<tool_call|>", '<|"|>')}
    ids = {name: index for name, index in marks.items() if index is not None}
    made = compiled(tools_form(tools, "required"), vocabulary, STOPS, FILLERS, None, ids)
    for seed in range(3):
        answer: Answer = parse_answer(real, tokens_of(made, seed))
        assert answer.text == ""
        for call in answer.tool_calls:
            jsonschema.Draft202012Validator(SCHEMAS[call.name]).validate(call.arguments)
        assert answer.tool_calls
