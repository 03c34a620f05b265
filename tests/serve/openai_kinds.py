"""Kinds of streams of chat completions and completions: a request, and the events of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripted import FACTS, done
from transcripts import BEGUN, KINDS, PING, SCHEMA, USED, WEATHER, Step, streamed

from mlx_diffgemma.conversation.reply import ConstraintInfo
from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.dialects.dialect import Dialect
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.dialects.routes import CHAT_COMPLETIONS, COMPLETIONS, FIM
from mlx_diffgemma.serve.events import Call, Draft, Failed, Text, Thought, Usage
from mlx_diffgemma.serve.refusal import Refusal

Body = Mapping[str, Any]
Kind = tuple[Body, Sequence[Step]]

HELLO: Body = {"model": "gpt-9", "messages": [{"role": "user", "content": "Hello?"}]}
WITH_TOOLS: Body = {**HELLO, "tools": [WEATHER]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "A", "schema": SCHEMA}}
USAGE: Body = {"stream_options": {"include_usage": True}}
FORM = ConstraintInfo("schema", strain=0.25, settled=1, canvases=1)
EITHER: Body = {**WITH_TOOLS, "response_format": JSON_SCHEMA}

_BODIES: Mapping[str, Body] = {
    **dict.fromkeys(KINDS, HELLO),
    **dict.fromkeys(("tools", "parallel", "after"), WITH_TOOLS),
    "drafts": {**HELLO, "diffusion": {"drafts": True}},
    "form": {**HELLO, "response_format": JSON_SCHEMA},
    **dict.fromkeys(("form_beside_tools", "called_beside_form"), EITHER),
}

CHAT: Mapping[str, Kind] = {
    **{name: (body, KINDS[name][1]) for name, body in _BODIES.items()},
    "form": (
        _BODIES["form"],
        [BEGUN, Text('{"name": '), Text('"Fay"}'), done(constraint=FORM)],
    ),
    "called_beside_form": (
        {**EITHER, **USAGE},
        [
            BEGUN,
            Call("k1", "weather", {"city": "Paris"}),
            done("tool_calls", usage=USED, constraint=FORM),
        ],
    ),
    "usage": ({**HELLO, **USAGE}, [BEGUN, Thought("Hm."), Text("Hello"), done(usage=USED)]),
    "usage_and_tools": (
        {**WITH_TOOLS, **USAGE},
        [BEGUN, Call("k1", "weather", {"city": "Paris"}), done("tool_calls", usage=USED)],
    ),
    "other_field": (
        {**HELLO, "diffusion": {"reasoning_field": "reasoning"}},
        [BEGUN, Thought("Hm."), Text("Hello"), done(usage=USED)],
    ),
    "warned": (
        {**HELLO, "temperature": 0.2},
        [BEGUN, Text("Hello"), done(warnings=("temperature is not used.",))],
    ),
}
"""Each kind of stream of a chat completion."""

ON: Body = {"model": "gpt-9", "prompt": "Once there was"}
GAP: Body = {**ON, "suffix": " the end.", "max_tokens": 8}

COMPLETION: Mapping[str, Kind] = {
    "plain": (ON, [BEGUN, Text(" a cat"), Text(" and ü."), done()]),
    "echo": ({**ON, "echo": True}, [BEGUN, Text(" a cat."), done()]),
    "length": (ON, [BEGUN, Text(" a"), done("length")]),
    "stopped": ({**ON, "stop": "."}, [BEGUN, Text(" a cat"), done("stop_text", stop=".")]),
    "usage": ({**ON, **USAGE}, [BEGUN, Text(" a cat."), done(usage=USED)]),
    "gap": (GAP, [BEGUN, Text(" a cat"), Text(", it is"), done(holes=(" a cat, it is",))]),
    "gap_full": (GAP, [BEGUN, Text(" a cat a"), done(usage=Usage(12, 8), holes=(" a cat a",))]),
    "gap_cut": (
        {**GAP, "stop": [", i", "\n"]},
        [BEGUN, Text(" a cat,"), Text(" it is"), done(holes=(" a cat, it is",))],
    ),
    "gap_kept": ({**GAP, "stop": "cats"}, [BEGUN, Text(" a cat"), done(holes=(" a cat",))]),
    "template": (
        {"prompt": "Fill in.", "diffusion": {"template": "A [[4]] is [[...]].", "drafts": True}},
        [
            BEGUN,
            Draft("A cxt is", 0, 1, 48, 3, 1.25, (("cxt", "c0 u"),)),
            Text("A cat is"),
            Text(" a pet."),
            done(holes=("cat", "a pet")),
        ],
    ),
    "failure": (ON, [BEGUN, Text(" a"), Failed(Refusal("internal", "not finite."))]),
}
"""Each kind of stream of a completion."""

EDITOR: Body = {
    "model": "codestral-latest",
    "prompt": "def mean(x):\n    return ",
    "suffix": "\n\n\nprint(mean([1, 2]))\n",
    "max_tokens": 8,
    "temperature": 0.01,
    "stop": ["[PREFIX]", "[SUFFIX]", "\n\n"],
    "stream": True,
}
"""A request for a gap as Continue sends it to fim/completions."""

GAPS: Mapping[str, Kind] = {
    "gap": (EDITOR, [BEGUN, Text("sum(x)"), Text(" / 2"), done(holes=("sum(x) / 2",))]),
    "gap_cut": (EDITOR, [BEGUN, Text("sum(x)\n\nx = 1"), done(holes=("sum(x)\n\nx = 1",))]),
    "gap_full": (EDITOR, [BEGUN, Text("sum(x"), done(usage=Usage(12, 8), holes=("sum(x",))]),
    "pinged": (EDITOR, [PING, BEGUN, PING, Text("x[0]"), PING, done(holes=("x[0]",))]),
    "plain": ({**EDITOR, "suffix": ""}, [BEGUN, Text("sum(x)"), done()]),
    "usage": ({**EDITOR, **USAGE}, [BEGUN, Text("0"), done(usage=USED, holes=("0",))]),
    "failure": (EDITOR, [BEGUN, Text("sum("), Failed(Refusal("internal", "not finite."))]),
}
"""Each kind of stream of a gap in Mistral's form."""

DIALECTS: Mapping[str, tuple[Dialect, Mapping[str, Kind]]] = {
    "chat": (CHAT_COMPLETIONS, CHAT),
    "completions": (COMPLETIONS, COMPLETION),
    "fim": (FIM, GAPS),
}
"""The dialects by the folders of their tests."""


def asked(dialect: Dialect, body: Body) -> Asked:
    """The question of a request that is streamed."""
    return dialect.read(fields_of({**body, "stream": True}), FACTS)


def spoken(name: str, kind: str) -> str:
    """All that is sent for a kind of stream of a dialect."""
    dialect, kinds = DIALECTS[name]
    body, steps = kinds[kind]
    return streamed(dialect, asked(dialect, body), steps)
