"""Chooses between a Metal kernel family and its twin in MLX operations.

Without a Metal device the twins run. With one, a family runs once it has been checked and timed
against its twin on this machine (mode "auto"). MLX_DIFFGEMMA_KERNELS sets the mode.
"""

import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import mlx.core as mx

from .. import device
from ..errors import SettingsError

VARIABLE = "MLX_DIFFGEMMA_KERNELS"


class Mode(StrEnum):
    """Which kernels run.

    auto: those that won their trial; on: all that fit; off: none; check: as auto, tried anew.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"
    CHECK = "check"


class Trial(Protocol):
    """One instantiation of a family with inputs to try it on, made on the spot."""

    def kernel(self) -> Sequence[mx.array]:
        """The family's results from its kernels, lazy."""

    def twin(self) -> Sequence[mx.array]:
        """The same from MLX operations, lazy."""

    def disagreement(self, kernel: Sequence[mx.array], twin: Sequence[mx.array]) -> str | None:
        """What differs by more than the family's tolerance, in one line; None when nothing does."""


def mode() -> Mode:
    """The mode the environment asks for; SettingsError for an unknown one."""
    value = os.environ.get(VARIABLE) or "auto"
    try:
        return Mode(value)
    except ValueError:
        known = ", ".join(Mode)
        raise SettingsError(f"{VARIABLE} is {value!r}, expected one of {known}.") from None


def chosen(family: str, key: str, trial: Callable[[], Trial]) -> bool:
    """Whether the kernels of `family` run for the instantiation `key` (shapes, dtypes, packing)."""
    wanted = mode()
    if wanted is Mode.OFF or not device.has_metal():
        return False
    return wanted is Mode.ON


def unsupported(family: str, reason: str) -> None:
    """Says once that the twin of `family` runs because the kernels do not cover a case."""
