"""Several processes that train one model, each on its own examples: `mlx.launch` starts them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import mlx.core as mx

from ..errors import TrainingError, one_line

Arrays = Mapping[str, mx.array]


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and this one's number; a single process without a group."""

    group: mx.distributed.Group | None = None

    @property
    def number(self) -> int:
        """This process, 0 for the one that writes and prints."""
        return self.group.rank() if self.group else 0

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.group.size() if self.group else 1

    def mean(self, arrays: Arrays) -> dict[str, mx.array]:
        """The mean of each array over the processes, equal to the bit in all of them."""
        if self.count == 1:
            return dict(arrays)
        return {name: total / self.count for name, total in self._sum(arrays).items()}

    def first(self, arrays: Arrays) -> dict[str, mx.array]:
        """The arrays of process 0, in all of them; shapes are alike."""
        if self.count == 1:
            return dict(arrays)
        sent = {
            n: array if self.number == 0 else mx.zeros_like(array) for n, array in arrays.items()
        }
        return self._sum(sent)

    def lost(self, error: Exception) -> TrainingError | None:
        """The error for a process that is gone; None where there is no other."""
        if self.count == 1:
            return None
        return TrainingError(
            f"process {self.number} of 0 to {self.count - 1} lost another one "
            f"({one_line(error)}); see what that one said, then start all of them with --resume."
        )

    def _sum(self, arrays: Arrays) -> dict[str, mx.array]:
        """Float32 arrays added up over the processes, in one message."""
        flat = mx.concatenate([array.astype(mx.float32).reshape(-1) for array in arrays.values()])
        total = mx.distributed.all_sum(flat, group=self.group)
        ends = list(accumulate(array.size for array in arrays.values()))
        parts = mx.split(total, ends[:-1])
        named = zip(arrays.items(), parts, strict=True)
        return {name: part.reshape(array.shape) for (name, array), part in named}


def launched() -> Ranks:
    """The processes that were launched together; alone where there are no others.

    TrainingError where they cannot find each other.
    """
    try:
        group = mx.distributed.init()
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the processes that were launched cannot reach each other ({one_line(error)}); look "
            "at the hosts that mlx.launch was given."
        ) from error
    return Ranks(group if group.size() > 1 else None)
