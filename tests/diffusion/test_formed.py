"""Holes with forms: every text fits its own, what is pinned stays, over any number of canvases."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from facts import raises
from fake_model import CertainModel, FakeModel, tiny_config, wanting
from forms import END, PAD, form_of, id_of, text_of
from plain import lively_model

from mlx_diffgemma.constrain.holes import CommonClasses
from mlx_diffgemma.constrain.machine import Machine
from mlx_diffgemma.diffusion import formed as formed_module
from mlx_diffgemma.diffusion.infill import fill
from mlx_diffgemma.diffusion.pinned import TEXT, FillFrame
from mlx_diffgemma.diffusion.template import TokenTemplate
from mlx_diffgemma.errors import ConstraintError
from mlx_diffgemma.generation.settings import Settings

PROMPT = [3, 1, 4, 1, 5]
UNSURE = Settings(seed=3, max_denoising_steps=4, entropy_bound=2.0)


def template(*parts: str | int) -> TokenTemplate:
    """Texts and the lengths of holes in turn, beginning and ending with a text."""
    texts = tuple(tuple(id_of(part)) for part in parts if isinstance(part, str))
    lengths = tuple(part for part in parts if isinstance(part, int))
    return TokenTemplate(texts, lengths, (END,), PAD, frozenset({END, PAD}))


def formed(*patterns: str | None) -> list[Machine | None]:
    return [form_of(40, pattern, ()) if pattern else None for pattern in patterns]


def holes_of(frames: Sequence[FillFrame]) -> list[str]:
    """The text of each hole."""
    placed = [
        (token, hole)
        for frame in frames
        if frame.committed
        for token, hole in zip(frame.tokens.tolist(), frame.holes.tolist(), strict=True)
    ]
    count = 1 + max(hole for _, hole in placed)
    return [text_of([token for token, own in placed if own == hole]) for hole in range(count)]


def between(frames: Sequence[FillFrame]) -> str:
    """The template's own text."""
    own = [f.tokens[f.holes == TEXT].tolist() for f in frames if f.committed]
    return text_of([token for tokens in own for token in tokens])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_hole_fits_its_form_and_what_is_pinned_stays(seed: int) -> None:
    """Of one canvas: a hole that is filled, one with room to spare, and one without a form."""
    form = template("born", 4, "in", 5, "or", 2, "")
    forms = formed("[12][0-9]{3}", "(ab|é){1,2}", None)
    model = lively_model(canvas=20)
    frames = list(fill(model, PROMPT, form, Settings(seed=seed), forms=forms))
    year, place, _ = holes_of(frames)
    assert re.fullmatch("[12][0-9]{3}", year)
    assert re.fullmatch("(ab|é){1,2}", place)
    assert between(frames) == "borninor"
    assert all(frame.strain is not None for frame in frames)
    assert frames[-1].settled is not None


@pytest.mark.parametrize("canvas", [5, 8, 13])
def test_a_hole_that_canvases_cut_goes_on_in_its_form(canvas: int) -> None:
    """Counted text, characters of two tokens, and one word: each remembers where it stood."""
    form = template("abcde", 3, "fghij", 24, "klmnopqrst", 2, "uv", 30, "w")
    patterns = ["[0-9]{3}", "é{5,12}", None, "([xyz]{3}0){4}[xyz]{0,9}1?"]
    frames = list(fill(lively_model(canvas=canvas), PROMPT, form, UNSURE, forms=formed(*patterns)))
    for text, pattern in zip(holes_of(frames), patterns, strict=True):
        assert pattern is None or re.fullmatch(pattern, text), pattern
    assert between(frames) == "abcdefghijklmnopqrstuvw"
    assert len([frame for frame in frames if frame.committed]) > 2


def test_holes_without_forms_are_filled_as_they_were() -> None:
    """A form elsewhere leaves their distributions alone: the first step is equal to the bit."""
    form = template("abc", 4, "def", 4, "g")
    steps = []
    for forms in (None, [None, None], formed(None, "[0-9]{4}")):
        model = lively_model(canvas=16)
        steps.append(next(iter(fill(model, PROMPT, form, UNSURE, forms=forms))))
    free, nothing, second = steps
    assert nothing.strain is None
    assert nothing.tokens.tolist() == free.tokens.tolist()
    assert second.tokens[3:7].tolist() == free.tokens[3:7].tolist()
    assert second.entropies[3:7] == pytest.approx(free.entropies[3:7], abs=1e-5)
    assert all(text in "0123456789" for text in text_of(second.tokens[10:14].tolist()))


def test_the_strain_of_a_canvas_is_that_of_its_holes_together() -> None:
    def step(*patterns: str | None) -> float:
        model = CertainModel(tiny_config(canvas=12), lambda *_: wanting(id_of("aaaaaaaaaaaa")))
        form = template("b", 3, "c", 4, "")
        frame = next(iter(fill(model, PROMPT, form, UNSURE, forms=formed(*patterns))))
        assert frame.strain is not None
        return frame.strain

    first, second = step("b{3}", None), step(None, "[ab]0[a-c]1")
    assert first > second > 20
    assert step("b{3}", "[ab]0[a-c]1") == pytest.approx(first + second, rel=1e-6)


def test_a_hole_of_a_form_ends_where_its_text_does() -> None:
    """Sure of digits behind the one that the form allows: fillers stand there."""
    model = CertainModel(tiny_config(canvas=8), lambda *_: wanting(id_of("a777777b")))
    frames = list(fill(model, PROMPT, template("a", 6, ""), UNSURE, forms=formed("7")))
    assert holes_of(frames) == ["7"]
    assert set(frames[-2].tokens[2:7].tolist()) <= {END, PAD}


def test_noise_and_pins_of_a_canvas_are_those_without_forms() -> None:
    model = lively_model(canvas=16)
    form = template("abc", 4, "def", 4, "g")
    list(fill(model, PROMPT, form, UNSURE, forms=formed("[0-9]{2}", "[0-9]{4}")))
    pinned = [*id_of("abc"), *id_of("def"), *id_of("g"), END]
    for ids, _ in model.asked("decode"):
        assert ids[[0, 1, 2, 7, 8, 9, 14, 15]].tolist() == pinned
    (first, _), *_ = model.asked("decode")
    assert not set(first[[3, 4, 5, 6, 10, 11, 12, 13]].tolist()) & set(pinned)


def refused(model: FakeModel, forms: list[Machine | None], facts: str) -> None:
    with raises(ConstraintError, facts):
        fill(model, PROMPT, template("a", 3, "b", 2, ""), UNSURE, forms=forms)
    assert model.events == []


def test_what_cannot_be_filled_is_refused_at_the_call() -> None:
    refused(lively_model(), formed(None, "[a-z]{3}"), "hole 2 has 2 positions ... 3 tokens")
    refused(lively_model(), formed(None), "1 form ... 2 holes")
    assert np.array_equal(form_of(40, "[a-z]{3}", ()).distance[:1], [3])


def test_canvases_of_the_same_machines_share_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(machines: Sequence[Machine]) -> CommonClasses:
        made.append(len(machines))
        return CommonClasses(machines)

    monkeypatch.setattr(formed_module, "CommonClasses", counted)
    form, number = template("a", 3, "bcdef", 3, "ghijk", 3, ""), form_of(40, "[0-9]{3}", ())
    frames = list(fill(lively_model(canvas=5), PROMPT, form, UNSURE, forms=[number] * 3))
    assert len([frame for frame in frames if frame.committed]) > 2
    assert made == [1]
