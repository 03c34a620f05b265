"""The loop of mode ar: token after token, each step submitted before the last one is read.

A segment has as many tokens as a canvas has positions; the caller decides when to draw or stop. The
form of an answer allows other tokens behind each token: then a step waits for the one before.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.generation import TokenDefaults
from ..constrain.constraint import Constraint
from ..diffusion.held import require_of_answer
from ..generation.agreement import require_same_answer, require_shareable, shared_seed
from ..generation.frame import Frame, committed, ended
from ..generation.noise import CounterNoise
from ..generation.prompt import Prompt, encode, fitting_prefix, token_budget
from ..generation.settings import Settings
from ..images.pixels import Pixels
from ..model.finite import not_finite
from ..model.given import Ids, token_ids
from ..model.prefix import Prefix
from ..model.text import Model, Progress
from ..share.guard import lost_macs, require_equal_work
from .held import allowed_part, allowed_tokens
from .lookup import Lookup, drafts_of
from .sampling import BROKEN, Drawn, Sampled, sample

AHEAD = 256  # tokens whose noise is made at a time

Element = TypeVar("Element", bound=np.generic)


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
    lookup: Lookup | None = None,
    constraint: Constraint | None = None,
) -> Iterator[Frame]:
    """Yield a Frame a token and a committed one a segment, each when it is read.

    For the arguments and errors see `diffusion.denoise.denoise`. watched: frames tell entropies.
    lookup: counts the drafts, where the settings ask for them and they pay; None for one inside.
    constraint: the form of the answer, which moves on with each token.
    """
    settings, share = settings or Settings(mode="ar"), model.part.share
    require_shareable(model.part, settings.mode)
    resolved = settings.resolved(model.config, shared_seed(share))
    tokens = token_ids(prompt_tokens, model.config.text.vocab_size)
    prompt = Prompt(tokens, model.placed(tokens, images))
    soft = prompt.soft_tokens
    budget = token_budget(model.config, len(tokens), settings.max_tokens, soft, mode="ar")
    if constraint:
        require_of_answer(constraint, model.config, budget)
    prefix = fitting_prefix(model, prefix, prompt)
    noise = noise or CounterNoise(resolved.seed)
    lookup = lookup or drafts_of(model, settings)
    require_same_answer(share, prompt, prefix, resolved)
    writer = Writer(model, resolved.tokens, noise, prompt, watched, lookup, constraint)
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
        is_last = len(written) == max_tokens
        tokens, reason = ended(last.tokens, writer.model.config.stop_ids, is_last=is_last)
        yield committed(last, tokens, reason)
        if reason:
            return


@dataclass
class Writer:
    """The model, sampler, noise and prompt of one call.

    watched: frames tell entropies; lookup: drafts from the text so far, None without; constraint:
    the form of the answer; strain: of all tokens so far, as `Drawn` has it.
    """

    model: Model
    sampler: TokenDefaults
    noise: CounterNoise
    prompt: Prompt
    watched: bool = False
    lookup: Lookup | None = None
    constraint: Constraint | None = None
    strain: float = 0.0
    _made: tuple[int, mx.array] | None = None  # a token of the answer, and uniforms from it on

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

        Afterwards the prefix holds all but the last token, and all Macs that share the model have
        written the same. It may be left at any frame: then the prefix holds the tokens of that
        frame, and perhaps some behind them.
        """
        share = self.model.part.share
        with lost_macs(share):
            last = yield from self._frames(number, written, count, prefix, progress)
            require_equal_work(share, last.tokens.tolist())
        return last

    def _frames(
        self,
        number: int,
        written: Sequence[int],
        count: int,
        prefix: Prefix,
        progress: Progress | None,
    ) -> Generator[Frame, None, Frame]:
        """The frames of a segment; see there."""
        began = time.perf_counter()
        last = self._encode_all_but_last(written, prefix, progress)
        if number == 0:
            prefix.mark()
        shown = _Shown(number, count, self.sampler.temperature, time.perf_counter() - began)
        end = len(self.prompt.tokens) + len(written)
        began = time.perf_counter()
        first = self._pass(last, len(written), prefix)
        for drawn in self._drawn(first, range(len(written), len(written) + count), prefix):
            if drawn.token == BROKEN:
                raise not_finite(self.model, f"the logits of token {len(written) + shown.length}")
            strain = self.strain if self.constraint else None
            frame = shown.longer(drawn, time.perf_counter() - began, strain)
            if shown.length == count or drawn.token in self.model.config.stop_ids:
                prefix.roll_back(end + shown.length - 1)
                yield frame
                return frame
            yield frame
            began = time.perf_counter()
        raise RuntimeError("a segment has a token at least")

    def _encode_all_but_last(
        self, written: Sequence[int], prefix: Prefix, progress: Progress | None
    ) -> "_Last":
        """Encode prompt and `written` but for the last token, or the image that they end with."""
        whole = [*self.prompt.tokens, *written]
        if self.lookup:
            self.lookup.follow(whole)
        images = [image for image in self.prompt.images if image.span.stop == len(whole)]
        start = images[0].span.start if images else len(whole) - 1
        prefix.roll_back(start)
        before = [image for image in self.prompt.images if image.span.stop <= start]
        prompt = Prompt(self.prompt.tokens[:start], before)
        behind = whole[max(prefix.length, len(prompt.tokens)) : start]
        encode(self.model, prompt, behind, prefix, progress)
        return _Last(whole[start:], [image.pixels for image in images])

    def _pass(self, last: "_Last", index: int, prefix: Prefix) -> Sampled:
        """Begin the pass that draws the answer's token `index` behind the last ones."""
        if not last.images:
            return self._step(mx.array(last.tokens, mx.int32), index, prefix)
        hidden = self.model.encode_hidden(last.tokens, prefix, images=last.images)
        return self._sampled(self.model.logits(hidden[:, -1:])[0], index)

    def _step(self, token: mx.array, index: int, prefix: Prefix) -> Sampled:
        """Begin the step that draws the answer's token `index` behind `token` [1]."""
        return self._sampled(self.model.step(token, prefix), index)

    def _drawn(self, waiting: Sampled, indices: range, prefix: Prefix) -> Iterator[Drawn]:
        """The answer's tokens `indices`, of which the first is waited for.

        The next step is submitted before one is read, so that the device has something to do
        meanwhile; not where a draft is expected or a form is held, which need the token.
        """
        index = indices.start
        while True:
            ahead, waits = None, self.constraint or (self.lookup and self.lookup.matches)
            if index + 1 < indices.stop and not waits:
                ahead = self._step(waiting.tokens, index + 1, prefix)
            (drawn,) = waiting.read()
            self._take(drawn)
            yield drawn
            index += 1
            if index == indices.stop:
                return
            if ahead is not None:
                waiting = ahead
                continue
            waiting, accepted = yield from self._drafted(drawn, index, indices.stop, prefix)
            index += accepted

    def _drafted(
        self, last: Drawn, index: int, stop: int, prefix: Prefix
    ) -> Generator[Drawn, None, tuple[Sampled, int]]:
        """The tokens from `index` on that a draft behind the last one got right.

        Returns the token behind them, and their number. Without a draft it is a step.
        """
        lookup = self.lookup
        draft = lookup.draft(stop - index - 1) if lookup else []
        if self.constraint:
            draft = allowed_part(self.constraint, draft)
        if not lookup or not draft:
            return self._step(mx.array([last.token], mx.int32), index, prefix), 0
        behind = prefix.length + 1
        hidden = self.model.encode_hidden([last.token, *draft], prefix, images=None)
        sampled = self._sampled(self.model.logits(hidden)[0], index, draft)
        rows = sampled.read()
        accepted = lookup.checked(draft, [row.token for row in rows])
        prefix.roll_back(behind + accepted)
        for row in rows[:accepted]:
            self._take(row)
            lookup.accepted += 1
            yield row
        return sampled.row(accepted), accepted

    def _take(self, drawn: Drawn) -> None:
        """Take note of the next token of the answer."""
        if self.lookup:
            self.lookup.append(drawn.token)
        if self.constraint and drawn.token != BROKEN:
            self.constraint.advance([drawn.token])
            self.strain += drawn.strain

    def _sampled(self, logits: mx.array, index: int, draft: Sequence[int] = ()) -> Sampled:
        """Begin to draw the answer's tokens from `index` on, a row of logits [R, V] each.

        draft: tokens that the rows but the first come behind.
        """
        rows, form = logits.shape[0], self.constraint
        allowed = allowed_tokens(form, draft) if form else None
        uniforms = self._uniforms(index, rows)
        share = self.model.part.share
        share.alive()
        drawn = sample(logits, uniforms, self.sampler, watched=self.watched, allowed=allowed)
        drawn = replace(drawn, tokens=share.of_rank_0(drawn.tokens, "token")).submit()
        if index // AHEAD < (index + rows) // AHEAD:
            mx.clear_cache()
        return drawn

    def _uniforms(self, index: int, rows: int) -> mx.array:
        """[rows, 2] in (0, 1) for the tokens from `index` on, made many at a time."""
        first, made = self._made or (0, mx.zeros((0, 2)))
        if not first <= index <= first + made.shape[0] - rows:
            first, made = self._made = index, self.noise.tokens(index, AHEAD)
        return made[index - first : index - first + rows]


