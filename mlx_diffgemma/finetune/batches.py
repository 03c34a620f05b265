"""Batches of examples with their noise, each a pure function of the seed and its number.

All randomness is the counter noise of `generation.noise`, so that a run that goes on from a step
draws what an undisturbed one would have drawn, and two processes draw what one of the doubled batch
would. A draw is one example in one batch; draws are numbered over all steps, parts and processes.

Sources of the noise: google-deepmind/gemma `sft_sudoku` (levels from 1e-4), TRL
`sft_diffusion_gemma.py` and NeMo AutoModel (from 1e-3, as here).
Axes: B examples, L positions, M canvases, C canvas positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig
from ..errors import DataError, Setting, SettingsError, brief
from ..generation.noise import CounterNoise, philox
from .data import Example
from .objective import Batch
from .order import Epochs, Sources

LEAST_LEVEL = 1e-3  # the share of positions that noise replaces
MULTIPLE = 32  # of which L is one, so that a run has few shapes
STREAM_CANVAS, STREAM_NOISE = 19, 20  # of the counter noise, behind those of order.py
WORD = 2.0**-32

Mix = Sequence[tuple[Sequence[Example], float]]


class Canvas(NamedTuple):
    """A canvas [C] of an example, with its noise; fields as in Batch."""

    clean: NDArray[np.int32]
    noisy: NDArray[np.int32]
    start: int
    conditioned: bool
    level: float


@dataclass
class Batches:
    """Batches of `size` examples, without end.

    canvases: noisy canvases of each example, which share its encoder pass. mask_prompt: the encoder
    does not learn the prompt. mix: other examples, and the share of draws that are from them.
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
        drawn = [(number, self.sources[number]) for number in range(first, first + self.size)]
        canvases = [each for number, example in drawn for each in self._noised(number, example)]
        ids, weights = self._rows([example for _, example in drawn])
        shape = len(canvases), self.config.canvas_length
        return Batch(
            ids=ids,
            next_weights=weights,
            clean=np.stack([each.clean for each in canvases]),
            noisy=np.stack([each.noisy for each in canvases]),
            starts=np.array([each.start for each in canvases], np.int32),
            conditioned=np.array([each.conditioned for each in canvases]),
            levels=np.array([each.level for each in canvases], np.float32),
            canvas_weights=np.full(shape, 1 / (shape[0] * shape[1]), np.float32),
            images=tuple(
                (row, image) for row, (_, each) in enumerate(drawn) for image in each.images
            ),
        )

    def _noised(self, number: int, example: Example) -> Iterator[Canvas]:
        """The canvases of a draw, each one of the example's, with a level of its own."""
        words = philox(self.seed, self.canvases, number, 0, STREAM_CANVAS)
        levels = words[:, 0] * WORD
        if self.stratified:
            levels = (levels[0] + np.arange(self.canvases) / self.canvases) % 1
        levels = LEAST_LEVEL + (1 - LEAST_LEVEL) * levels
        canvases = _canvases(example, self.config.canvas_length)
        for each, level in enumerate(levels):
            start = int(canvases[below(words[each : each + 1, 1], len(canvases))[0]])
            clean = example.ids[start : start + self.config.canvas_length]
            noisy = self._replaced(clean, float(level), number, each)
            if example.holes is not None:
                holes = example.holes[start - example.prompt :][: len(clean)]
                noisy = np.where(holes, noisy, clean)
            yield Canvas(clean, noisy, start, bool(words[each, 2] >> 31), float(level))

    def _replaced(
        self, clean: NDArray[np.int32], level: float, number: int, canvas: int
    ) -> NDArray[np.int32]:
        """clean [C], each id replaced with probability `level` by any of the vocabulary."""
        words = philox(self.seed, len(clean), number, canvas, STREAM_NOISE)
        ids = below(words[:, 1], self.config.text.vocab_size)
        return np.where(words[:, 0] * WORD < level, ids, clean).astype(np.int32)

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


def _canvases(example: Example, canvas: int) -> NDArray[np.int64]:
    """The first positions of an example's canvases; where there are holes, of those with one."""
    starts = np.arange(example.prompt, len(example.ids), canvas)
    if example.holes is None:
        return starts
    return starts[example.holes.reshape(-1, canvas).any(axis=1)]


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
            or not len(_canvases(example, canvas))
        ):
            raise DataError(
                f"example {number:,} has {response:,} tokens behind its prompt and "
                f"{holes:,} marks of holes, expected whole canvases of {canvas} with a hole."
            )
