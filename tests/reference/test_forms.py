"""Forms against llguidance, another program that reads JSON schemas and regular expressions.

What an automaton of this project accepts, llguidance must accept; it comes with mlx-vlm. It takes
fewer spellings of a string (no U+007F, no escaped slash) and no 30 February, so that values are
spelled anew before it judges them.
"""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from random_schemas import SCHEMAS, instance, random_schema, spellings
from schema_patterns import schema_pattern
from test_regex import ALPHABET, random_regex
from walks import text_of, walks

from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.regex import parse_regex

pytestmark = pytest.mark.reference
llguidance = pytest.importorskip("llguidance", reason="llguidance comes with mlx-vlm")


def judge(grammar: str) -> Callable[[str], bool]:
    """True for a text that is whole under a grammar, a byte a token."""
    tokenizer = llguidance.LLTokenizer("byte")

    def accepts(text: str) -> bool:
        matcher, ids = llguidance.LLMatcher(tokenizer, grammar), list(text.encode())
        return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())

    return accepts


def schema_judge(schema: Any) -> Callable[[str], bool] | None:
    """None for a schema that llguidance does not take."""
    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
        return None if llguidance.LLMatcher.validate_grammar(grammar) else judge(grammar)
    except ValueError:
        return None


def shortest(number: str) -> int | float:
    """13 for 13.0, which llguidance does not take where both bounds are 13."""
    value = float(number)
    return int(value) if value.is_integer() and "e" not in number.lower() else value


def agree(schema: Any, seed: int, count: int) -> bool:
    accepts = schema_judge(schema)
    if accepts is None or '"date' in json.dumps(schema):
        return False
    dfa = compile_pattern(schema_pattern(schema), 60_000)
    for text in map(text_of, walks(dfa, count, seed)):
        value = json.loads(text, parse_float=shortest)
        again = json.dumps(value, ensure_ascii=False)
        if "\x7f" not in again:
            assert dfa.matches(again), (schema, again)
            assert accepts(again), (schema, again)
    source = random.Random(seed)
    for _ in range(count):
        for text in spellings(instance(schema, schema, source)):
            assert dfa.matches(text), (schema, text)
    return True


def test_kept_schemas() -> None:
    judged = [name for name, schema in SCHEMAS.items() if name != "tweet" and agree(schema, 0, 10)]
    assert len(judged) >= 7, judged


def test_random_schemas() -> None:
    judged = sum(agree(random_schema(random.Random(seed)), seed, 5) for seed in range(200))
    assert judged > 150


def test_regular_expressions() -> None:
    """Both ways: texts at random are accepted by both or by none."""
    source, judged = random.Random(0), 0
    for _ in range(500):
        text = random_regex(source)
        if re.search(r"\?P<|[?*+}]\?|\\[dsW]|\.", text):  # Unicode's classes, another dot
            continue
        accepts = judge(llguidance.LLMatcher.grammar_from_regex(text))
        dfa = compile_pattern(parse_regex(text))
        judged += 1
        for _ in range(60):
            tried = "".join(source.choice(ALPHABET) for _ in range(source.randint(0, 5)))
            assert dfa.matches(tried) == accepts(tried), (text, tried)
    assert judged > 20
