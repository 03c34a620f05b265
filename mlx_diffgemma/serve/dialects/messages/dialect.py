"""Anthropic's Messages API as a dialect."""

from __future__ import annotations

from ...refusal import ANTHROPIC
from ..dialect import Dialect
from .encoder import MessagesEncoder
from .request import read
from .threads import refused_body

MESSAGES = Dialect(
    path="/v1/messages",
    read=read,
    encoder=MessagesEncoder,
    names=ANTHROPIC,
    refused=refused_body,
)
