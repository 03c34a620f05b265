"""Anthropic's Messages API as a dialect."""

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
