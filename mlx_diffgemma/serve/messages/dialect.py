"""Anthropic's Messages API as a dialect, and its count of tokens."""

from __future__ import annotations

from ..dialect import Dialect
from ..refusal import ANTHROPIC, anthropic_body
from .encoder import MessagesEncoder
from .request import read

MESSAGES = Dialect(
    path="/v1/messages",
    read=read,
    encoder=MessagesEncoder,
    names=ANTHROPIC,
    refused=anthropic_body,
)

COUNT_PATH = "/v1/messages/count_tokens"


def count_body(count: int) -> dict[str, int]:
    """The body that tells how many tokens a request's prompt has."""
    return {"input_tokens": count}
