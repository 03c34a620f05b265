"""Baseline: an autoregressive model, run through mlx-lm in turn with the diffusion model.

Both models get the same prompts behind the same number of positions. The baseline writes as many
tokens as a canvas holds, greedily and past any stop: its time per token depends on no text. A
folder that scripts/bench/as_gemma4.py made of the model itself is a baseline on equal weights.
"""

import contextlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.files import MODEL_TYPE, read_object, read_optional
from ..checkpoint.shards import read_headers
from ..conversation.session import Session
from ..errors import FitError, ProfileError, one_line
from ..machine.memory import available_memory
from ..model.memory import WORKSPACE_BYTES, plan_memory, sized
from ..text.chat import Message, render_prompt
from ..text.tokenizer import Tokenizer, load_tokenizer
from .statistics import percentiles
from .workload import Question, Workload, filled, subject_of

AS_GEMMA4 = "scripts/bench/as_gemma4.py"
NOTED, GEMMA4 = "conversion.json", "gemma4_text"  # its manifest, and the layout that it names there


@dataclass(frozen=True)
class BaselineRecord:
    """One answer: seconds to the first token, and of every token after the first."""

    prompt_tokens: int
    prefill_seconds: float
    token_seconds: tuple[float, ...]


@dataclass
class Baseline:
    """A loaded autoregressive model, and its answers so far."""

    name: str
    network: Any
    tokenizer: Tokenizer
    source: str | None = None  # the checkpoint that as_gemma4.py made the folder of
    clock: Callable[[], float] = time.perf_counter
    memory_bytes: int = 0  # of its weights, which MLX's peak includes
    records: list[BaselineRecord] = field(default_factory=list)

    def tokens(self, session: Session, workload: Workload, question: Question) -> list[int]:
        """The prompt in the baseline's ids, as long as the question's if the workload fills it."""
        text = question.prompt.text
        if self.tokenizer.chat_template is None:
            ids = self.tokenizer.encode(text)
        else:
            ids = render_prompt(self.tokenizer, [Message("user", text)]).ids
        if workload.context is None and not workload.fixed:
            return ids
        context = max(len(ids), len(question.tokens))
        return list(filled(self.tokenizer, subject_of(session), ids, context))

    def answer(self, session: Session, workload: Workload, question: Question) -> BaselineRecord:
        """Time the first token, and as many more as a canvas holds."""
        from mlx_lm.generate import generate_step

        prompt = mx.array(self.tokens(session, workload, question))
        length = session.model.config.canvas_length
        start = self.clock()
        stamps = []
        for token, _ in generate_step(prompt, self.network, max_tokens=length + 1):
            int(token)
            stamps.append(self.clock())
        seconds = (later - earlier for earlier, later in pairwise(stamps))
        mx.clear_cache()
        return BaselineRecord(prompt.size, stamps[0] - start, tuple(seconds))

    def to_json(self, diffusion: Mapping[str, Any], ar: Mapping[str, Any] | None) -> dict[str, Any]:
        """The baseline's figures, and their relation to those of both modes of the model."""
        token_ms = [1e3 * s for record in self.records for s in record.token_seconds]
        figures, step_ms = percentiles(token_ms), diffusion["step_ms"]
        own_rate = len(token_ms) / (sum(token_ms) / 1e3)
        return {
            "name": self.name,
            "source": self.source,
            "answers": len(self.records),
            "prefill_tokens_per_second": percentiles(
                [record.prompt_tokens / record.prefill_seconds for record in self.records]
            )["p50"],
            "token_ms": figures,
            "tokens_per_second": own_rate,
            "break_even_tokens_per_step": step_ms["p50"] / figures["p50"],
            "ratio": diffusion["tokens_per_second_without_prefill"] / own_rate,
            "ar_ratio": figures["p50"] / ar["token_ms"]["p50"] if ar else None,
            "answers_token_ms": [
                [1e3 * s for s in record.token_seconds] for record in self.records
            ],
        }


def require_autoregressive(name: str, folder: Path) -> None:
    """ProfileError for a DiffusionGemma checkpoint, before anything is loaded."""
    if read_object(folder / "config.json").get("model_type") == MODEL_TYPE:
        raise ProfileError(
            f"--baseline {name} is a DiffusionGemma checkpoint, expected an autoregressive model "
            f"such as Gemma 4; {AS_GEMMA4} writes it as one."
        )


def load_baseline(name: str, folder: Path, session: Session, *, force: bool = False) -> Baseline:
    """Load `folder` with mlx-lm; ProfileError, in one line, for no autoregressive model.

    FitError, unless `force`, where memory does not hold it beside the model that is loaded.
    """
    require_autoregressive(name, folder)
    config, tokenizer = read_object(folder / "config.json"), load_tokenizer(folder)
    if not force:
        _require_fit(name, folder, session)
    before = mx.get_active_memory()
    try:
        with _quiet():
            from mlx_lm.utils import load_model

            network, _ = load_model(folder)
    except Exception as error:  # mlx-lm raises whatever its model classes do
        reason = one_line(error)[:200] or type(error).__name__
        raise ProfileError(
            f"--baseline {name} (model_type {config.get('model_type')!r}) cannot be loaded by "
            f"mlx-lm: {reason}; give an autoregressive model that it runs."
        ) from None
    vocab_size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    if isinstance(vocab_size, int) and tokenizer.vocab_size > vocab_size:
        raise ProfileError(
            f"--baseline {name}: the tokenizer has {tokenizer.vocab_size} ids, the model "
            f"{vocab_size}; the tokenizer belongs to another checkpoint."
        )
    taken = mx.get_active_memory() - before
    return Baseline(name, network, tokenizer, _source(folder), memory_bytes=taken)


def _source(folder: Path) -> str | None:
    """The checkpoint that a folder was made of, as as_gemma4.py notes it; None for any other."""
    noted = read_optional(folder / NOTED)
    source = noted.get("source") if noted.get("layout") == GEMMA4 else None
    return source if isinstance(source, str) else None


def _require_fit(name: str, folder: Path, session: Session) -> None:
    available = available_memory()
    own = plan_memory(Path(session.info.path)).weights.held_bytes
    other = sum(info.num_bytes for info in read_headers(folder).values())
    if available is not None and own + other + 2 * WORKSPACE_BYTES > available:
        raise FitError(
            f"--baseline {name} ({sized(other)}) does not fit beside the model ({sized(own)}) into "
            f"the {sized(available)} this machine can give; take smaller ones, or try --force."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep quiet the notices that mlx-lm and transformers write when imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
