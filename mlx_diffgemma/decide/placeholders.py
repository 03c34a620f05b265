"""Placeholders of images in a request's texts, and the marks that take their places in prompts.

A placeholder may be any text, so it is looked for in what a caller wrote alone, never in our own
words. A mark is one character for private use that nothing else in the request has.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from .assets import strings
from .questions import Question
from .request import Request

PRIVATE = range(0xF0000, 0xFFFFE)


def marked(request: Request) -> tuple[Request, dict[str, str]]:
    """The request with marks in its texts, and the mark of each placeholder."""
    if not request.assets:
        return request, {}
    questions = [question.to_json() for question in request.questions.values()]
    used = set("".join(strings([request.state, request.instructions, questions])))
    free = islice((chr(c) for c in PRIVATE if chr(c) not in used), len(request.assets))
    marks = {asset.placeholder: mark for asset, mark in zip(request.assets, free, strict=True)}
    told = replace(
        request,
        state=_with_marks(request.state, marks),
        instructions=_with_marks(request.instructions, marks),
        questions={name: _question(each, marks) for name, each in request.questions.items()},
    )
    return told, marks


def parted(text: str, images: Mapping[str, object]) -> tuple[object, ...]:
    """A text with an image in the place of each mark."""
    if not images:
        return (text,)
    pieces = re.split(f"([{''.join(images)}])", text)
    parts = (images[piece] if i % 2 else piece for i, piece in enumerate(pieces))
    return tuple(part for part in parts if part != "")


def _question(question: Question, marks: Mapping[str, str]) -> Question:
    return replace(
        question,
        instructions=_with_marks(question.instructions, marks),
        criteria=_with_marks(question.criteria, marks),
    )


def _with_marks(value: Any, marks: Mapping[str, str]) -> Any:
    """A value of JSON with marks in its strings; keys stay."""
    if isinstance(value, str):
        names = sorted(marks, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, names)), lambda found: marks[found[0]], value)
    if isinstance(value, list):
        return [_with_marks(each, marks) for each in value]
    if isinstance(value, dict):
        return {name: _with_marks(each, marks) for name, each in value.items()}
    return value
