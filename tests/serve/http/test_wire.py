"""Golden streams as they come over a socket: route, worker and encoder together."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import openai_kinds
import pytest
from live import running
from scripted import FACTS, ScriptedEngine
from transcripts import ENVELOPE, KINDS, SCHEMA, WEATHER, Step, stored
from waiting import SECONDS

from mlx_diffgemma.serve.dialects.dialect import Dialect
from mlx_diffgemma.serve.dialects.routes import MESSAGES, RESPONSES
from mlx_diffgemma.serve.http.host import Makers

SENT = [kind for kind in KINDS if kind != "pinged"]  # whose pings come by the clock
FORM = {"type": "json_schema", "name": "answer", "schema": SCHEMA}
FUNCTION = WEATHER["function"]
ASKED: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "Hello?"}]},
    "responses": {"input": "Hello?"},
}
MORE: dict[str, dict[str, dict[str, Any]]] = {
    "messages": {
        "form": {"output_config": {"format": FORM}},
        "tools": {
            "tools": [
                {
                    "name": FUNCTION["name"],
                    "description": FUNCTION["description"],
                    "input_schema": FUNCTION["parameters"],
                }
            ]
        },
    },
    "responses": {"form": {"text": {"format": FORM}}, "tools": {"tools": [WEATHER]}},
}


class Script:
    """The events of the answer to the next request."""

    steps: Sequence[Step] = ()

    def __call__(self, asked: object) -> Sequence[Step]:
        return self.steps


@pytest.mark.parametrize(("name", "dialect"), [("messages", MESSAGES), ("responses", RESPONSES)])
def test_every_golden_stream_comes_over_a_socket(name: str, dialect: Dialect) -> None:
    asked = {kind: ({**ASKED[name], **_more(name, kind)}, KINDS[kind][1]) for kind in SENT}
    _require_golden(name, dialect, asked)


@pytest.mark.parametrize("name", openai_kinds.DIALECTS)
def test_every_golden_stream_of_completions_too(name: str) -> None:
    dialect, kinds = openai_kinds.DIALECTS[name]
    _require_golden(name, dialect, {k: asked for k, asked in kinds.items() if k != "pinged"})


def _require_golden(name: str, dialect: Dialect, asked: Mapping[str, openai_kinds.Kind]) -> None:
    """Each kind of stream is what is stored when its request is posted."""
    script = Script()
    make = Makers(key=lambda: ENVELOPE.key, clock=lambda: float(ENVELOPE.created))
    engine = ScriptedEngine(script, facts=replace(FACTS, name=ENVELOPE.model))
    with running(engine, [dialect], make=make) as server:
        for kind, (body, script.steps) in asked.items():
            sent = _posted(server.port, dialect.path, {**body, "stream": True})
            assert sent == stored(name, kind).read_bytes(), kind


def _more(name: str, kind: str) -> dict[str, Any]:
    if kind in ("tools", "parallel", "after"):
        return MORE[name]["tools"]
    if kind in ("form_beside_tools", "called_beside_form"):
        return {**MORE[name]["tools"], **MORE[name]["form"]}
    if kind == "drafts":
        return {"diffusion": {"drafts": True}}
    return MORE[name].get(kind, {})


def _posted(port: int, path: str, body: dict[str, Any]) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read()
