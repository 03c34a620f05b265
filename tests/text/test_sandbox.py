"""Templates that would take all memory or all time: each ends soon, in one line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from facts import assert_says, raises
from waiting import SECONDS

from mlx_diffgemma.errors import CheckpointError, PromptError
from mlx_diffgemma.text import sandbox
from mlx_diffgemma.text.template import render

BIG = 10**12
DOUBLED = "{% set ns = namespace(x='aaaaaaaa') %}{% for n in range(99) %}"
LISTS = "{% set ns = namespace(x=[1]) %}{% for n in range(60) %}"
WIDE = "{% set a = 'a' * 9999 %}{% set b = 'b' * 99999 %}"

TOO_MUCH = {
    "a text multiplied": f"{{{{ 'x' * {BIG} }}}}",
    "a text multiplied from the left": f"{{{{ {BIG} * 'x' }}}}",
    "a list multiplied": f"{{{{ [0] * {BIG} }}}}",
    "a text multiplied again and again": "{{ 'x' * 9999 * 9999 * 9999 }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a number multiplied": "{% set ns = namespace(x=9) %}{% for n in range(99) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "loops inside loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "a loop that keeps nothing": "{% for a in range(99999) %}{% for b in range(99999) if false %}"
    "{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}"
    "{% endif %}{% endmacro %}{{ m(99) }}",
    "a loop that goes down": "{% for a in [1, 2] recursive %}{% if loop.depth < 60 %}"
    "{{ loop([1, 2]) }}{% endif %}{% endfor %}",
    "a text added to itself": DOUBLED + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a text joined to itself": DOUBLED + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a block that holds itself": DOUBLED + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}",
    "a list added to itself": LISTS + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a list of itself, put out": LISTS + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "a list of itself, as a text": LISTS + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
    "{{ ns.x | string }}",
    "a list of itself, as JSON": LISTS + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
    "{{ ns.x | tojson }}",
    "a list of itself, joined": LISTS + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ '' ~ ns.x }}",
    "a namespace of itself": "{% set ns = namespace(x=1) %}{% for n in range(60) %}"
    "{% set m = namespace(a=ns.x, b=ns.x) %}{% set ns.x = m %}{% endfor %}{{ ns.x }}",
    "a replaced letter": WIDE + "{{ a | replace('a', b) }}",
    "a replaced letter, by a method": WIDE + "{{ a.replace('a', b) }}",
    "a separator": WIDE + "{{ range(99999) | join(b) }}",
    "a separator, by a method": WIDE + "{{ b.join(a | list) }}",
    "a separator of what is made one by one": WIDE + "{{ range(99999) | map('string') | join(b) }}",
    "many texts joined by nothing": "{{ ''.join(['a' * 9999] * 999) }}",
    "many texts joined by nothing, by a filter": "{{ (['a' * 9999] * 999) | join }}",
    "a width": f"{{{{ 'x' | center({BIG}) }}}}",
    "a width, by a method": f"{{{{ 'x'.ljust({BIG}) }}}}",
    "a width of zeros": f"{{{{ 'x'.zfill({BIG}) }}}}",
    "a width in a format": f"{{{{ '%{BIG}d' % 1 }}}}",
    "a width beside a format": f"{{{{ '%*d' % ({BIG}, 1) }}}}",
    "a width in a filter's format": f"{{{{ '%{BIG}d' | format(1) }}}}",
    "a width in a method's format": f"{{{{ '{{:{BIG}}}'.format(1) }}}}",
    "a width beside a method's format": f"{{{{ '{{:{{}}}}'.format(1, {BIG}) }}}}",
    "an indent": f"{{{{ '\\nx' | indent({BIG}) }}}}",
    "an indent by a text": WIDE + "{{ ('x\\n' * 9999) | indent(b) }}",
    "a batch": f"{{{{ [1] | batch({BIG}, 0) | list }}}}",
    "an indent of JSON": f"{{{{ [1] | tojson(indent={BIG}) }}}}",
    "bytes of a number": f"{{{{ (1).to_bytes({BIG}, 'big') }}}}",
    "tabs": f"{{{{ '\\t'.expandtabs({BIG}) }}}}",
    "lists in a sum": "{{ ([[1] * 9999] * 9999) | sum(start=[]) | length }}",
    "a filter in a loop": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
}


@pytest.mark.parametrize("source", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_template_that_takes_too_much(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: it took all memory, and heard neither Ctrl-C nor SIGTERM."""
    monkeypatch.setattr(sandbox, "BUDGET", 1 << 22)
    monkeypatch.setattr(sandbox, "MOST_SECONDS", SECONDS)
    with pytest.raises(CheckpointError) as caught:
        render(source, {}, Path("folder"))
    assert_says(caught.value, "folder ... template takes more than", "--raw")
    assert f"{SECONDS:.0f} s" not in str(caught.value), "what it makes is counted, not timed"


