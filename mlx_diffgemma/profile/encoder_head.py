"""The encoder with the tied head as a next-token model: the same weights, read causally.

The quality of its predictions is not known for the published checkpoint. Measured here: the
perplexity on the shipped prompts and their reference answers, the share of a finished canvas's
tokens that the encoder would choose, and the speed token by token behind the prefix cache. Logits
are softcapped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from ..conversation.session import Session
from ..model.text import PREFILL_CHUNK, Model, Progress
from .samples import AnswerRecord
from .statistics import percentiles
from .workload import Prompt, is_raw, shipped_prompts, subject_of

HEAD_LOGITS = 2**22  # that exist at a time; more rows are computed in turn
WARM_UP, TIMED = 4, 32  # tokens written one by one

T = TypeVar("T")


@dataclass(frozen=True)
class Scores:
    """Scores of every token but a text's first: its nats, and True where it was most likely."""

    nats: np.ndarray[Any, np.dtype[np.float64]]
    best: np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class TextScores:
    """A prompt and its reference answer: tokens scored and their nats in total."""

    name: str
    prompt_tokens: int
    prompt_nats: float
    answer_tokens: int
    answer_nats: float


def measure_encoder_head(
    session: Session,
    records: Sequence[AnswerRecord],
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """The report of `profile --encoder-head`; records: answers whose tokens it predicts anew.

    progress: called for each text and answer that is scored, and each token that is written.
    """
    prompts = shipped_prompts(subject_of(session))
    done, total = count(1), len(prompts) + len(records) + TIMED

    def counted(result: T) -> T:
        progress(next(done), total)
        return result

    texts = [counted(score_text(session, prompt)) for prompt in prompts]
    agreed = [counted(agreement(session.model, record)) for record in records]
    token_ms = [1e3 * counted(s) for s in token_seconds(session, prompts[0], clock)]
    return {
        "prompt_perplexity": _perplexity([(t.prompt_nats, t.prompt_tokens) for t in texts]),
        "answer_perplexity": _perplexity([(t.answer_nats, t.answer_tokens) for t in texts]),
        "agreement": sum(equal for equal, _ in agreed) / sum(tokens for _, tokens in agreed),
        "agreement_tokens": sum(tokens for _, tokens in agreed),
        "token_ms": percentiles(token_ms),
        "tokens_per_second": 1e3 * len(token_ms) / sum(token_ms),
        "texts": [dict(vars(text)) for text in texts],
        "token_ms_samples": token_ms,
    }


def score_text(session: Session, prompt: Prompt) -> TextScores:
    """Scores of a prompt in its template and of the reference answer behind the prompt."""
    ids = session.turn(prompt.text, raw=is_raw(session)).prompt_ids
    answer = session.tokenizer.encode_text(prompt.answer)
    nats = score(session.model, [*ids, *answer]).nats
    asked, answered = nats[: len(ids) - 1], nats[len(ids) - 1 :]
    return TextScores(
        prompt.name, len(asked), float(asked.sum()), len(answered), float(answered.sum())
    )


def agreement(model: Model, record: AnswerRecord) -> tuple[int, int]:
    """The number of an answer's tokens that the encoder finds most likely, and of all of them."""
    ids = [*record.question.tokens, *record.token_ids]
    best = score(model, ids).best[len(record.question.tokens) - 1 :]
    return int(best.sum()), len(best)


def score(model: Model, ids: Sequence[int]) -> Scores:
    """Scores of every token of `ids` but the first, predicted from those before it."""
    prefix = model.new_prefix()
    nats, best = [], []
    for first in range(0, len(ids) - 1, PREFILL_CHUNK):
        known = list(ids[first : min(first + PREFILL_CHUNK, len(ids) - 1)])
        hidden = model.encode_hidden(known, prefix)
        targets = mx.array(list(ids[first + 1 : first + 1 + len(known)]))
        for logits, wanted in _rows(model, hidden, targets):
            total = mx.logsumexp(logits, axis=-1)
            cost = total - mx.take_along_axis(logits, wanted[:, None], axis=-1)[:, 0]
            nats.append(np.array(cost, dtype=np.float64))
            best.append(np.array(mx.argmax(logits, axis=-1) == wanted))
        mx.clear_cache()
    return Scores(np.concatenate(nats), np.concatenate(best))


def token_seconds(session: Session, prompt: Prompt, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds per token of text written greedily behind a prompt, warm-up left out."""
    model = session.model
    prefix = model.new_prefix()
    ids = session.turn(prompt.text, raw=is_raw(session)).prompt_ids
    prefix.reserve(len(ids) + WARM_UP + TIMED)
    token = _best(model, model.encode_hidden(ids, prefix))
    for number in range(WARM_UP + TIMED):
        began = clock()
        token = _best(model, model.encode_hidden([token], prefix))
        if number >= WARM_UP:
            yield clock() - began


def _best(model: Model, hidden: mx.array) -> int:
    return int(np.array(mx.argmax(model.logits(hidden[0, -1:]), axis=-1))[0])


def _rows(model: Model, hidden: mx.array, targets: mx.array) -> Iterator[tuple[mx.array, mx.array]]:
    """hidden [1, L, H] -> logits [R, V] and targets [R], a few rows at a time."""
    rows = max(1, HEAD_LOGITS // model.config.text.vocab_size)
    for first in range(0, targets.size, rows):
        part = slice(first, first + rows)
        yield model.logits(hidden[0, part]), targets[part]


def _perplexity(texts: Sequence[tuple[float, int]]) -> float:
    return float(np.exp(sum(nats for nats, _ in texts) / sum(count for _, count in texts)))
