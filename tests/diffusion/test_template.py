"""The plan of a template's canvases: what each settles, and how much it has in view."""

from collections.abc import Iterator

import numpy as np
import pytest

from mlx_diffgemma.diffusion.pinned import OPEN, TEXT
from mlx_diffgemma.diffusion.template import TemplateState, TokenTemplate

END, PAD, FILLER = 900, 901, 902


def form(texts: list[int], lengths: list[int]) -> TokenTemplate:
    """A form of texts of these lengths; their ids are 1000, 1001, ..."""
    ids = iter(range(1000, 9999))
    encoded = tuple(tuple(next(ids) for _ in range(length)) for length in texts)
    return TokenTemplate(encoded, tuple(lengths), (END,), PAD, frozenset({FILLER}))


def walk(
    state: TemplateState, canvas_length: int, answer: int = 5
) -> Iterator[tuple[int, list[int]]]:
    """Settles a state with one id everywhere; yields where each canvas began and what it showed."""
    start = state.begin(0, canvas_length)
    while not state.complete:
        shown = list(state.positions(start, canvas_length).tokens)
        yield start, shown
        state.settle(start, [answer if token == OPEN else token for token in shown])
        if not state.complete:
            start = state.begin(start, canvas_length)


def random_forms(count: int) -> Iterator[tuple[TokenTemplate, int]]:
    random = np.random.default_rng(7)
    for _ in range(count):
        holes = int(random.integers(1, 6))
        texts = random.integers(0, 40, holes + 1) * random.integers(0, 2, holes + 1)
        lengths = random.integers(1, random.choice([3, 12, 60]), holes)
        yield form(texts.tolist(), lengths.tolist()), int(random.choice([1, 2, 7, 8, 16, 256]))


def test_a_template_that_fits_is_one_canvas_that_begins_with_it() -> None:
    state = TemplateState(form([2, 1, 1], [2, 1]))
    assert [(s, shown) for s, shown in walk(state, 10)] == [
        (0, [1000, 1001, OPEN, OPEN, 1002, OPEN, 1003, END, PAD, PAD])
    ]
    assert state.tokens == [1000, 1001, 5, 5, 1002, 5, 1003]
    assert state.holes == [TEXT, TEXT, 0, 0, TEXT, 1, TEXT]


def test_what_settles_has_half_a_canvas_or_the_rest_in_view_to_its_right() -> None:
    """Holes of up to half a canvas are settled whole, and any position only with such a view."""
    for plan, canvas_length in random_forms(300):
        state = TemplateState(plan)
        start = state.begin(0, canvas_length)
        while not state.complete:
            before, holes = list(state.tokens), list(state.holes)
            shown = list(state.positions(start, canvas_length).tokens)
            state.settle(start, [5 if token == OPEN else token for token in shown])
            end = start + canvas_length
            settled = [
                i for i, (a, b) in enumerate(zip(before, state.tokens, strict=True)) if a != b
            ]
            assert settled
            assert all(start <= place < end for place in settled)
            if end <= len(before):  # END is not in view
                assert settled[-1] + 1 + canvas_length // 2 <= end
                for hole in {holes[place] for place in settled}:
                    places = [i for i, h in enumerate(holes) if h == hole and before[i] == OPEN]
                    if len(places) <= canvas_length - canvas_length // 2:
                        assert set(places) <= set(settled)
            if not state.complete:
                assert state.begin(start, canvas_length) >= start
                start = state.begin(start, canvas_length)


def test_every_canvas_is_full_and_the_text_is_kept() -> None:
    for plan, canvas_length in random_forms(300):
        state = TemplateState(plan)
        for start, shown in walk(state, canvas_length):
            assert len(shown) == canvas_length
            assert OPEN in shown
            assert start + canvas_length <= max(canvas_length, plan.num_positions)
            if start:
                assert PAD not in shown
        texts = [t for t, hole in zip(state.tokens, state.holes, strict=True) if hole == TEXT]
        assert texts == [token for text in plan.texts for token in text]
        assert [state.holes.count(hole) for hole in range(len(plan.lengths))] == list(plan.lengths)


@pytest.mark.parametrize(
    ("texts", "lengths", "begins"),
    [
        ([100, 100], [4], [100]),  # left of the hole all is encoded
        ([100, 3], [4], [92]),  # but for what fills the last canvas
        ([0, 100], [4], [0]),
        ([10, 10, 100], [4, 4], [10, 24]),  # the second begins with what lacks a view
        ([10, 2, 100], [2, 2], [10]),
        ([2, 20], [24], [2, 10, 18]),  # a hole longer than a canvas
        ([0, 0], [40], [0, 8, 16, 24, 25]),
    ],
)
def test_where_canvases_begin(texts: list[int], lengths: list[int], begins: list[int]) -> None:
    assert [start for start, _ in walk(TemplateState(form(texts, lengths)), 16)] == begins


def test_a_hole_that_ends_takes_what_it_was_given_and_not_used_along() -> None:
    state = TemplateState(form([1, 1], [40]))
    shown = list(state.positions(1, 16).tokens)
    state.settle(1, [5, 5, 5, FILLER, *shown[4:]])
    assert state.complete
    assert state.tokens == [1000, 5, 5, 5, 1001]
    assert state.holes == [TEXT, 0, 0, 0, TEXT]


def test_a_filler_that_is_not_settled_yet_does_not_end_its_hole() -> None:
    state = TemplateState(form([0, 30], [12]))
    canvas = [5] * 9 + [FILLER] + [5] * 2 + list(state.positions(0, 16).tokens)[12:]
    state.settle(0, canvas)
    assert state.tokens[:12] == [5] * 8 + [OPEN] * 4


def test_a_filler_that_is_pinned_is_text() -> None:
    plan = TokenTemplate(((FILLER, 7), (FILLER,)), (2,), (END,), PAD, frozenset({FILLER}))
    state = TemplateState(plan)
    list(walk(state, 8))
    assert state.tokens == [FILLER, 7, 5, 5, FILLER]