@pytest.mark.parametrize("name", ["loops inside loops", "a list of itself, put out"])
def test_ctrl_c_is_heard_in_a_template(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM too: its handler raises the same kind of exception."""
    monkeypatch.setattr(sandbox, "BUDGET", 1 << 60)
    monkeypatch.setattr(sandbox, "MOST_SECONDS", SECONDS)
    with pytest.raises(KeyboardInterrupt):
        interrupted(TOO_MUCH[name])


def interrupted(source: str) -> None:
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    render(source, {}, Path("folder"))


@pytest.mark.parametrize("name", ["lipsum"])
def test_what_templates_do_not_find(name: str) -> None:
    with raises(PromptError, f"'{name}' is undefined"):
        render(f"{{{{ {name}(n=1) }}}}", {}, Path("folder"))


AS_IN_JINJA = {
    "{{ 'x' * 3 }}{{ 2 * [1] }}{{ 2 ** 10 }}{{ 1.5 * 2 }}": "xxx[1, 1]10243.0",
    "{{ '%5d|%s' % (7, 'a') }}{{ '{:>3}'.format(1) }}{{ '%s' | format(2) }}": "    7|a  12",
    "{{ 'a-b'.replace('-', '+') }}{{ 'a-b' | replace('-', '+') }}": "a+ba+b",
    "{{ [1, 'b'] | join(', ') }}{{ '-'.join(['a', 'b']) }}": "1, ba-b",
    "{{ 'a' ~ 1 ~ none ~ [2] }}": "a1None[2]",
    "{{ range(3) | map('string') | list }}": "['0', '1', '2']",
    "{% for a in [1, 2, 3] if a != 2 %}{{ loop.index }}{{ loop.length }}{% endfor %}": "1222",
    "{% macro m(x) %}<{{ x }}>{{ caller() }}{% endmacro %}{% call m(1) %}y{% endcall %}": "<1>y",
    "{% set x %}{{ 1 }}b{% endset %}{{ x | upper }}{{ missing }}|{{ 'é' | tojson }}": '1B|"é"',
    "{{ {'a': [1]} | tojson(indent=1) }}": '{\n "a": [\n  1\n ]\n}',
    "{{ [[1], [2]] | sum(start=[]) }}": "[1, 2]",
    "{{ messages | selectattr('role', 'eq', 'user') | map(attribute='content') | first }}": "hi",
    "{{ 'abc'[1:] }}{{ 'a,b'.split(',') | length }}{{ '  x '.strip() }}": "bc2x",
}


@pytest.mark.parametrize(("source", "text"), AS_IN_JINJA.items())
def test_what_templates_do_is_as_in_jinja(source: str, text: str) -> None:
    messages = [{"role": "system", "content": "no"}, {"role": "user", "content": "hi"}]
    assert render(source, {"messages": messages}, Path("folder")) == text


def test_a_long_conversation_is_far_from_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of 4 MB in 2,000 messages, more than any context holds, through a real template."""
    source = (Path(__file__).parent / "fixtures" / "third.jinja").read_text()
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": "x" * 2000} for n in range(2001)]
    variables = {"messages": messages, "bos_token": "<bos>", "add_generation_prompt": True}
    monkeypatch.setattr(sandbox, "MOST_SECONDS", SECONDS)
    monkeypatch.setattr(sandbox, "BUDGET", sandbox.BUDGET // 4)
    text = render(source, variables, Path("folder"))
    assert len(text) > 2001 * 2000


def test_a_rendering_has_a_meter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "BUDGET", 1 << 17)
    for _ in range(9):
        assert len(render("{{ 'x' * 9999 }}", {}, Path("folder"))) == 9999


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 5000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if 1 %}" * 500 + "{% endif %}" * 500,
        "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "1 + " * 3000 + "1 }}",
    ],
)
def test_what_python_does_not_compile_is_no_template(source: str) -> None:
    with raises(CheckpointError, "folder ... chat template ... expected Jinja ... --raw"):
        render(source, {}, Path("folder"))
