"""Classes against the automaton run on each token by itself; the trie against the texts."""

import numpy as np
import pytest
from random_schemas import SCHEMAS
from schema_patterns import schema_pattern

from mlx_diffgemma.constrain.classes import token_classes
from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.nfa import TooLargeError
from mlx_diffgemma.constrain.regex import parse_regex
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.constrain.vocabulary import Vocabulary

JSON = '{"name": "Bob é€", "age": 12.5e+3,\n\t"tags": [true, false, null]}, \\u00e9 \\" '


def random_vocabulary(seed: int, size: int) -> Vocabulary:
    """A control token, every byte, and random pieces of JSON text, some of them twice."""
    rng = np.random.default_rng(seed)
    source = (JSON * 3).encode() + bytes(range(256))
    texts = [None, *(bytes((b,)) for b in range(256))]
    for _ in range(size):
        begin = int(rng.integers(len(source) - 9))
        texts.append(source[begin : begin + int(rng.integers(1, 9))])
    return vocabulary_of(texts)


def check_classes(name: str) -> None:
    dfa = compile_pattern(schema_pattern(SCHEMAS[name]))
    vocab = random_vocabulary(1, 300)
    found = token_classes(vocab.trie, dfa)
    states = np.unique(np.random.default_rng(0).integers(0, dfa.num_states, 40))
    for token, text in enumerate(vocab.texts):
        if text is None:
            assert found.of[token] == 0
            continue
        leads = found.rows[found.of[token]][states].tolist()
        assert [dfa.run(text, int(s)) for s in states] == leads
    assert len(np.unique(found.rows, axis=0)) == len(found.rows)


@pytest.mark.parametrize("name", ["verdict", "weather-call"])
def test_a_row_is_what_the_automaton_does(name: str) -> None:
    check_classes(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_row_is_what_the_automaton_does_for_all(name: str) -> None:
    check_classes(name)


def test_the_trie_keeps_every_text() -> None:
    vocab = random_vocabulary(2, 3000)
    trie = vocab.trie
    for token, text in enumerate(vocab.texts):
        if text is None:
            assert trie.token_level[token] == -1
            continue
        read, node = [], trie.token_node[token]
        for level in range(int(trie.token_level[token]), -1, -1):
            read.append(int(trie.levels[level].byte[node]))
            node = trie.levels[level].parent[node]
        assert bytes(reversed(read)) == text


def test_tokens_that_lead_alike_are_one_class() -> None:
    texts = [b"c", b"ca", b"at", b"ar", b"t", b"r", b"s", b"ts", b"rs", None, b"x", b""]
    dfa = compile_pattern(parse_regex("(cat|car)s?"))
    found = token_classes(vocabulary_of(texts).trie, dfa)
    assert found.of[9] == found.of[10] == found.of[11] == 0
    assert found.of[2] == found.of[3]  # after "c" both lead to where an s may follow
    assert found.of[4] == found.of[5]
    assert found.of[7] == found.of[8]
    assert len(set(found.of.tolist())) == 7


def test_too_many_classes_are_refused() -> None:
    dfa = compile_pattern(parse_regex("[a-z]{20}x|.*"))
    with pytest.raises(TooLargeError, match="more than 12 classes"):
        token_classes(random_vocabulary(0, 500).trie, dfa, max_rows=12)


def test_what_tokens_can_write() -> None:
    vocab = vocabulary_of([b"ab", b"abc", b"d", None, b"cd"])
    assert all(map(vocab.can_write, (b"", b"abcd", b"abcabd", b"dd")))
    assert not any(map(vocab.can_write, (b"a", b"abx", b"abcc")))
    assert len(vocab) == 5
    assert vocab.writes.tolist() == [True, True, True, False, True]


def test_a_vocabulary_is_its_texts_in_order() -> None:
    one, same, other = (vocabulary_of(t) for t in ([b"a", None], [b"a", b""], [None, b"a"]))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert vocabulary_of([b"ab", b"c"]) != vocabulary_of([b"a", b"bc"])
    assert vocabulary_of([]).trie.levels == ()
