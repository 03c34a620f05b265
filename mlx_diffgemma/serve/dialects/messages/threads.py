"""Threads of the Messages API: conversations that its servers hold, and this one does not.

The SDK's tool runner asks for one; it sends whole conversations once it is told that there is none.
"""

from __future__ import annotations

from typing import Any

from ...refusal import Refusal, anthropic_body
from ..fields import Fields

UNSUPPORTED = "thread_unsupported_request"


class ThreadRefusal(Refusal):
    """The refusal of a thread, with the code that clients look for."""


def require_no_thread(fields: Fields) -> None:
    """ThreadRefusal for a request that begins a thread, or goes on in one."""
    if fields.has("thread"):
        said = "thread is given, and nothing is stored here; send the whole conversation, without."
        raise ThreadRefusal("invalid", said, "thread")


def refused_body(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal, with the code of one of a thread."""
    body = anthropic_body(refusal)
    if not isinstance(refusal, ThreadRefusal):
        return body
    return {**body, "error": {**body["error"], "details": {"error_code": UNSUPPORTED}}}
