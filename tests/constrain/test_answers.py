"""Random logits through the whole chain, with hardly enough tokens: always valid, and in time."""

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest
from answering import CLOSING, FILLER, OPENING, STOP, TEXTS, answered, written
from random_schemas import SCHEMAS, random_schema

from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.form import compiled, form_of, stripped
from mlx_diffgemma.constrain.machine import Channel
from mlx_diffgemma.constrain.tables import vocabulary_of

VOCABULARY = vocabulary_of(TEXTS)
SCALES = [1, 8, 40]


def check(schema: Any, seed: int) -> None:
    rng, form = np.random.default_rng(seed), form_of(schema=schema)
    assert form is not None
    channel = Channel(OPENING, CLOSING) if seed % 3 == 0 else None
    made = compiled(form, VOCABULARY, (STOP,), (FILLER, STOP), channel)
    need = int(made.distance[made.start])
    rule, shape = Constraint(made, need + seed % 7), (1 + seed % 13, len(TEXTS))
    tokens = answered(rule, lambda: rng.normal(size=shape) * SCALES[seed % 3])
    assert len(tokens) <= need + seed % 7
    value = json.loads(stripped(written(tokens)))
    jsonschema.Draft202012Validator(schema).validate(value)


def test_schemas_on_random_logits() -> None:
    for seed in range(6):
        check(random_schema(random.Random(seed), 2), seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_schemas_on_random_logits(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        check(random_schema(random.Random(seed), 2), seed)


@pytest.fixture(scope="module")
def large() -> Any:
    """A vocabulary of the real one's size: bytes, pieces of JSON, and random words."""
    rng, many = np.random.default_rng(0), 262_144 - len(TEXTS)
    letters = np.frombuffer(b' etaoinshr"{}[]:,.0123456789_-\\\n', np.uint8)
    text = letters[rng.integers(0, len(letters), 1 << 20)].tobytes()
    begins, lengths = rng.integers(0, len(text) - 9, many), rng.integers(2, 7, many)
    pairs = zip(begins.tolist(), lengths.tolist(), strict=True)
    return [*TEXTS, *(text[begin : begin + length] for begin, length in pairs)]


def test_a_vocabulary_of_the_real_size(large: Any, monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vocabulary = vocabulary_of(large)
    assert len(vocabulary) == 262_144
    random = np.random.default_rng(1)
    row = random.normal(0, 8, len(vocabulary)).astype(np.float32)
    form = form_of(schema=SCHEMAS["verdict"])
    assert form is not None
    made = compiled(form, vocabulary, (STOP,), (FILLER, STOP))
    rule = Constraint(made, int(made.distance[made.start]) + 5)
    tokens = answered(
        rule, lambda: np.stack([np.roll(row, by) for by in random.integers(0, len(row), 16)])
    )
    value = json.loads(stripped(written(tokens, large)))
    jsonschema.Draft202012Validator(SCHEMAS["verdict"]).validate(value)
