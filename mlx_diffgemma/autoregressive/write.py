"""The loop of mode ar: token after token, each step submitted before the last one is read.

A segment has as many tokens as a canvas has positions; the caller decides when to draw or stop.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import mlx.core as mx
import numpy as np

from ..checkpoint.generation import TokenDefaults
from ..generation.frame import Frame, committed
from ..generation.noise import CounterNoise, fresh_seed
from ..generation.prompt import Prompt, encode, fitting_prefix, token_budget
from ..generation.settings import Settings
from ..images.pixels import Pixels
from ..model.cache import Prefix
from ..model.given import Ids, token_ids
from ..model.text import Model, Progress, not_finite
from .sampling import Sampled, sample

AHEAD = 256  # tokens whose noise is made at a time


def write(
    model: Model,
    prompt_tokens: Ids,
    settings: Settings | None = None,
    noise: CounterNoise | None = None,
    *,
    images: Sequence[Pixels] = (),
    prefix: Prefix | None = None,
    progress: Progress | None = None,
    watched: bool = False,
) -> Iterator[Frame]:
    """Yield a Frame a token and a committed one a segment, each when it is read.

    For the arguments and errors see `diffusion.denoise.denoise`. watched: frames tell entropies.
    """
    settings = settings or Settings(mode="ar")
    resolved = settings.resolved(model.config, fresh_seed())
    tokens = token_ids(prompt_tokens, model.config.text.vocab_size)
    prompt = Prompt(tokens, model.placed(tokens, images))
    soft = prompt.soft_tokens
    budget = token_budget(model.config, len(tokens), settings.max_tokens, soft, mode="ar")
    prefix = fitting_prefix(model, prefix, prompt)
    writer = Writer(model, resolved.tokens, noise or CounterNoise(resolved.seed), prompt, watched)
    return _segments(writer, budget, prefix, progress)


def _segments(
    writer: "Writer", max_tokens: int, prefix: Prefix, progress: Progress | None
) -> Iterator[Frame]:
    C = writer.model.config.canvas_length
    prefix.reserve(len(writer.prompt.tokens) + max_tokens)
    written: list[int] = []
    for number in range(-(-max_tokens // C)):
        count = min(C, max_tokens - len(written))
        last = yield from writer.segment(number, written, count, prefix, progress=progress)
        written += last.tokens.tolist()
        stopped = written[-1] in writer.model.config.stop_ids
        reason = "stop" if stopped else "length" if len(written) == max_tokens else None
        yield committed(last, last.tokens, reason)
        if reason:
            return


@dataclass
class Writer:
    """The model, sampler, noise and prompt of one call."""

    model: Model
    sampler: TokenDefaults
    noise: CounterNoise
    prompt: Prompt
    watched: bool = False
    _uniforms: dict[int, mx.array] = field(default_factory=dict)

    def segment(
        self,
        number: int,
        written: Sequence[int],
        count: int,
        prefix: Prefix,
        *,
        progress: Progress | None = None,
    ) -> Generator[Frame, None, Frame]:
        """Up to `count` tokens behind `written`, to the stop id; returns the last frame.

        Afterwards the prefix holds all but the last token.
        """
        began = time.perf_counter()
        last = self._encode_all_but_one(written, prefix, progress)
        if number == 0:
            prefix.mark()
        encode_seconds = time.perf_counter() - began
        behind = prefix.length
        tokens: list[int] = []
        entropies: list[float] = []
        waiting = self._submit(mx.array([last], mx.int32), len(written), prefix)
        while True:
            began, index = time.perf_counter(), len(tokens) + 1
            ahead = None
            if index < count:  # before this one is read: the device has something to do meanwhile
                ahead = self._submit(waiting.token, len(written) + index, prefix)
            tokens.append(waiting.read())
            entropy, top = waiting.look()
            if self.watched and not math.isfinite(entropy):
                raise not_finite(self.model, f"token {len(written) + index}: its distribution")
            entropies.append(entropy)
            frame = Frame(
                number,
                len(tokens) - 1,
                np.array(tokens, np.int32),
                np.array(entropies, np.float32),
                np.ones(len(tokens), np.bool_),
                temperature=self.sampler.temperature,
                seconds=time.perf_counter() - began,
                encode_seconds=encode_seconds,
                mode="ar",
                top_probability=top,
            )
            if ahead is None or tokens[-1] in self.model.config.stop_ids:
                prefix.roll_back(behind + len(tokens))
                yield frame
                return frame
            yield frame
            waiting = ahead

    def _encode_all_but_one(
        self, written: Sequence[int], prefix: Prefix, progress: Progress | None
    ) -> int:
        """Encode all but the last of prompt and `written`, which is returned: it is a step's."""
        whole = [*self.prompt.tokens, *written]
        prefix.roll_back(len(whole) - 1)
        inside = replace(self.prompt, tokens=whole[: min(len(self.prompt.tokens), len(whole) - 1)])
        behind = whole[max(prefix.length, len(inside.tokens)) : -1]
        encode(self.model, inside, behind, prefix, progress)
        return whole[-1]

    def _submit(self, token: mx.array, index: int, prefix: Prefix) -> Sampled:
        """Begin the step that draws the answer's token `index` behind `token`."""
        logits = self.model.step(token, prefix)
        first = index - index % AHEAD
        if first not in self._uniforms:
            self._uniforms = {first: self.noise.tokens(first, AHEAD)}
        uniforms = self._uniforms[first][index - first : index - first + 1]
        drawn = sample(logits, uniforms, self.sampler, watched=self.watched)
        mx.async_eval(drawn.token, *(() if drawn.seen is None else (drawn.seen,)))
        if index % AHEAD == AHEAD - 1:
            mx.clear_cache()
        return drawn
