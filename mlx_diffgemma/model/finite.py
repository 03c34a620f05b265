"""The error about numbers that are not finite."""

from collections.abc import Callable
from typing import Protocol

from ..errors import NumericsError


class Searchable(Protocol):
    """What can name the weight of its own that holds such a number; a Model does."""

    find_non_finite: Callable[[], str | None]


def not_finite(network: Searchable, what: str) -> NumericsError:
    """The error about numbers that are not finite, with the weight that holds some, if any does."""
    culprit = network.find_non_finite()
    where = f"tensor {culprit} holds NaN or Inf" if culprit else "all weights are finite"
    return NumericsError(
        f"{what} are not finite; {where}; download or convert the checkpoint again, or try another "
        "--dtype."
    )
