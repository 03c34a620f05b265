"""One denoising step: decoder, head, draw, acceptance, and the next step's input.

A step is built, submitted and read one after the other, so that the next one's decoder can be built
while a GPU computes and nobody waits more often than once: for its summary, which decides whether
another step follows. Axes: C canvas positions, F of them denoised (all, where none is pinned), R
rows of a part, V vocabulary, H hidden size.
"""

from dataclasses import dataclass
from functools import cached_property

import mlx.core as mx
import numpy as np

from ..kernels.classes import trial as class_kernels
from ..kernels.denoise import trial as kernels
from ..kernels.soft_gather.tiers import PRODUCT
from ..machine.device import on_gpu
from ..model.given import Ids, Unread
from ..model.prefix import Prefix
from ..model.text import Model
from . import classes, sampler
from .agreed import Seen, agreed, nothing_seen
from .built import Built, Readers
from .held import Held, Masses
from .predictions import ClassRead, predict, read_by_class
from .records import OwnRows, own_records
from .sampler import Logits
from .soft import (
    Part,
    SoftEmbeddings,
    gathers_by_class_in_kernel,
    gathers_in_kernel,
    soft_part,
)
from .state import Outcome, State, StepInputs

# Logits computed at a time where MLX's operations read them, which need float32 copies of them: 64
# rows of a vocabulary of 262,144 make one product large enough for a GPU, 16 rows are as fast on
# the CPU.
GPU_CHUNK_LOGITS, CPU_CHUNK_LOGITS = 2**24, 2**22


@dataclass(frozen=True)
class Step:
    """A step that was read, and what the next one is made from: best, next_canvas [F] int32.

    masses: the rows by class, where a form holds them.
    """

    outcome: Outcome
    best: mx.array
    next_canvas: mx.array
    soft: SoftEmbeddings
    masses: Masses | None = None


def advance(state: State, given: StepInputs, model: Model, prefix: Prefix) -> Step:
    """The step after `state`, read; what the prefix holds is not changed."""
    hidden = decoded(state.tokens, state.soft, given.rows, model, prefix)
    return read(submit(hidden, state.best, given, model))


def decoded(
    tokens: Ids | Unread,
    soft: mx.array | None,
    rows: mx.array | None,
    model: Model,
    prefix: Prefix,
) -> mx.array:
    """Hidden states [F, H] of the denoised rows, not evaluated."""
    hidden = model.decode(tokens, prefix, soft).squeeze(0)
    return hidden if rows is None else hidden[rows]


