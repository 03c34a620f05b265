"""The route of chat completions."""

from ..dialect import Dialect
from ..refusal import OPENAI, openai_body
from .encoder import encoder
from .request import read

CHAT_COMPLETIONS = Dialect("/v1/chat/completions", read, encoder, OPENAI, openai_body)
