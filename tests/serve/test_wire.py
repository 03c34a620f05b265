"""Golden streams as they come over a socket: route, worker and encoder together."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from live import running
from scripted import FACTS, ScriptedEngine
from transcripts import ENVELOPE, KINDS, SCHEMA, WEATHER, Step, stored

from mlx_diffgemma.serve.dialect import Dialect
from mlx_diffgemma.serve.host import Makers
from mlx_diffgemma.serve.messages.dialect import MESSAGES
from mlx_diffgemma.serve.responses.dialect import RESPONSES

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


class Kinds:
    """A script of the kind that a request is for."""

    def __init__(self) -> None:
        self.kind = "plain"

    def __call__(self, asked: object) -> Sequence[Step]:
        return KINDS[self.kind][1]


@pytest.mark.parametrize(("name", "dialect"), [("messages", MESSAGES), ("responses", RESPONSES)])
def test_every_golden_stream_comes_over_a_socket(name: str, dialect: Dialect) -> None:
    script = Kinds()
    make = Makers(key=lambda: ENVELOPE.key, clock=lambda: float(ENVELOPE.created))
    engine = ScriptedEngine(script, facts=replace(FACTS, name=ENVELOPE.model))
    with running(engine, [dialect], make=make) as server:
        for script.kind in SENT:
            body = {**ASKED[name], **_more(name, script.kind), "stream": True}
            sent = _posted(server.port, dialect.path, body)
            assert sent == stored(name, script.kind).read_bytes()


def _more(name: str, kind: str) -> dict[str, Any]:
    if kind in ("tools", "parallel", "after"):
        return MORE[name]["tools"]
    if kind == "drafts":
        return {"diffusion": {"drafts": True}}
    return MORE[name].get(kind, {})


def _posted(port: int, path: str, body: dict[str, Any]) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read()
