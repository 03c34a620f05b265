"""Samples of a read: a few draws of noise, or one and more where an answer is unsure.

Axes: S samples, N options of a question.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import NumericsError, brief
from .answers import Sampled, entropy
from .canvas import Asked
from .layouts import Read
from .options import AUTO, Options
from .reader import Reader, Reading, ReadOptions, Sheet


def sampled(reader: Reader, read: Read, options: Options) -> Iterator[tuple[Asked, Sampled]]:
    """Each question of a read with its samples, in the order of its options.

    NumericsError for log-probabilities that are none.
    """
    first = 1 if options.samples == AUTO else options.samples
    found = [[each] for each in _readings(reader, read, read.sheets, options, (0, first))]
    if options.samples == AUTO and options.auto_max > 1:
        unsure = [i for i, (each,) in enumerate(found) if _unsure(each, options.auto_threshold)]
        sheets = [read.sheets[i] for i in unsure]
        more = _readings(reader, read, sheets, options, (1, options.auto_max - 1)) if sheets else ()
        for i, each in zip(unsure, more, strict=True):
            found[i].append(each)
    for readings, asked in zip(found, read.asked, strict=True):
        for at, question in enumerate(asked):
            log_p = np.concatenate([np.asarray(r.log_probabilities[at]) for r in readings])
            masses = [r.mass[at] for r in readings if r.mass is not None]
            mass = np.concatenate(masses) if masses else None
            yield question, Sampled(_probabilities(question, log_p), mass)


def _readings(
    reader: Reader, read: Read, sheets: Sequence[Sheet], options: Options, samples: tuple[int, int]
) -> Sequence[Reading]:
    """Readings of sheets; samples: the number of the first one, and how many."""
    seeds = options.seeds(*samples, read.chunk)
    wanted = ReadOptions(seeds, options.steps, options.label_mass)
    return reader.read(read.prompt, sheets, wanted)


def _unsure(reading: Reading, threshold: float) -> bool:
    """True where the first sample of any slot has more entropy than the threshold."""
    return any(entropy(np.exp(each[0])) > threshold for each in reading.log_probabilities)


def _probabilities(asked: Asked, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities [S, N] of the options of log-probabilities [S, N] of the labels."""
    if not np.isfinite(log_p).all():
        raise NumericsError(
            f"question {brief(asked.id)} has a probability that is no number; this is a defect of "
            "mlx-diffgemma or of the weights, please check them with `mlx-diffgemma selftest`."
        )
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return np.roll(p / p.sum(axis=1, keepdims=True), asked.shift, axis=1)
