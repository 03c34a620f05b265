"""Requests of completions: what is asked by them, and one clear error for each bad one."""

import pytest
from facts import assert_says
from openai_kinds import GAP, ON
from scripted import FACTS

from mlx_diffgemma.serve.dialects.completions.request import Gap, TextCompletion, most_of_gap, read
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.engine.engine import Facts
from mlx_diffgemma.serve.refusal import Refusal

AR = Facts("scripted", 2048, 64, 1_700_000_000, sees=False, mode="ar")
FILL = {"diffusion": {"template": "A [[4]] is [[...]]."}}


def asked(body=ON, facts=FACTS, **changes):
    return read(fields_of({**body, **changes}), facts)


def test_a_text_goes_on():
    completion = asked(max_tokens=5, stop="x", echo=True, seed=3, stream=True)
    assert isinstance(completion, TextCompletion)
    assert (completion.prompt, completion.echo, completion.stream) == (ON["prompt"], True, True)
    settings = completion.settings
    assert (settings.max_tokens, settings.stop, settings.seed) == (5, ("x",), 3)


def test_a_list_of_one_prompt():
    assert asked(prompt=["One"]).prompt == "One"


def test_an_empty_suffix_is_none():
    assert isinstance(asked(suffix=""), TextCompletion)


def test_the_gap_in_front_of_a_suffix():
    gap = asked(GAP, prompt="one\ntwo [[3]] ", stop=["x"])
    assert isinstance(gap, Gap)
    assert gap.template.texts == ("one\ntwo [[3]] ", " the end.")
    assert (gap.template.lengths, gap.template.lines) == ((8,), (1, 2))
    assert gap.template.fields == (None,)
    assert (gap.hole_only, gap.prompt, gap.cut) == (True, "", ("x",))
    assert (gap.settings.max_tokens, gap.settings.stop, gap.warnings) == (None, (), ())


@pytest.mark.parametrize(
    ("behind", "most"), [("}", 62), ("x" * 20, 43), ("ü" * 10, 43), ("x" * 40, 32), ("x" * 99, 32)]
)
def test_a_gap_leaves_room_for_what_follows_it(behind, most):
    assert most_of_gap(64, behind) == most
    assert asked(ON, suffix=behind).template.lengths == (most,)


def test_a_gap_longer_than_a_canvas_holds_is_cut_and_said():
    gap = asked(GAP, max_tokens=4096)
    assert gap.template.lengths == (54,)
    assert_says(gap.warnings[0], "4,096 ... 54 ... 64")


def test_a_gap_is_denoised_whatever_the_servers_mode():
    gap = asked(GAP, AR, temperature=0.2)
    assert gap.settings.mode == "diffusion"
    assert_says(gap.warnings[0], "temperature ... diffusion")


def test_a_template_and_what_to_write():
    filling = asked(FILL, prompt="Write.", suffix=None)
    assert filling.template.texts == ("A ", " is ", ".")
    assert filling.template.lengths == (4, 32)
    assert (filling.prompt, filling.hole_only) == ("Write.", False)
    gapped = asked({"diffusion": {"template": "[[...]] [[n:[0-9]]]", "gap": [7, 9]}})
    assert gapped.template.lengths == (7, 9)
    assert gapped.template.fields[1].name == "n"
    assert asked({"diffusion": {"template": "[[...]]", "gap": 7.0}}).template.lengths == (7,)


def test_what_a_template_has_no_use_for_is_said():
    filling = asked(FILL, max_tokens=5, stop="x", logit_bias={"5": 1})
    assert [line.split()[0] for line in filling.warnings] == ["logit_bias", "max_tokens", "stop"]
    assert filling.settings.stop == ()


@pytest.mark.parametrize(
    ("changes", "param", "facts"),
    [
        ({"prompt": None}, "prompt", "None ... a string"),
        ({"prompt": 5}, "prompt", "5"),
        ({"prompt": []}, "prompt", "0 ... one"),
        ({"prompt": ["a", "b"]}, "prompt", "2 ... one"),
        ({"prompt": [5, 6]}, "prompt", "[5, 6] ... ids"),
        ({"prompt": [[5, 6]]}, "prompt", "[[5, 6]] ... ids"),
        ({"suffix": 5}, "suffix", "5 ... a string"),
        ({"n": 2}, "n", "2 ... 1"),
        ({"best_of": 2}, "best_of", "2 ... 1"),
        ({"logprobs": 0}, "logprobs", "0"),
        ({"logprobs": True}, "logprobs", "True"),
        ({"echo": "yes"}, "echo", "'yes'"),
        ({"stop": list("abcde")}, "stop", "5 ... 4"),
        ({"max_tokens": 0}, "max_tokens", "0 ... 1"),
        ({"suffix": "x", "max_tokens": 0}, "max_tokens", "0 ... 1"),
        ({"suffix": "x", "echo": True}, "echo", "True"),
        ({"suffix": "x", "diffusion": {"mode": "ar"}}, "diffusion.mode", "'ar' ... diffusion"),
        ({"suffix": "x", **FILL}, "suffix", "diffusion.template"),
        ({"diffusion": {"template": "no hole"}}, "diffusion.template", "no hole"),
        ({"diffusion": {"template": ""}}, "diffusion.template", "empty"),
        ({"diffusion": {"template": 5}}, "diffusion.template", "5"),
        ({"diffusion": {"template": "[[0]]"}}, "diffusion.template", "0"),
        ({"diffusion": {"template": "[[99999999999]]"}}, "diffusion.template", "line 1"),
        ({"diffusion": {"template": "[[...]]", "gap": 0}}, "diffusion.gap", "0"),
        ({"diffusion": {"template": "[[...]]", "gap": [1, 2]}}, "diffusion.gap", "2 ... 1"),
        ({"diffusion": {"template": "[[...]]", "gap": "x"}}, "diffusion.gap", "'x'"),
        ({"diffusion": {"template": "[[...]]", "gap": [1.5]}}, "diffusion.gap", "1.5"),
        ({"diffusion": {"template": "[[4]]", "gap": 3}}, "diffusion.gap", "[[...]]"),
        ({"diffusion": {"gap": 3}}, "diffusion.gap", "3"),
        ({"suffix": "x", "diffusion": {"gap": 3}}, "diffusion.gap", "3"),
    ],
)
def test_a_bad_request_gets_one_clear_error(changes, param, facts):
    with pytest.raises(Refusal) as caught:
        asked(**changes)
    assert caught.value.kind == "invalid"
    assert caught.value.param == param
    assert_says(caught.value, param, facts)
