"""Requests for decisions, and all that can be wrong with them."""

from collections.abc import Mapping
from typing import Any

NOUL = {"type": "noul", "instructions": "Refund?"}
CHOICE = {"type": "choice", "criteria": {"a": None, "b": "the second"}}
SCORE = {"type": "score", "criteria": ["low", "high"]}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "jev-latest", "state": "It is down.", "questions": {"q": NOUL}, **fields}


def question(**fields: Any) -> dict[str, Any]:
    return body(questions={"q": {**NOUL, **fields}})


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in body().items() if key != name}


def of(kind: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return body(questions={"q": {**kind, **fields}})


MANY = {str(i): None for i in range(256)}
AT = ("questions", "q")
WRONG: list[tuple[Any, tuple[str | int, ...]]] = [
    (b'{"state": ', ()),
    (b"\xff\xfe", ()),
    (b'{"state": "\\ud800", "questions": {}}', ()),
    (b'{"state": NaN}', ()),
    (b'{"state": [1e400]}', ()),
    (b"[" * 100_000, ()),
    (b'{"state": ' + b"[" * 200 + b"]" * 200 + b"}", ()),
    (b'{"state": "x", "questions": {"q": {"type": "noul"}, "q": {}}}', ()),
    (b'{"state": "x", "questions": {"q": {"type": "choice", "criteria": {"a": 1, "a": 2}}}}', ()),
    ([], ()),
    ("text", ()),
    (without("state"), ("state",)),
    (body(state=None), ("state",)),
    (body(state=7), ("state",)),
    (without("questions"), ("questions",)),
    (body(questions={}), ("questions",)),
    (body(questions=[NOUL]), ("questions",)),
    (body(questions={"q": "Refund?"}), AT),
    (body(questions={"": NOUL}), ("questions", "")),
    (body(questions={" \n": NOUL}), ("questions", " \n")),
    (body(questions={"q": {"instructions": "Refund?"}}), (*AT, "type")),
    (question(type="boolean"), (*AT, "type")),
    (question(type="span"), (*AT, "type")),
    (question(type="box"), (*AT, "type")),
    (question(type=["noul"]), (*AT, "type")),
    (question(instructions=None), (*AT, "instructions")),
    (question(instructions=" "), (*AT, "instructions")),
    (question(instructions=3), (*AT, "instructions")),
    (question(instructions=None, criteria={"true": None}), (*AT, "instructions")),
    (question(criteria={"yes": "they do"}), (*AT, "criteria")),
    (question(criteria=["yes"]), (*AT, "criteria")),
    (question(criteria={"true": 1}), (*AT, "criteria", "true")),
    (of(CHOICE, criteria=None), (*AT, "criteria")),
    (of(CHOICE, criteria=["a", "b"]), (*AT, "criteria")),
    (of(CHOICE, criteria={}), (*AT, "criteria")),
    (of(CHOICE, criteria=MANY), (*AT, "criteria")),
    (of(CHOICE, criteria={"a": True}), (*AT, "criteria", "a")),
    (of(SCORE, criteria={"0": "low"}), (*AT, "criteria")),
    (of(SCORE, criteria=[]), (*AT, "criteria")),
    (of(SCORE, criteria=["level"] * 11), (*AT, "criteria")),
    (of(SCORE, criteria=["low", None]), (*AT, "criteria", 1)),
    (body(model=None), ("model",)),
    (body(model=7), ("model",)),
    (body(instructions=["text"]), ("instructions",)),
    (body(samples=0), ("samples",)),
    (body(samples=33), ("samples",)),
    (body(samples="many"), ("samples",)),
    (body(samples=True), ("samples",)),
    (body(samples=2.0), ("samples",)),
    (body(steps=9), ("steps",)),
    (body(steps=0), ("steps",)),
    (body(think=-1), ("think",)),
    (body(think="auto"), ("think",)),
    (body(seed=-1), ("seed",)),
    (body(auto_threshold="low"), ("auto_threshold",)),
    (body(layout="apart"), ("layout",)),
    (body(orders=0), ("orders",)),
    (body(label_mass=1), ("label_mass",)),
    (question(depends_on=["other"]), (*AT, "depends_on")),
    (question(depends_on=["q"]), (*AT, "depends_on")),
    (question(depends_on="q"), (*AT, "depends_on")),
    (question(ask_if={"other": ["yes"]}), (*AT, "ask_if")),
    (question(ask_if=["other"]), (*AT, "ask_if")),
    (question(alone="yes"), (*AT, "alone")),
    (body(ask=["other"]), ("ask", 0)),
    (body(ask=[]), ("ask",)),
    (body(ask="q"), ("ask",)),
    (body(stream=True), ("stream",)),
]
