"""Batches of examples with their noise, each a pure function of the seed and its number.

All randomness is the counter noise of `generation.noise`, so that a run that goes on from a step
draws what an undisturbed one would have drawn, and two processes draw what one of the doubled batch
would: the examples of a run are numbered from 0, step by step, part by part, process by process.

Sources of the noise: google-deepmind/gemma `sft_sudoku` (levels from 1e-4), TRL
`sft_diffusion_gemma.py` and NeMo AutoModel (from 1e-3, as here).
Axes: B examples, L positions, M canvases, C canvas positions.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...checkpoint.config import ModelConfig
from ...errors import DataError, Setting, SettingsError, brief
from ...generation.noise import CounterNoise, philox_at
from ...model.images import Placed
from ..objective import Batch
from .examples import Example
from .order import Epochs, Sources

LEAST_LEVEL = 1e-3  # the share of positions that noise replaces
MULTIPLE = 32  # of which L is one, so that a run has few shapes
STREAM_CANVAS, STREAM_NOISE = 19, 20  # of the counter noise, behind those of order.py
WORD, HALF = 2.0**-32, 2**31  # of the range of a word, and half of it

Mix = Sequence[tuple[Sequence[Example], float]]


class Canvases(NamedTuple):
    """Fields of a Batch, in its order."""

    clean: NDArray[np.int32]
    noisy: NDArray[np.int32]
    starts: NDArray[np.int32]
    conditioned: NDArray[np.bool_]
    levels: NDArray[np.float32]


@dataclass
class Batches:
    """Batches of `size` examples, without end.

    canvases: noisy canvases of each example, which share its encoder pass. mask_prompt: the encoder
    does not learn the prompt. mix: other examples, and the share that is drawn from them.
    parts: batches a step. rank of ranks: the process; each has `parts` batches of `size` a step.
    stratified: the levels of an example's canvases are evenly apart. grouped: the examples of a
    step are of similar length, which leaves less padding.
    """

    examples: Sequence[Example]
    size: int
    _: KW_ONLY
    config: ModelConfig
    seed: int
    canvases: int = 1
    mask_prompt: bool = False
    mix: Mix = ()
    parts: int = 1
    rank: int = 0
    ranks: int = 1
    stratified: bool = False
    grouped: bool = False
    multiple: int = MULTIPLE

    def __post_init__(self) -> None:
        CounterNoise(self.seed)  # SettingsError for what is no seed
        for name in ("size", "canvases", "parts", "ranks", "multiple"):
            if (value := getattr(self, name)) < 1:
                raise SettingsError(Setting(name), f" is {brief(value)}, expected at least 1.")
        if not 0 <= self.rank < self.ranks:
            raise SettingsError(
                Setting("rank"), f" is {brief(self.rank)}, expected 0 to {self.ranks - 1}."
            )
        shares = [share for _, share in self.mix]
        if not all(0 < share < 1 for share in shares) or sum(shares) >= 1:
            raise SettingsError(
                Setting("mix"),
                f" has the shares {brief(shares)}, expected each above 0, and their sum below 1.",
            )
        for examples in (self.examples, *(examples for examples, _ in self.mix)):
            _require_canvases(examples, self.config.canvas_length)
        block = self.a_step if self.grouped else 0
        own = Epochs(self.examples, self.seed, 0, block)
        mixed = [(Epochs(each, self.seed, n, block), q) for n, (each, q) in enumerate(self.mix, 1)]
        self.sources = Sources(own, tuple(mixed))

    @property
    def a_step(self) -> int:
        """The examples of a step, over all parts and processes."""
        return self.size * self.parts * self.ranks

    @property
    def epoch(self) -> int:
        """The steps that draw every example once; the last one draws some again."""
        own = 1 - sum(share for _, share in self.mix)
        return int(-(-len(self.examples) // (self.a_step * own)))

    def batch(self, step: int, part: int = 0) -> Batch:
        """The batch of a step, or this part of it; both from 0."""
        first = step * self.a_step + (part * self.ranks + self.rank) * self.size
        numbers = range(first, first + self.size)
        examples = [self.sources[number] for number in numbers]
        ids, weights = self._rows(examples)
        canvases = self._canvases(examples, numbers)
        shape = canvases.clean.shape
        images = (
            (row, image if isinstance(image, Placed) else image.placed())
            for row, example in enumerate(examples)
            for image in example.images
        )
        return Batch(
            ids,
            weights,
            **canvases._asdict(),
            canvas_weights=np.full(shape, 1 / (shape[0] * shape[1]), np.float32),
            images=tuple(images),
            lengths=np.array([len(example.ids) for example in examples], np.int32),
        )

    def _canvases(self, examples: Sequence[Example], numbers: range) -> Canvases:
        """Canvases of each example, and their noise, which is that of its number."""
        each, length, at = self.canvases, self.config.canvas_length, np.array(numbers)[:, None]
        words = philox_at(self.seed, np.arange(each), at, 0, STREAM_CANVAS)
        noise = philox_at(self.seed, np.arange(each * length), at, 0, STREAM_NOISE)
        noise = noise.reshape(-1, length, 4)
        starts = [
            _chosen(one, word, length) for one, word in zip(examples, words[:, :, 1], strict=True)
        ]
        cut = [
            _cut(one, start, length)
            for one, own in zip(examples, starts, strict=True)
            for start in own
        ]
        clean, free = (np.stack(part) for part in zip(*cut, strict=True))
        levels = self._levels(words[:, :, 0]).reshape(-1)
        replaced = free & (noise[:, :, 0] * WORD < levels[:, None])
        ids = below(noise[:, :, 1], self.config.text.vocab_size)
        return Canvases(
            clean=clean,
            noisy=np.where(replaced, ids, clean).astype(np.int32),
            starts=np.concatenate(starts).astype(np.int32),
            conditioned=words[:, :, 2].reshape(-1) >= HALF,
            levels=levels.astype(np.float32),
        )

    def _levels(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """The levels of canvases [B, K], uniform between LEAST_LEVEL and 1."""
        uniform = words.astype(np.float64) * WORD
        if self.stratified:
            uniform = (uniform[:, :1] + np.arange(self.canvases) / self.canvases) % 1
        return LEAST_LEVEL + (1 - LEAST_LEVEL) * uniform

    def _rows(self, examples: Sequence[Example]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """ids [B, L] and the weights of the encoder's loss, which mean over each example first."""
        longest = max(len(example.ids) for example in examples)
        length = -(-longest // self.multiple) * self.multiple
        ids = np.zeros((len(examples), length), np.int32)
        weights = np.zeros(ids.shape, np.float32)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = example.ids
            learned = self._learned(example)
            if len(learned):
                weights[row, learned] = 1 / (len(examples) * len(learned))
        return ids, weights

    def _learned(self, example: Example) -> NDArray[np.int64]:
        """The positions whose next token the encoder learns: never an image's."""
        first = max(example.prompt - 1, 0)  # of the first token of the response
        end = len(example.ids) - 1 if example.holes is None else first
        positions = np.arange(first if self.mask_prompt else 0, end)
        image = self.config.image_token_id
        if image is None:
            return positions
        kept: NDArray[np.int64] = positions[example.ids[positions + 1] != image]
        return kept


def parse_mix(text: str) -> tuple[Path, float]:
    """The file and the share in FILE:SHARE; SettingsError for another form."""
    file, _, share = text.rpartition(":")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not file or not 0 < value < 1:
        raise SettingsError(
            Setting("mix"),
            f" is {brief(text)}, expected FILE:SHARE, such as other.jsonl:0.5, with a share "
            "between 0 and 1.",
        )
    return Path(file), value


def below(words: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """A uniform number below `count` for each word of noise."""
    return ((words.astype(np.uint64) * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def _starts(example: Example, length: int) -> NDArray[np.int64]:
    """The first positions of an example's canvases; where there are holes, of those with one."""
    starts = np.arange(example.prompt, len(example.ids), length)
    if example.holes is None:
        return starts
    return starts[example.holes.reshape(-1, length).any(axis=1)]


def _chosen(example: Example, words: NDArray[np.uint32], length: int) -> NDArray[np.int64]:
    """The first position of a canvas of the example for each word of noise."""
    starts = _starts(example, length)
    chosen: NDArray[np.int64] = starts[below(words, len(starts))]
    return chosen


def _cut(example: Example, start: int, length: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The ids [C] of a canvas, and the positions in it that are noised."""
    ids = example.ids[start : start + length]
    if example.holes is None:
        return ids, np.ones(length, bool)
    return ids, example.holes[start - example.prompt :][:length]


def _require_canvases(examples: Sequence[Example], canvas: int) -> None:
    """DataError for an example whose response is not in whole canvases."""
    if not examples:
        raise DataError("no example, expected at least one.")
    for number, example in enumerate(examples, 1):
        response = len(example.ids) - example.prompt
        holes = response if example.holes is None else len(example.holes)
        if (
            response < 1
            or response % canvas
            or holes != response
            or not len(_starts(example, canvas))
        ):
            raise DataError(
                f"example {number:,} has {response:,} tokens behind its prompt and "
                f"{holes:,} marks of holes, expected whole canvases of {canvas} with a hole."
            )
