"""The routes that generate, a dialect each."""

from __future__ import annotations

from ..families import ANTHROPIC, OPENAI
from .chat import encoder as chat
from .chat.request import read as read_chat
from .completions import encoder as completions
from .completions.request import read as read_completion
from .dialect import Dialect
from .messages.encoder import MessagesEncoder
from .messages.request import read as read_messages
from .responses.encoder import ResponsesEncoder
from .responses.request import read as read_responses

CHAT_COMPLETIONS = Dialect("/v1/chat/completions", read_chat, chat.encoder, OPENAI)
COMPLETIONS = Dialect("/v1/completions", read_completion, completions.encoder, OPENAI)
FIM = Dialect("/v1/fim/completions", read_completion, completions.fim_encoder, OPENAI)
RESPONSES = Dialect("/v1/responses", read_responses, ResponsesEncoder, OPENAI)
MESSAGES = Dialect("/v1/messages", read_messages, MessagesEncoder, ANTHROPIC)

DIALECTS = (CHAT_COMPLETIONS, COMPLETIONS, FIM, RESPONSES, MESSAGES)
