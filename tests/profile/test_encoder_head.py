"""The encoder as a next-token model: causal, whole, and scored as it should be."""

import math
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.profile import encoder_head
from mlx_diffgemma.profile.encoder_head import agreement, measure_encoder_head, score, score_text
from mlx_diffgemma.profile.measure import Meter
from mlx_diffgemma.profile.workload import Workload, first_questions, shipped_prompts

IDS = [int(n) for n in np.random.default_rng(3).integers(0, 128, 40)]


def test_it_extends_the_prefix_as_encoding_does(deep: Session) -> None:
    model, whole, parts = deep.model, deep.model.new_prefix(), deep.model.new_prefix()
    model.encode_hidden(IDS, whole)
    model.encode(IDS, parts)
    assert whole.tokens == parts.tokens
    for ours, theirs in zip(whole.arrays(), parts.arrays(), strict=True):
        assert_close(ours, theirs, 2e-5, "keys and values")


@pytest.mark.slow
def test_token_by_token_is_one_pass(deep: Session) -> None:
    model, prefix = deep.model, deep.model.new_prefix()
    whole = model.logits(model.encode_hidden(IDS, model.new_prefix()))[0]
    single = [model.logits(model.encode_hidden([token], prefix))[0, 0] for token in IDS]
    assert_close(mx.stack(single), whole, 5e-5, "logits")  # as whole passes against the reference


def test_it_does_not_see_what_comes_later(deep: Session) -> None:
    model = deep.model
    one = model.logits(model.encode_hidden(IDS, model.new_prefix()))[0, :20]
    other = model.logits(model.encode_hidden([*IDS[:20], *IDS[:20]], model.new_prefix()))[0, :20]
    assert_close(one, other, 5e-5, "logits")


def test_nats_are_those_of_the_softmax(deep: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of rows and of positions at a time."""
    logits = np.array(deep.model.logits(deep.model.encode_hidden(IDS, deep.model.new_prefix()))[0])
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    shares = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    expected = -shares[np.arange(39), IDS[1:]]
    for rows, chunk in ((128 * 64, 2048), (128 * 7, 2048), (1, 9)):
        monkeypatch.setattr(encoder_head, "HEAD_LOGITS", rows)
        monkeypatch.setattr(encoder_head, "PREFILL_CHUNK", chunk)
        found = score(deep.model, IDS)
        np.testing.assert_allclose(found.nats, expected, atol=1e-4)
        assert found.best.tolist() == (logits[:-1].argmax(axis=-1) == IDS[1:]).tolist()


def test_a_model_that_knows_nothing_has_the_vocabularys_perplexity(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Sizes("sf", vocab_size=128, sharpness=0.0))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{embedded_folder('tiny-sudoku')}/{name}", folder)
    session = dg.load(folder)
    text = score_text(session, shipped_prompts()[0])
    assert text.answer_nats == pytest.approx(text.answer_tokens * math.log(128))
    assert text.prompt_nats == pytest.approx(text.prompt_tokens * math.log(128))
    asked = session.turn(shipped_prompts()[0].text).prompt_ids
    assert text.prompt_tokens == len(asked) - 1
    assert text.answer_tokens == len(session.tokenizer.encode(shipped_prompts()[0].answer))


def test_agreement_counts_committed_tokens(sudoku: Session) -> None:
    question = first_questions(sudoku, Workload(steps=2))[0]
    record = Meter(sudoku.model).answer(question, commit_last=False)
    equal, count = agreement(sudoku.model, record)
    ids = [*question.tokens, *record.token_ids]
    logits = sudoku.model.logits(sudoku.model.encode_hidden(ids, sudoku.model.new_prefix()))[0]
    best = np.array(mx.argmax(logits, axis=-1))[len(question.tokens) - 1 : -1]
    assert (equal, count) == (int((best == record.token_ids).sum()), 90)


@pytest.mark.slow
def test_the_report(sudoku: Session) -> None:
    question = first_questions(sudoku, Workload(steps=2))[0]
    record = Meter(sudoku.model).answer(question, commit_last=False)
    told: list[tuple[int, int]] = []
    found = measure_encoder_head(
        sudoku, [record], progress=lambda done, total: told.append((done, total))
    )
    assert told == [(done, told[-1][1]) for done in range(1, told[-1][1] + 1)]
    assert len(found["texts"]) == 20
    assert len(found["token_ms_samples"]) == encoder_head.TIMED
    nats = sum(text["answer_nats"] for text in found["texts"])
    tokens = sum(text["answer_tokens"] for text in found["texts"])
    assert tokens == 20 * 89  # nine rows of nine digits and the breaks between them
    assert found["answer_perplexity"] == pytest.approx(math.exp(nats / tokens))
    assert found["agreement_tokens"] == 90