def head_rows(model: Model, length: int, held: Held | None = None) -> int:
    """Number of a canvas's `length` rows whose logits MLX's operations read at a time.

    Fewer where they are held to a form of many classes: each is padded to whole blocks of ids.
    """
    limit = model.choices.head_chunk_logits or (GPU_CHUNK_LOGITS if on_gpu() else CPU_CHUNK_LOGITS)
    vocab = model.config.text.vocab_size
    padded = vocab if held is None else vocab * max(1, round(held.order.ids.size / vocab))
    return max(1, min(length, limit // padded))


def submit(
    hidden: mx.array, before: mx.array | None, given: StepInputs, model: Model
) -> "Submitted":
    """Send off the step of hidden states [F, H]; before [F]: the argmax one step before, if any."""
    step = Submitted(hidden, before, given, model)
    mx.async_eval(step.before_reading)
    return step


def read(step: "Submitted") -> Step:
    """Wait for a step, and read its summary and what a frame shows of it."""
    built = step.built
    step.model.evaluate(built.arrays)
    numbers = np.array(built.summary)
    best, entropy, accepted = np.array(built.shown)
    tiers = numbers[2:] if numbers.size > 2 else np.full(step.hidden.shape[0], PRODUCT)
    soft = SoftEmbeddings(built.parts, tiers.astype(np.uint8))
    outcome = Outcome(
        float(numbers[0]),
        bool(numbers[1]),
        soft.second_tier_rows,
        soft.dense_rows,
        best,
        entropy.view(np.float32),
        accepted.astype(np.bool_),
        None if step.masses is None else step.masses.strain,
    )
    return Step(outcome, built.best, built.next_canvas, soft, step.masses)


@dataclass(frozen=True)
class Submitted:
    """A step that a device may be computing: hidden states [F, H], the last argmax, its inputs."""

    hidden: mx.array
    before: mx.array | None
    given: StepInputs
    model: Model

    @cached_property
    def readers(self) -> Readers:
        """The readers of this step's logits; a kernel's first use takes a trial."""
        model, F = self.model, self.hidden.shape[0]
        begin, end = 0, model.config.text.vocab_size
        if self._by_ids:
            begin, end = model.embedding.own.own(end)
        like = (head_rows(model, F), end - begin)  # a verdict is about a chunk
        logits = self._logits_of(mx.zeros(like, self.hidden.dtype))
        gathering = model.gathers and not self.given.exact
        preference = model.choices.denoise_kernels
        if (held := self.given.held) is not None:
            order = held.order
            samples = class_kernels.samples(logits, order, classes.both_halves, preference)
            gathers = gathering and samples and gathers_by_class_in_kernel(model, logits, order)
            return Readers(samples, gathers, gathering)
        samples = kernels.samples(logits, sampler.sample, preference)
        gathers = gathering and samples and gathers_in_kernel(model, logits)
        return Readers(samples, gathers, gathering)

    @property
    def before_reading(self) -> list[mx.array]:
        """All that can be computed before the host has read anything of this step."""
        if not self.readers.take_the_canvas:
            return [self.hidden]
        if self.masses is not None:
            return self.masses.arrays
        if self.own_rows is not None:
            return self.own_rows.arrays
        return self.built.arrays if self.given.own.share.alone else self.seen.arrays

    @property
    def _by_ids(self) -> bool:
        """True where each Mac reads logits of its own ids; a form is read of whole logits."""
        return self._divided and self.given.held is None

    @property
    def _divided(self) -> bool:
        """True where Macs divide the vocabulary."""
        return self.model.embedding.own.divided

    @cached_property
    def own_rows(self) -> OwnRows | None:
        """The rows as this Mac's ids have them, with all records, where Macs divide the ids."""
        if not self._by_ids:
            return None
        return OwnRows.of([self._own_part(rows) for rows in self._chunks], self.model.embedding)

    @cached_property
    def masses(self) -> Masses | None:
        """The rows by class, where a form holds them: the first half of the step."""
        if (held := self.given.held) is None:
            return None
        parts = tuple(self._read_by_class(rows, held) for rows in self._chunks)
        return Masses(held, parts, self.readers.samples, self.given.own)

    @property
    def _chunks(self) -> list[slice]:
        """The rows whose logits are read at a time."""
        length, size = self.hidden.shape[0], self.hidden.shape[0]
        if not self.readers.take_the_canvas:
            size = head_rows(self.model, length, self.given.held)
        starts = range(0, length, max(1, size))
        return [slice(first, min(first + size, length)) for first in starts]

    @cached_property
    def seen(self) -> Seen:
        """All rows as they are seen. Where MLX's operations read the logits, a chunk of rows at a
        time is evaluated here, and its float32 copies are dropped with it. Where a form holds the
        rows, the host has read their masses by then."""
        if self.own_rows is not None:
            return self.own_rows.seen(self.given.uniforms)
        if self.masses is not None:
            self.model.evaluate(self.hidden, self.masses.arrays)
            self.masses.read()
        chunks = [self._chunk(number, rows) for number, rows in enumerate(self._chunks)]
        if not chunks:
            return agreed(nothing_seen(self.hidden), self.given.own)
        *drawn_of, parts = zip(*chunks, strict=True)
        best, entropy, drawn = (mx.concatenate(list(each)) for each in drawn_of)
        return agreed(Seen(best, entropy, drawn, parts), self.given.own)

    @cached_property
    def built(self) -> Built:
        """The graph of the whole step; where Macs share it, evaluated up to what is decided."""
        best, entropy, drawn, parts = self.seen
        before = mx.full(best.shape, -1, mx.int32) if self.before is None else self.before
        inputs = (best, entropy, drawn, self.given.renoise.astype(mx.int32), before)
        if self.given.own.share.alone:
            accepted, next_canvas, numbers = kernels.commit(
                inputs,
                self.given.entropy_bound,
                sampler.commit,
                self.model.choices.denoise_kernels,
            )
        else:
            accepted, next_canvas, numbers = sampler.commit_on_host(
                inputs, self.given.entropy_bound
            )
        tiers = [part.tier.astype(mx.float32) for part in parts if part.tier is not None]
        shown = (best, entropy.view(mx.int32), accepted.astype(mx.int32))
        summary = mx.concatenate([numbers, *tiers])
        built = Built(best, next_canvas, summary, mx.stack(list(shown)), parts)
        if self.masses is not None and self.readers.take_the_canvas:
            mx.async_eval(built.arrays)  # a device computes them while the next decoder is built
        return built

    def _own_part(self, rows: slice) -> tuple[Logits, mx.array]:
        """Logits of this Mac's ids, of some rows, and their records."""
        embedding = self.model.embedding
        logits = self._logits_of(embedding.own_head(self.hidden[rows]))
        records = own_records(logits, embedding.own, self.readers.samples)
        if not self.readers.take_the_canvas:
            mx.eval(logits.raw, records)
        return logits, records

    @cached_property
    def _whole(self) -> mx.array:
        """All raw logits [F, V]: one message, however many rows each Mac reads at a time."""
        return self.model.raw_logits(self.hidden)

    def _read_by_class(self, rows: slice, held: Held) -> ClassRead:
        """Some rows by class; all raw logits are kept, and nothing else as wide as they are."""
        raw = self._whole[rows] if self._divided else self.model.raw_logits(self.hidden[rows])
        logits = self._logits_of(raw)
        seen = read_by_class(logits, held.order, self.readers.samples)
        if not self.readers.take_the_canvas:
            mx.eval(seen.arrays)
        return seen

    def _chunk(self, number: int, rows: slice) -> tuple[mx.array, mx.array, mx.array, Part]:
        """Best, entropy and drawn [R] of some rows, and their soft embeddings.

        A function of its own: what it leaves behind is gone before the next chunk is computed.
        """
        readers, uniforms = self.readers, self.given.uniforms[rows]
        if self.masses is not None:
            seen = self.masses.predict(number, rows, uniforms)
        else:
            logits = self._logits_of(self.model.raw_logits(self.hidden[rows]))
            seen = predict(logits, uniforms, readers.samples)
        part = soft_part(self.model, seen, gathers=readers.gathering, in_kernel=readers.gathers)
        if not readers.take_the_canvas:
            mx.eval(seen.best, seen.entropy, seen.drawn, part.arrays)
        return seen.best, seen.entropy, seen.drawn, part

    def _logits_of(self, raw: mx.array) -> Logits:
        return Logits(raw, self.model.config.text.final_logit_softcapping, self.given.temperature)
