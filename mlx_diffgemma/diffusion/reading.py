"""A model that reads the slots of sheets: log-probabilities of labels behind a prompt.

The samples of all sheets of a read are canvases of one decoder pass, MOST_ROWS rows at a time, and
the head is that of the labels alone.
Axes: S samples, B canvases of a pass, W positions of a sheet, F slots of a sheet, R slots of a
pass, N labels of a slot, U labels of a read, H hidden size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, product
from typing import cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..decide import reader
from ..decide.reader import Reading, ReadOptions, Sheet, Slot
from ..errors import PromptError
from ..generation.noise import CounterNoise
from ..generation.prompt import Prompt, positions_needed, prompt_size, token_budget
from ..generation.settings import Resolved, Settings
from ..images.pixels import Pixels
from ..model.finite import not_finite
from ..model.labels import label_logits, log_total
from ..model.prefix import Prefix
from ..model.text import Model
from ..share.guard import lost_macs, require_equal_work
from ..share.part import Rows
from .denoise import denoise
from .kept import KeptPrefixes, Look, copied, go_on
from .pinned import OPEN, TEXT, PinnedPositions
from .sampler import temperature
from .state import State, StepInputs
from .step import decoded, read, submit

MOST_ROWS = 512  # of a pass: two published canvases, and enough to need all experts of a layer

Floats = NDArray[np.float64]
Sample = tuple[int, int]  # a sheet, and one of its samples
Found = tuple[Floats, Floats]  # of a sample's slots: logits [F, U], log total masses [F]


@dataclass(frozen=True)
class ModelReader:
    """The Reader of a model; thought_end: the id that closes a thought, if there is one.

    look: called between pieces of a prompt, passes, and steps of a thought.

    Steps before the last one are those of the denoising loop, with the checkpoint's settings and
    all but the slots pinned; the last one is read at temperature 1.
    """

    model: Model
    kept: KeptPrefixes
    thought_end: int | None = None
    look: Look = go_on

    def read(
        self, prompt: reader.Prompt, sheets: Sequence[Sheet], options: ReadOptions
    ) -> list[Reading]:
        """One Reading a sheet; see decide.reader.

        PromptError, before anything is computed, for more positions than the model has; for ids and
        images as `Model.encode` has them. FitError for more than fit into memory; NumericsError for
        weights that are not finite.
        """
        asked, widths = self._asked(prompt), [len(sheet.tokens) for sheet in sheets]
        require_equal_work(self.model.part.share, asked.tokens)
        self._require_fit(asked, max(widths))
        room = max(*widths, min(MOST_ROWS, sum(widths) * len(options.seeds)))
        self.kept.require_room(len(asked.tokens) + room)
        with self.kept.in_use():
            prefix = self.kept.encode(asked, prompt.shared, room, self.look)
            return Read(self.model, prefix, sheets, options, self.look).readings()

    def encoded(self) -> int:
        """Prompt positions encoded so far."""
        return self.kept.encoded

    def think(self, prompt: reader.Prompt, limit: int, seed: int) -> list[int]:
        """A thought of at most `limit` tokens without its end, written as answers are.

        PromptError where its canvases do not fit behind the prompt.
        """
        asked, config = self._asked(prompt), self.model.config
        length = len(asked.tokens)
        budget = token_budget(config, length, limit, asked.soft_tokens)
        needed = positions_needed(config, length, budget)
        self.kept.require_room(needed)
        with self.kept.in_use():
            prefix = copied(self.kept.encode(asked, prompt.shared, 0, self.look), length)
            self.kept.make_room(needed)
            settings = Settings(max_tokens=budget, seed=seed)
            return self._thought(asked, settings, prefix)

    def _thought(self, asked: Prompt, settings: Settings, prefix: Prefix | None) -> list[int]:
        ends, written = {self.thought_end, *self.model.config.stop_ids}, list[int]()
        images = [image.pixels for image in asked.images]
        for frame in denoise(self.model, asked.tokens, settings, images=images, prefix=prefix):
            self.look()
            written += frame.tokens.tolist() if frame.committed else []
            end = next((at for at, token in enumerate(written) if token in ends), None)
            if end is not None:
                return written[:end]
        return written

    def _asked(self, prompt: reader.Prompt) -> Prompt:
        """The prompt with its images in their places; PromptError for what is no image."""
        images = cast("tuple[Pixels, ...]", prompt.images)
        return Prompt(list(prompt.ids), self.model.placed(prompt.ids, images))

    def _require_fit(self, asked: Prompt, width: int) -> None:
        length, context = len(asked.tokens), self.model.config.text.max_position_embeddings
        if length == 0:
            raise PromptError("the prompt is empty, expected at least one token.")
        if length + width > context:
            raise PromptError(
                f"{prompt_size(length, asked.soft_tokens)} and a canvas of {width} for the answers "
                f"need {length + width:,} positions, the model has {context:,}; shorten the state "
                "or the questions.",
                too_long=True,
            )


@dataclass(frozen=True)
class Read:
    """Sheets that are read behind a prefix; labels [U]: all of theirs, ascending."""

    model: Model
    prefix: Prefix
    sheets: Sequence[Sheet]
    options: ReadOptions
    look: Look = go_on

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return np.unique([token for s in self.sheets for slot in s.slots for token in slot.labels])

    def readings(self) -> list[Reading]:
        """One a sheet."""
        found: dict[Sample, Found] = {}
        for samples in self._passes():
            self.look()
            found |= zip(samples, self._found(samples), strict=True)
        numbers = range(len(self.options.seeds))
        return [
            self._reading(sheet, [found[number, sample] for sample in numbers])
            for number, sheet in enumerate(self.sheets)
        ]

    def _passes(self) -> Iterator[list[Sample]]:
        """All samples, those of one width together, as many at a time as a pass takes."""
        order = sorted(range(len(self.sheets)), key=self._width)
        for width, together in groupby(order, self._width):
            samples = list(product(together, range(len(self.options.seeds))))
            most = max(1, MOST_ROWS // width)
            yield from (samples[at : at + most] for at in range(0, len(samples), most))

    def _width(self, number: int) -> int:
        return len(self.sheets[number].tokens)

    def _found(self, samples: Sequence[Sample]) -> list[Found]:
        """What one pass finds at the slots of each sample.

        Where Macs share canvases by rows, each reads some of the samples, if there are as many.
        """
        states = [self._state(self.sheets[n], self.options.seeds[s]) for n, s in samples]
        slots = [self.sheets[number].slots for number, _ in samples]
        counts = [0, *np.cumsum([len(own) for own in slots]).tolist()]
        mine = Rows(self.model.part.share)
        if len(samples) >= mine.share.size:
            mine = self.model.part.rows(len(samples))
        hidden = self._hidden(states[mine.own], slots[mine.own])
        logits, totals = self._of_labels(hidden, mine.among(counts.__getitem__))
        ends = counts[1:-1]
        return list(zip(np.split(logits, ends), np.split(totals, ends), strict=True))

    def _hidden(self, states: Sequence[State], slots: Sequence[Sequence[Slot]]) -> mx.array:
        """Hidden states [R, H] at the slots of canvases."""
        softs = [state.soft for state in states if state.soft is not None]
        soft = mx.concatenate(softs) if softs else None
        canvases = [np.array(state.tokens).tolist() for state in states]
        hidden = self.model.decode_many(canvases, self.prefix, soft)
        places = [(b, slot.position) for b, own in enumerate(slots) for slot in own]
        return hidden[tuple(map(mx.array, zip(*places, strict=True)))]

    def _of_labels(self, rows: mx.array, own: Rows) -> Found:
        """Logits of the labels [R, U] and log total masses [R] of rows [R, H]; 0 unless asked.

        own: those rows, out of all that are read.
        """
        with lost_macs(own.share):
            made = own.agreed(label_logits(self.model, rows, mx.array(self.labels)), "labels")
            totals = mx.zeros(len(made))
            if self.options.mass:
                totals = own.agreed(log_total(self.model, rows), "masses")
            self.model.evaluate(made, totals)
        own.share.alive()
        logits = np.array(made).astype(np.float64)
        if not np.isfinite(logits).all():
            raise not_finite(self.model, "the log-probabilities of the labels")
        return logits, np.array(totals).astype(np.float64)

    def _state(self, sheet: Sheet, seed: int) -> State:
        """A sample's canvas in front of the step that is read.

        The noise of a slot hangs on the seed and on the slots before it in its sheet, not on their
        positions or on what else stands there.
        """
        noise, steps = CounterNoise(seed), self.options.steps
        vocab, slots = self.model.config.text.vocab_size, sorted(s.position for s in sheet.slots)
        tokens = np.array(sheet.tokens, np.int32)
        tokens[slots] = np.array(noise.canvas(0, len(slots), vocab))
        state = State(mx.array(tokens))
        if steps > 1:
            tokens[slots] = OPEN
            positions = PinnedPositions(tokens.tolist(), [TEXT] * tokens.size)
            for step in range(steps - 1):
                state = self._denoised(state, step, positions, noise)
            state = self._whole(state)
        return state

    def _whole(self, state: State) -> State:
        """The state with the soft embeddings of all rows of its canvas, on every Mac."""
        rows = self.model.part.rows(state.tokens.size)
        if state.soft is None or not rows.divided:
            return state
        with lost_macs(rows.share):
            soft = rows.gathered(state.soft, 1, "soft embeddings")
            mx.eval(soft)  # some may need none of it, and others wait for it
        return replace(state, soft=soft)

    @cached_property
    def settings(self) -> Resolved:
        """The checkpoint's settings for so many steps."""
        return Settings(max_denoising_steps=self.options.steps).resolved(self.model.config, 0)

    def _denoised(
        self, state: State, step: int, positions: PinnedPositions, noise: CounterNoise
    ) -> State:
        """The state behind a step of the denoising loop."""
        sampler, length = self.settings.sampler, positions.rows.size
        vocab, rows = self.model.config.text.vocab_size, self.model.part.rows(len(positions.tokens))
        own, here = rows.among(positions.before), positions.within(rows.own)
        uniforms = noise.uniforms(0, step, length)
        given = StepInputs(
            temperature(step, self.options.steps, sampler.t_min, sampler.t_max),
            sampler.entropy_bound,
            uniforms[own.own] if own.divided else uniforms,
            noise.renoise(0, step, length, vocab),
            positions.rows,
            own=own,
        )
        with lost_macs(rows.share):
            hidden = decoded(state.tokens, state.soft, here.rows, self.model, self.prefix)
            done = read(submit(hidden, state.best, given, self.model))
        rows.share.alive()
        if not math.isfinite(done.outcome.mean_entropy):
            raise not_finite(self.model, f"step {step}: the distributions")
        soft = here.soft(self.model, done.soft.completed(self.model))
        return State(positions.canvas(done.next_canvas), soft, done.best)

    def _reading(self, sheet: Sheet, found: Sequence[Found]) -> Reading:
        """Log-probabilities [S, N] of every slot over its labels, and their share [S] if asked."""
        logits, totals = (
            np.stack(parts) for parts in zip(*found, strict=True)
        )  # [S, F, U], [S, F]
        each, mass = [], []
        for number, slot in enumerate(sheet.slots):
            own = logits[:, number, np.searchsorted(self.labels, slot.labels)]
            log_sum = np.logaddexp.reduce(own, axis=1)
            each.append(own - log_sum[:, None])
            mass.append(np.exp(log_sum - totals[:, number]))
        return Reading(tuple(each), tuple(mass) if self.options.mass else None)
