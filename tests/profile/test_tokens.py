"""Tokens of mode ar: how many are timed, behind which prefix, and what ends them."""

from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.model.prefix import Prefix
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.profile.race import ROUNDS, WARM_UP
from mlx_diffgemma.profile.tokens import Written, row_works

PROMPT, OTHER = list(range(40, 60)), list(range(50, 70))


@pytest.fixture
def model(shallow: Session) -> Model:
    """A network for which every token is a stop id."""
    stopping = copy(shallow.model)
    stopping.config = replace(shallow.model.config, stop_ids=tuple(range(128)))
    return stopping


def test_a_canvas_of_tokens_is_timed_whatever_they_are(model: Model) -> None:
    record = Written(model).answer(PROMPT, seed=3)
    assert (record.prompt_tokens, len(record.seconds)) == (20, model.config.canvas_length - 1)
    assert min(record.seconds) > 0


def test_a_prompt_is_encoded_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is another one; the tokens written behind it are forgotten."""
    encoded: list[int] = []
    plain = Model.encode

    def encode(self: Model, tokens: Any, prefix: Prefix | None = None, **options: Any) -> Prefix:
        encoded.append(len(tokens))
        return plain(self, tokens, prefix, **options)

    monkeypatch.setattr(Model, "encode", encode)
    written = Written(model)
    for prompt, seed in ((PROMPT, 0), (PROMPT, 1), (OTHER, 0)):
        written.answer(prompt, seed)
    assert [length for length in encoded if length > 1] == [19, 19]


def test_rows_are_passes_over_so_many_tokens(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    for name, rows_of in (("step", lambda ids: 1), ("encode_hidden", len)):
        monkeypatch.setattr(Model, name, counting(getattr(Model, name), rows_of, seen))
    written = Written(model)
    written.race_rows(PROMPT)
    assert list(written.rows) == [1, 2, 4, 8, 16]
    assert {rows: seen.count(rows) for rows in written.rows} == dict.fromkeys(
        written.rows, WARM_UP + ROUNDS
    )
    assert [len(seconds) for seconds in written.rows.values()] == [ROUNDS] * 5


def counting(method: Any, rows_of: Any, seen: list[int]) -> Any:
    def run(self: Model, ids: Any, prefix: Prefix, **options: Any) -> Any:
        seen.append(rows_of(ids))
        return method(self, ids, prefix, **options)

    return run


def test_rows_stay_inside_the_context(model: Model) -> None:
    model.config = replace(
        model.config, text=replace(model.config.text, max_position_embeddings=25)
    )
    assert list(row_works(model, PROMPT)) == [1, 2, 4]
