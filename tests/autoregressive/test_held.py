"""Mode ar under a form: the tokens of its state and no others, drafts and strain included."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import raises
from fake_model import tiny_config
from forms import END, PAD, form_of, held_to, id_of, text_of
from writing import VOCAB, Rule, WritingModel, answer, by_last

from mlx_diffgemma.autoregressive.generate import generate
from mlx_diffgemma.autoregressive.held import allowed_part, allowed_tokens
from mlx_diffgemma.autoregressive.lookup import Lookup
from mlx_diffgemma.autoregressive.router import Router, Times
from mlx_diffgemma.autoregressive.sampling import sample
from mlx_diffgemma.autoregressive.write import write
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.errors import ConstraintError, NumericsError
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings

PROMPT = [3, 1, 4, 1, 5]
RULE = by_last(2)
ANY = list(range(VOCAB))


def ar(**given: Any) -> Settings:
    return Settings(mode="ar", **{"seed": 7, "max_tokens": 30, **given})


def model_of(rule: Rule = RULE, canvas: int = 8) -> WritingModel:
    return WritingModel(rule, tiny_config(VOCAB, canvas, stop_ids=[END]))


def plain(pattern: str, settings: Settings) -> tuple[list[int], float]:
    """The answer by the definition, each token tried whether it leads on, and its strain."""
    sampler = settings.resolved(model_of().config, 0).tokens
    machine, written, strain = form_of(VOCAB, pattern), list[int](), 0.0
    while END not in written:
        mask, left = np.zeros(VOCAB, bool), (settings.max_tokens or 0) - len(written)
        for token in ANY:
            try:
                state = machine.advance(machine.start, [*written, token])
            except ConstraintError:
                continue
            mask[token] = machine.distance[state] < left
        logits = RULE([*PROMPT, *written]).astype(np.float64)
        p = np.exp(logits - logits.max())
        strain -= math.log(p[mask].sum() / p.sum())
        row = mx.array(np.where(mask, logits, -np.inf).astype(np.float32))[None]
        uniforms = CounterNoise(7).tokens(len(written), 1)
        written.append(sample(row, uniforms, sampler).read()[0].token)
    return written, strain


SAMPLERS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 0, "top_p": 0.9, "min_p": 0.02},
]


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pattern", ["[a-f]{3,9}(12|é+)", "(ab|cd|0)*", "a"])
def test_an_answer_with_a_form_is_that_of_a_plain_loop(
    pattern: str, sampler: dict[str, Any], lookup: bool
) -> None:
    settings = ar(lookup=lookup, **sampler)
    constraint = held_to(pattern, 30)
    frames = list(write(model_of(), PROMPT, settings, constraint=constraint))
    expected, strain = plain(pattern, settings)
    assert answer(frames) == expected
    assert frames[-1].finish_reason == "stop"
    assert frames[-1].strain == pytest.approx(strain, abs=1e-4)  # float32 sums over 40 logits
    assert constraint.ended


def test_strain_grows_from_token_to_token_and_is_none_without_a_form() -> None:
    frames = list(write(model_of(), PROMPT, ar(), constraint=held_to("[0-9]{12}", 30)))
    strains = [frame.strain for frame in frames]
    assert None not in strains
    assert strains == sorted(strains)  # type: ignore[type-var]
    assert strains[0] > 0  # type: ignore[operator]
    assert {frame.strain for frame in write(model_of(), PROMPT, ar())} == {None}


@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1.0])
def test_strain_is_finite_where_one_unlikely_token_is_allowed(temperature: float) -> None:
    """Softcapped logits are 60 apart at most; float32 would lose e^-300 all the same."""

    def rule(text: Sequence[int]) -> Any:
        return np.where(np.arange(VOCAB) == 7, 300.0, 0.0).astype(np.float32)

    settings = ar(temperature=temperature)
    *_, last = write(model_of(rule), PROMPT, settings, constraint=held_to("a", 30))
    assert text_of(answer([last])) == "a"
    assert last.strain == pytest.approx(600.0)


def test_no_step_is_begun_before_the_token_is_known() -> None:
    model = model_of()
    counts = [
        len(model.asked("step"))
        for frame in write(model, PROMPT, ar(), constraint=held_to("[a-f]{20}", 30))
        if not frame.committed
    ]
    assert counts == list(range(1, 22))


def test_drafts_obey_the_form_and_are_accepted() -> None:
    """The rule wants `abcd` again and again, the form lets `cd` become `12` after 16 letters."""
    script = id_of("abcd")

    def rule(text: Sequence[int]) -> Any:
        return np.where(np.arange(VOCAB) == script[(len(text) - 5) % 4], 20.0, 0.0).astype("f4")

    lookup, model = Lookup(), model_of(rule, canvas=64)
    settings = ar(temperature=0.0, lookup=True)
    form = held_to("[a-d]{16}ab[0-9]{2}", 30)
    frames = list(write(model, PROMPT, settings, lookup=lookup, constraint=form))
    assert text_of(answer(frames)).startswith("abcd" * 4 + "ab")
    assert lookup.accepted > 8
    drafted = [rows[1:] for rows in model.asked("rows")]
    assert sum(map(len, drafted)) == lookup.drafted


def test_the_allowed_part_of_a_draft_ends_at_the_first_token_that_breaks_the_form() -> None:
    form = held_to("ab[0-9]{2}", 9)
    a, b, one = id_of("ab1")
    assert allowed_part(form, [a, b, one, a, b]) == [a, b, one]
    assert allowed_part(form, [one]) == []
    assert form.state == form.machine.start
    rows = np.array(allowed_tokens(form, [a, b, one]))
    assert [np.flatnonzero(row).tolist() for row in rows] == [
        [a],
        [b],
        list(range(10)),
        list(range(10)),
    ]


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_found_where_the_form_leaves_them_out(
    strange: float,
) -> None:
    def rule(text: Sequence[int]) -> Any:
        return np.where(np.arange(VOCAB) == 7, strange, 0.0).astype(np.float32)

    with raises(NumericsError, "logits of token 0"):
        list(write(model_of(rule), PROMPT, ar(), constraint=held_to("a+", 30)))


def test_watched_frames_tell_the_entropy_of_what_the_form_leaves() -> None:
    def even(text: Sequence[int]) -> Any:
        return np.zeros(VOCAB, np.float32)

    settings = ar(temperature=1.0)
    frame, *_ = write(
        model_of(even), PROMPT, settings, watched=True, constraint=held_to("[0-7]", 9)
    )
    assert frame.entropies[0] == pytest.approx(math.log(8))
    assert frame.top_probability == pytest.approx(1 / 8)
    assert frame.strain == pytest.approx(math.log(40 / 8))


@pytest.mark.parametrize("pattern", ["(ab|c)*", "a{2,4}é?", "[a-c]+(12|3)", "x|yz|[0-9]{3}"])
def test_a_state_and_the_lattice_allow_the_same_classes(pattern: str) -> None:
    """At every state, for every number of tokens that may be left, over canvases of 1 to 5."""
    machine = form_of(VOCAB, pattern)
    checked = 0
    for state in range(machine.num_states):
        for left in range(int(machine.distance[state]), 8):
            if left == 0 or machine.distance[state] > left:
                continue
            form = Constraint(machine, left, state)
            for length in range(1, 6):
                even = np.full((length, form.num_classes), -math.log(form.num_classes))
                log_g, _ = form.bias(even)
                assert (log_g[0] > -np.inf).tolist() == form.allowed().tolist()
                checked += 1
    assert checked > 50
    assert PAD not in np.flatnonzero(Constraint(machine, 9).allowed()[machine.of])


@pytest.mark.parametrize("mode", ["ar", "auto"])
def test_a_form_that_is_not_of_this_answer_is_refused_at_the_call(mode: str) -> None:
    """As `denoise` refuses it."""
    settings, router = replace(ar(max_tokens=6), mode=mode), Router(Times(1.0, 1.0, "said"), 8)
    with raises(ConstraintError, "7 tokens ... max_tokens is 6"):
        generate(model_of(), PROMPT, settings, router=router, constraint=held_to("[0-9]", 7))
    other = WritingModel(RULE, tiny_config(VOCAB + 1, stop_ids=[END]))
    with raises(ConstraintError, "40 ids ... 41"):
        generate(other, PROMPT, settings, router=router, constraint=held_to("[0-9]", 6))