@dataclass(frozen=True)
class _Last:
    """The tokens that the first pass of a segment reads: one, or those of the image at the end."""

    tokens: list[int]
    images: list[Pixels]


class _Shown:
    """The frames of a segment: each a view of arrays that are made once, and only grow."""

    def __init__(self, number: int, count: int, temperature: float, encode_seconds: float) -> None:
        self.number, self.temperature, self.encode_seconds = number, temperature, encode_seconds
        self.length = 0
        self._tokens = np.zeros(count, np.int32)
        self._entropies = np.full(count, np.nan, np.float32)
        self._accepted = np.ones(count, np.bool_)

    def longer(self, drawn: Drawn, seconds: float, strain: float | None) -> Frame:
        """The frame with one token more; strain: of all tokens of the answer, if it has a form."""
        self._tokens[self.length] = drawn.token
        self._entropies[self.length] = drawn.entropy
        self.length += 1
        return Frame(
            canvas=self.number,
            step=self.length - 1,
            tokens=_begun(self._tokens, self.length),
            entropies=_begun(self._entropies, self.length),
            accepted=_begun(self._accepted, self.length),
            temperature=self.temperature,
            seconds=seconds,
            encode_seconds=self.encode_seconds,
            mode="ar",
            top_probability=drawn.top_probability,
            strain=strain,
        )


def _begun(array: NDArray[Element], length: int) -> NDArray[Element]:
    """The first elements of an array, which whoever sees them cannot change."""
    view = array[:length]
    view.flags.writeable = False
    return view
