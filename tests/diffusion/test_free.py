"""Answers without a form: nothing of a form is computed, in any mode, with kernels or without."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from checkpoints import Sizes, random_tensors, write_checkpoint
from forms import END, PAD, form_of, id_of
from metal_sim import simulated

import mlx_diffgemma as dg
from mlx_diffgemma.autoregressive.write import write
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.diffusion.infill import fill
from mlx_diffgemma.diffusion.step import Submitted
from mlx_diffgemma.diffusion.template import TokenTemplate
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.model.text import Model

VOCAB, PROMPT = 2100, [1, 2, 3, 4]
OF_FORMS = (
    "constrain/",
    "diffusion/held.py",
    "diffusion/formed.py",
    "diffusion/classes.py",
    "kernels/classes/",
    "autoregressive/held.py",
)
BY_NAME = {"_parted", "gather_by_class", "of_ids", "read_by_class", "predict_biased"}
SETTINGS = dg.Settings(seed=3, max_tokens=8, max_denoising_steps=3, entropy_bound=2.0)
AR = dg.Settings(seed=3, max_tokens=8, mode="ar")
TEMPLATE = TokenTemplate((tuple(id_of("ab")), (), ()), (3, 2), (END,), PAD, frozenset({END, PAD}))

Way = Callable[[Model, bool], object]


def diffusion(model: Model, formed: bool) -> object:
    constraint = Constraint(form_of(VOCAB, "[0-9a-z]+"), 8) if formed else None
    return list(dg.denoise(model, PROMPT, SETTINGS, constraint=constraint))


def ar(model: Model, formed: bool) -> object:
    constraint = Constraint(form_of(VOCAB, "[0-9a-z]+"), 8) if formed else None
    return list(write(model, PROMPT, AR, constraint=constraint))


def filled(model: Model, formed: bool) -> object:
    forms = [form_of(VOCAB, "[0-9]{1,3}", ()), None] if formed else None
    return list(fill(model, PROMPT, TEMPLATE, SETTINGS, forms=forms))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    sizes = Sizes("f", vocab_size=VOCAB, hidden_size=64, canvas_length=8, eos_token_id=END)
    folder = tmp_path_factory.mktemp("16-bit") / "model"
    tensors = random_tensors(sizes)
    return dg.load_model(write_checkpoint(folder, sizes, tensors=tensors, dtype="bfloat16"))


@pytest.fixture(params=["operations", "kernels"])
def launches(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[list[Any]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(dispatch.VARIABLE, "on" if request.param == "kernels" else "off")
    dispatch.forget()
    with simulated() as run:
        yield run.launches
    assert bool(run.launches) == (request.param == "kernels")
    dispatch.forget()


@contextmanager
def calls_of_forms() -> Iterator[set[str]]:
    """The functions of forms that are called, each by its file and name."""
    found: set[str] = set()

    def seen(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        file = code.co_filename.partition("/mlx_diffgemma/")[2]
        if event == "call" and (file.startswith(OF_FORMS) or code.co_name in BY_NAME):
            found.add(f"{file} {code.co_name}")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("way", [diffusion, ar, filled])
def test_without_a_form_nothing_of_one_is_computed(
    way: Way, model: Model, launches: list[Any]
) -> None:
    way(model, False)  # a kernel's first use takes a trial
    with calls_of_forms() as called:
        way(model, False)
    assert called == set()


@pytest.mark.parametrize("way", [diffusion, ar, filled])
def test_the_test_above_would_see_a_form(way: Way, model: Model) -> None:
    with calls_of_forms() as called:
        way(model, True)
    assert len(called) > 5


def test_a_free_step_keeps_what_it_kept_before_there_were_forms(
    model: Model, monkeypatch: pytest.MonkeyPatch, launches: list[Any]
) -> None:
    """best, next canvas, summary, what is shown; of each part soft rows, tier and raw logits."""
    kept: list[int] = []
    built = Submitted.built

    def counted(step: Submitted) -> Any:
        made = built.func(step)
        kept.append(len(made.arrays) - 3 * len(made.parts))
        assert step.masses is None
        assert all(part.logits and part.logits.bias is None for part in made.parts)
        return made

    monkeypatch.setattr(Submitted, "built", property(counted))
    diffusion(model, False)
    assert set(kept) == {4}
