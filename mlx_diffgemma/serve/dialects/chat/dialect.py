"""The route of chat completions."""

from ...refusal import OPENAI, openai_body
from ..dialect import Dialect
from .encoder import encoder
from .request import read

CHAT_COMPLETIONS = Dialect("/v1/chat/completions", read, encoder, OPENAI, openai_body)
