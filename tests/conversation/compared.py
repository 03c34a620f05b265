"""A conversation beside one that has nothing encoded yet: the same answers, the same cache."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.session import Session

FEW = dg.Settings(max_tokens=24, seed=5)  # three canvases


class Spy:
    """Stands in front of model.encode and keeps what it was given."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inner, self.calls = session.model.encode, list[list[int]]()
        monkeypatch.setattr(session.model, "encode", self)

    def __call__(self, tokens: Any, *args: Any, **options: Any) -> Any:
        self.calls.append(list(tokens))
        return self.inner(tokens, *args, **options)


def without_cache(session: Session) -> Session:
    """The same conversation, with nothing encoded yet."""
    return replace(session, conversation=Conversation(session.system, list(session.history)))


def ask_both(session: Session, prompt: str, **options: Any) -> tuple[dg.Reply, dg.Reply]:
    """The next answer, and that of a session that has to encode the whole conversation."""
    fresh = without_cache(session)
    got, expected = session.ask(prompt, **options), fresh.ask(prompt, **options)
    assert_same_cache(session, fresh)
    return got, expected


def assert_same_cache(session: Session, fresh: Session) -> None:
    """Equal tokens; keys and values of what a layer sees, to the rounding of other portions."""
    prefix, other = session.prefix, fresh.prefix
    assert prefix is not None
    assert other is not None
    assert prefix.tokens == other.tokens
    pairs = zip(session.model.config.text.layers, prefix.layers, strict=True)
    for number, (layer, _) in enumerate(pairs):
        for name in ("keys", "values"):
            a, b = getattr(prefix, name)[number], getattr(other, name)[number]
            if layer.sliding:
                seen = min(15, prefix.length)
                a, b = a[:, :, -seen:], b[:, :, -seen:]
            # float32, values to about 4: matrix products over other row counts round otherwise.
            assert_close(a, b, 1e-5, f"{name} of layer {number}")


def assert_same_answer(got: dg.Reply, expected: dg.Reply) -> None:
    assert got.token_ids == expected.token_ids
    assert (got.text, got.steps) == (expected.text, expected.steps)
    assert (got.finish_reason, got.prompt_tokens) == (
        expected.finish_reason,
        expected.prompt_tokens,
    )


def frames_until_commit(turn: Iterator[dg.Frame], count: int) -> None:
    for frame in turn:
        count -= frame.committed
        if count == 0:
            return
