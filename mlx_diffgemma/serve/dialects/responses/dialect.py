"""OpenAI's Responses API as a dialect."""

from __future__ import annotations

from ...refusal import OPENAI, openai_body
from ..dialect import Dialect
from .encoder import ResponsesEncoder
from .request import read

RESPONSES = Dialect(
    path="/v1/responses",
    read=read,
    encoder=ResponsesEncoder,
    names=OPENAI,
    refused=openai_body,
)
