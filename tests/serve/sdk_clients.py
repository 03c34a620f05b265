"""The official SDKs in front of bytes that are there already: no socket, and their own parsers."""

from __future__ import annotations

import anthropic
import httpx2
import openai

STREAM = {"content-type": "text/event-stream"}


def _transport(body: str | bytes, headers: dict[str, str]) -> httpx2.MockTransport:
    content = body.encode() if isinstance(body, str) else body
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=content))


def openai_reading(stream: str) -> openai.OpenAI:
    """A client whose every request is answered by a stream."""
    client = httpx2.Client(transport=_transport(stream, STREAM))
    return openai.OpenAI(api_key="k", base_url="http://there/v1", http_client=client)


def async_openai_reading(stream: str) -> openai.AsyncOpenAI:
    """The same, for those that wait."""
    client = httpx2.AsyncClient(transport=_transport(stream, STREAM))
    return openai.AsyncOpenAI(api_key="k", base_url="http://there/v1", http_client=client)


def anthropic_reading(stream: str) -> anthropic.Anthropic:
    """A client whose every request is answered by a stream."""
    client = httpx2.Client(transport=_transport(stream, STREAM))
    return anthropic.Anthropic(api_key="k", base_url="http://there", http_client=client)


def async_anthropic_reading(stream: str) -> anthropic.AsyncAnthropic:
    """The same, for those that wait."""
    client = httpx2.AsyncClient(transport=_transport(stream, STREAM))
    return anthropic.AsyncAnthropic(api_key="k", base_url="http://there", http_client=client)
