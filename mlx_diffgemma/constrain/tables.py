"""What is computed once for a vocabulary, and once for a form and a vocabulary: kept on disk."""

from collections.abc import Sequence
from functools import lru_cache
from weakref import ref

import numpy as np

from .cache import Arrays, recall, store
from .calls import without_quotes
from .classes import TokenClasses, token_classes
from .dfa import Dfa, compile_pattern
from .request import Form
from .vocabulary import Level, Trie, Vocabulary, digest_of, trie_of

SMALL = 10_000  # tokens: a smaller vocabulary is computed as fast as it is read
KEPT = 16  # forms whose tables stay in memory
TRIE = {"parent": "i", "byte": "u", "sizes": "i", "token_level": "i", "token_node": "i"}
TABLES = {"table": "i", "symbol_class": "i", "accepts": "b", "marks": "U", "of": "i", "rows": "i"}


def vocabulary_of(texts: Sequence[bytes | None]) -> Vocabulary:
    """The vocabulary whose token i writes texts[i]; None, or nothing, for no text."""
    kept = tuple(text or None for text in texts)
    digest = digest_of(kept)
    if len(kept) < SMALL:
        return Vocabulary(kept, digest, trie_of(kept))
    trie = _stored_trie(recall("trie", digest, TRIE), len(kept))
    if trie is None:
        trie = trie_of(kept)
        store("trie", digest, _trie_arrays(trie))
    return Vocabulary(kept, digest, trie)


def tables_of(form: Form, vocabulary: Vocabulary) -> tuple[Dfa, TokenClasses]:
    """A form's automaton, and the classes of a vocabulary's tokens; errors as compile_pattern's.

    Tables stay in memory, the vocabulary does not: one of 262,144 tokens takes 32 MB.
    """
    return kept_tables(form, ref(vocabulary))


@lru_cache(maxsize=KEPT)
def kept_tables(form: Form, referred: "ref[Vocabulary]") -> tuple[Dfa, TokenClasses]:
    """As above, of a vocabulary that is there; references to equal ones are equal."""
    vocabulary = referred()
    assert vocabulary is not None
    if len(vocabulary) < SMALL:
        return _computed(form, vocabulary)
    key = f"{form.kind}\n{form.calls}\n{form.key}\n{vocabulary.digest}"
    tables = _stored_tables(recall("form", key, TABLES), len(vocabulary))
    if tables is None:
        tables = _computed(form, vocabulary)
        store("form", key, _table_arrays(*tables))
    return tables


@lru_cache(maxsize=KEPT)
def automaton_of(form: Form) -> Dfa:
    """A form's automaton over bytes, which no vocabulary matters for; errors as above."""
    dfa = compile_pattern(form.pattern)
    return without_quotes(dfa) if form.calls else dfa


def _computed(form: Form, vocabulary: Vocabulary) -> tuple[Dfa, TokenClasses]:
    dfa = automaton_of(form)
    return dfa, token_classes(vocabulary.trie, dfa)


def _trie_arrays(trie: Trie) -> Arrays:
    return {
        "parent": np.concatenate([level.parent for level in trie.levels]),
        "byte": np.concatenate([level.byte for level in trie.levels]),
        "sizes": np.array([len(level.byte) for level in trie.levels]),
        "token_level": trie.token_level,
        "token_node": trie.token_node,
    }


def _stored_trie(arrays: Arrays | None, size: int) -> Trie | None:
    if arrays is None or len(arrays["token_level"]) != size:
        return None
    cuts = np.cumsum(arrays["sizes"])[:-1]
    levels = zip(np.split(arrays["parent"], cuts), np.split(arrays["byte"], cuts), strict=True)
    return Trie(
        tuple(Level(parent, byte) for parent, byte in levels),
        arrays["token_level"],
        arrays["token_node"],
    )


def _table_arrays(dfa: Dfa, classes: TokenClasses) -> Arrays:
    return {
        "table": dfa.table,
        "symbol_class": dfa.symbol_class,
        "accepts": dfa.accepts,
        "marks": np.array(dfa.marks, np.str_),
        "of": classes.of,
        "rows": classes.rows,
    }


def _stored_tables(arrays: Arrays | None, size: int) -> tuple[Dfa, TokenClasses] | None:
    if arrays is None or len(arrays["of"]) != size:
        return None
    marks = tuple(map(str, arrays["marks"]))
    dfa = Dfa(arrays["table"], arrays["symbol_class"], arrays["accepts"], marks)
    return dfa, TokenClasses(arrays["of"], arrays["rows"])
