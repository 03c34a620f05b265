"""One form at a time, and none that nobody waits for."""

import threading

import pytest
from waiting import SECONDS

from mlx_diffgemma.constrain.compiling import cancelled_by, check_cancelled, exclusive
from mlx_diffgemma.constrain.form import compiled, form_of, require_automaton
from mlx_diffgemma.constrain.tables import vocabulary_of

SCHEMA = {
    "oneOf": [{"type": "string", "pattern": f"^{letter}[a-z]{{9}}$"} for letter in "pqr"],
}
VOCABULARY = vocabulary_of([*(bytes([byte]) for byte in range(256)), b"pq", b"ab", None])
STOP = 258


class GoneError(Exception):
    """The client has gone."""


class Watch:
    """Counts the looks; the one after `left` is the last."""

    def __init__(self, left: int | None = None) -> None:
        self.left, self.looks = left, 0

    def __call__(self) -> None:
        if self.looks == self.left:
            raise GoneError
        self.looks += 1


def make(watch: Watch, title: str) -> int:
    """The looks at a form that nobody has asked for under this title."""
    with cancelled_by(watch):
        form = form_of(schema={**SCHEMA, "title": title})
        assert form is not None
        compiled(form, VOCABULARY, [STOP], [])
    return watch.looks


def test_the_making_of_a_form_ends_wherever_it_is() -> None:
    """And is begun anew for who asks again: nothing half made is kept."""
    looks = make(Watch(), "all of it")
    assert looks > 200
    for left in (0, 1, looks // 3, looks // 2, looks - 1):
        with pytest.raises(GoneError):
            make(Watch(left), f"after {left}")
        assert make(Watch(), f"after {left}") > looks // 2


@pytest.mark.parametrize("pattern", ["[a-z]{300}", "(a|b)*a(a|b){7}"])
def test_states_are_told_apart_under_a_watch(pattern: str) -> None:
    form = form_of(pattern=pattern)
    assert form is not None
    watch = Watch()
    with cancelled_by(watch):
        require_automaton(form)
    assert watch.looks > 300


def test_nobody_watches_behind_the_end() -> None:
    with cancelled_by(Watch(0)), pytest.raises(GoneError):
        check_cancelled()
    check_cancelled()


def test_forms_wait_for_each_other_and_nothing_else_does() -> None:
    begun, over = threading.Event(), threading.Event()
    order: list[str] = []

    @exclusive
    def first() -> None:
        begun.set()
        assert over.wait(SECONDS)
        order.append("first")

    @exclusive
    def second() -> None:
        order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert begun.wait(SECONDS)
    threads[1].start()
    assert form_of() is None
    assert form_of(choices=["a", "b"]) is not None
    assert order == []
    over.set()
    for thread in threads:
        thread.join(SECONDS)
    assert order == ["first", "second"]
