"""Tables on disk: found again, and never an error."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest

from mlx_diffgemma.constrain import cache, tables
from mlx_diffgemma.constrain.cache import recall, store
from mlx_diffgemma.constrain.form import Form, form_of, tools_form
from mlx_diffgemma.constrain.tables import kept_tables, tables_of, vocabulary_of
from mlx_diffgemma.constrain.vocabulary import trie_of

TEXTS = [None, *(bytes((b,)) for b in range(256)), b"ab", b"abc", b"ca"]
ARRAYS = {"x": np.arange(5), "y": np.ones(2, np.bool_)}
KINDS = {"x": "i", "y": "b"}
TOOLS = [{"name": "t", "parameters": {"properties": {"s": {"type": "string"}}}}]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the tables; every vocabulary counts as large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tables, "SMALL", 0)
    kept_tables.cache_clear()
    yield tmp_path / "mlx-diffgemma" / "forms"
    kept_tables.cache_clear()


def forms() -> list[Form]:
    made = form_of(pattern="(ab|c)*")
    assert made is not None
    return [made, tools_form(TOOLS, "t")]


def same(one: Any, other: Any) -> bool:
    """Equal tables, arrays compared in dtype too."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if hasattr(one, "__dict__"):
        return all(same(value, vars(other)[name]) for name, value in vars(one).items())
    return bool(one == other)


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def computed(*_: object) -> None:
        raise AssertionError("this was computed again")

    for name in names:
        monkeypatch.setattr(tables, name, computed)


def test_what_was_computed_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = vocabulary_of(TEXTS)
    assert same(vocabulary.trie, trie_of(TEXTS))
    computed = [tables_of(form, vocabulary) for form in forms()]
    assert len(list(folder.iterdir())) == 3
    kept_tables.cache_clear()
    forbid(monkeypatch, "trie_of", "compile_pattern", "token_classes")
    assert same(vocabulary_of(TEXTS).trie, vocabulary.trie)
    assert same([*map(tables_of, forms(), [vocabulary] * 2)], computed)


def test_in_one_process_nothing_is_read_twice(folder: Path) -> None:
    vocabulary = vocabulary_of(TEXTS)
    first = tables_of(forms()[0], vocabulary)
    assert tables_of(forms()[0], vocabulary_of(TEXTS)) is first


def test_tables_keep_no_vocabulary_alive(folder: Path) -> None:
    vocabulary = vocabulary_of(TEXTS)
    tables_of(forms()[0], vocabulary)
    gone = ref(vocabulary)
    del vocabulary
    assert gone() is None


def test_another_vocabulary_has_tables_of_its_own(folder: Path) -> None:
    for texts in (TEXTS, TEXTS[:-1], [*TEXTS[:-1], b"x"], TEXTS[::-1]):
        vocabulary = vocabulary_of(texts)
        _, classes = tables_of(forms()[0], vocabulary)
        assert len(classes.of) == len(texts)
    assert len(list(folder.iterdir())) == 8


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY", b"\x00" * 999])
def test_a_broken_file_is_made_anew(folder: Path, content: bytes) -> None:
    store("form", "key", ARRAYS)
    (file,) = folder.iterdir()
    file.write_bytes(content)
    assert recall("form", "key", KINDS) is None
    store("form", "key", ARRAYS)
    assert same(dict(recall("form", "key", KINDS) or {}), ARRAYS)


def test_a_file_cut_anywhere_or_with_one_bit_wrong_is_none(folder: Path) -> None:
    store("form", "key", ARRAYS)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for cut in range(0, len(whole), 37):
        file.write_bytes(whole[:cut])
        assert recall("form", "key", KINDS) is None
    for place in range(0, len(whole), 41):
        file.write_bytes(whole[:place] + bytes((whole[place] ^ 16,)) + whole[place + 1 :])
        found = recall("form", "key", KINDS)
        assert found is None or same(dict(found), ARRAYS)


def test_a_file_of_another_key_or_kind_is_none(folder: Path) -> None:
    store("form", "key", ARRAYS)
    (file,) = folder.iterdir()
    store("form", "other", ARRAYS)
    (other,) = set(folder.iterdir()) - {file}
    file.write_bytes(other.read_bytes())
    assert recall("form", "key", KINDS) is None
    assert recall("form", "other", KINDS | {"z": "i"}) is None
    assert recall("form", "other", KINDS | {"x": "f"}) is None
    np.savez(other, check=np.array([object()]), allow_pickle=True)
    assert recall("form", "other", KINDS) is None


def test_another_format_is_another_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store("form", "key", ARRAYS)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert recall("form", "key", KINDS) is None


def test_the_oldest_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_FILES", 3)
    for number in range(5):
        store("form", str(number), ARRAYS)
        for age, file in enumerate(sorted(folder.iterdir(), key=os.path.getmtime)):
            os.utime(file, (1000 + age, 1000 + age))
        recall("form", "0", KINDS)  # what is used stays
    kept = [number for number in range(5) if recall("form", str(number), KINDS)]
    assert kept == [0, 3, 4]
    monkeypatch.setattr(cache, "MOST_BYTES", 1500)
    store("form", "5", ARRAYS)
    assert 0 < sum(file.stat().st_size for file in folder.iterdir()) <= 1500


@pytest.mark.parametrize("wrong", ["file", "closed", "no home"])
def test_nothing_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    if wrong == "file":
        folder.parent.mkdir()
        folder.write_text("in the way")
    elif wrong == "closed":
        monkeypatch.setattr(cache, "replace_file", lambda *_: (_ for _ in ()).throw(OSError()))
    else:
        monkeypatch.setattr(cache, "own_file", lambda *_: None)
    vocabulary = vocabulary_of(TEXTS)
    dfa, _ = tables_of(forms()[0], vocabulary)
    assert dfa.matches("abc")


def test_a_small_vocabulary_needs_no_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SMALL", 10_000)
    tables_of(forms()[0], vocabulary_of(TEXTS))
    assert not folder.exists()
