"""The choice between a Metal kernel family and its reference implementation in MLX operations.

Without a Metal device the reference implementations run. With one, a family runs once it has been
checked and timed against its reference on this machine (mode "auto"). MLX_DIFFGEMMA_KERNELS sets
the mode.

Where the reference runs instead, the reason decides who hears of it: a kernel that is wrong or
fails, and a file of verdicts that cannot be used, are a KernelWarning, since somebody can act on
them. A case that is not covered, and a kernel that is slower, is a matter of course; `unused` tells
of those to whoever asks, as `profile` does.
"""

import os
import time
import warnings
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from threading import RLock

import mlx.core as mx

from ..errors import KernelWarning, SettingsError
from ..machine import device
from ..machine.choices import Preference
from .trial import Outcome, Trial, Verdict, run_trial
from .verdicts import (
    UnreadableError,
    VerdictRow,
    read_verdicts,
    rows,
    this_identity,
    verdicts_file,
    write_verdict,
)

__all__ = [
    *("Mode", "Trial", "chosen", "covered_and_chosen", "forget", "mode", "require_usable"),
    *("running", "stored_verdicts", "tell_before_trials", "unsupported", "unused", "used_verdicts"),
    *("variant", "variants"),
]

VARIABLE = "MLX_DIFFGEMMA_KERNELS"
TO_REPORT = {Outcome.WRONG, Outcome.ERROR}  # the others are no fault
_REFERENCE_RUNS = "{}: MLX's own operations run: the Metal kernels"


class Mode(StrEnum):
    """The rule by which kernels run.

    auto: those that won their trial; on: all that fit; off: none; check: as auto, tried anew.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"
    CHECK = "check"


@dataclass
class Known:
    """All that this process has found out and said; unused: family and reason -> the line."""

    verdicts: dict[tuple[Mode, str, str], Verdict] = field(default_factory=dict)
    stored: dict[str, dict[str, Verdict]] | None = None  # this machine's on disk, once read
    said: set[tuple[str, str]] = field(default_factory=set)
    unused: dict[tuple[str, str], str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)


known = Known()
before_trial: Callable[[], None] | None = None  # told of each trial when it begins
lock = RLock()  # one trial at a time: two would spoil each other's times
clock = time.perf_counter


def now() -> datetime:
    """The time at which a verdict is found."""
    return datetime.now(UTC)


def mode() -> Mode:
    """The mode the environment asks for; SettingsError for an unknown one."""
    value = os.environ.get(VARIABLE) or "auto"
    try:
        return Mode(value)
    except ValueError:
        choices = ", ".join(Mode)
        raise SettingsError(f"{VARIABLE} is {value!r}, expected one of {choices}.") from None


def require_usable() -> Mode:
    """The mode; SettingsError for one this machine cannot follow."""
    wanted = mode()
    if wanted is Mode.ON and not device.has_metal():
        raise SettingsError(
            f"{VARIABLE} is 'on', expected auto or off where there is no Metal device (MLX's is "
            f"the {mx.default_device().type.name} here); unset it."
        )
    return wanted


def chosen(
    family: str, key: str, trial: Callable[[], Trial], preference: Preference = "auto"
) -> bool:
    """Choose the kernels of `family` for the instantiation `key` (shapes, dtypes, packing), or not.

    In mode auto the first question about a key may take a trial: seconds, and its memory. There
    `preference` counts: "off" for never, "on" for kernels that are right though slower.
    """
    wanted = require_usable()
    if wanted is Mode.OFF or not device.has_metal():
        return False
    if wanted is Mode.AUTO and preference == "off":
        return False
    enough = {
        Outcome.FASTER,
        *([Outcome.SLOWER] if wanted is Mode.AUTO and preference == "on" else []),
    }
    runs = wanted is Mode.ON or _verdict(wanted, family, key, trial, enough).outcome in enough
    if runs:
        known.running.add(family)
    return runs


def covered_and_chosen(
    family: str,
    reason: str | None,
    key: Callable[[], str],
    trial: Callable[[], Trial],
    preference: Preference = "auto",
) -> bool:
    """`chosen`, but never for a case that the kernels do not cover for a `reason`: that is kept."""
    if reason is not None:
        unsupported(family, reason)
        return False
    return chosen(family, key(), trial, preference)


def variant(family: str, key: str) -> str | None:
    """The name of the instantiation that won the trial of `key`; None: the usual one, or no trial.

    The answer counts behind `chosen`, which makes the trial.
    """
    verdict = known.verdicts.get((mode(), family, key))
    return verdict.variant if verdict else None


def variants(family: str) -> dict[str, str | None]:
    """The same for each key of a family that this process has asked for."""
    verdicts, wanted = known.verdicts.items(), mode()
    return {
        key: verdict.variant
        for (in_mode, of, key), verdict in verdicts
        if (in_mode, of) == (wanted, family)
    }


def unsupported(family: str, reason: str) -> None:
    """Record that the reference of `family` runs because the kernels do not cover a case."""
    if mode() is not Mode.OFF and device.has_metal():
        line = f"{_REFERENCE_RUNS.format(family)} do not cover this: {reason}."
        known.unused.setdefault((family, reason), line)


def unused() -> tuple[str, ...]:
    """A line for each family and reason for which MLX's operations ran and nothing is broken."""
    return tuple(known.unused.values())


def running() -> bool:
    """True where kernels of any family have been chosen in this process, and still may run."""
    return bool(known.running) and mode() is not Mode.OFF and device.has_metal()


def used_verdicts() -> list[VerdictRow]:
    """The verdicts by which this process chose, in the order in which they were asked for."""
    found = {(family, key): verdict for (_, family, key), verdict in known.verdicts.items()}
    return rows(found, now())


def stored_verdicts() -> list[VerdictRow]:
    """The verdicts that are kept for this machine."""
    kept = _recalled().items()
    found = {(family, key): verdict for family, keys in kept for key, verdict in keys.items()}
    return rows(found, now())


def tell_before_trials(told: Callable[[], None] | None) -> None:
    """Call `told` before each trial from now on: seconds in which nothing else happens."""
    global before_trial
    before_trial = told


def forget() -> None:
    """Forget what this process has found out and said; verdicts on disk stay."""
    global known
    known = Known()


def _verdict(
    wanted: Mode, family: str, key: str, trial: Callable[[], Trial], enough: Set[Outcome]
) -> Verdict:
    with lock:
        place = (wanted, family, key)
        if place not in known.verdicts:
            stored = None if wanted is Mode.CHECK else _recalled().get(family, {}).get(key)
            verdict = stored if stored and stored.settled else _tried(family, key, trial, stored)
            known.verdicts[place] = verdict
            if verdict.outcome not in enough:
                _report(family, key, verdict)
            elif verdict.note:
                line = f"{family}: the Metal kernels run, but for {verdict.note}, for {key}"
                _say(family, "variant", f"{line}; `mlx-diffgemma selftest` says more.")
        return known.verdicts[place]


def _tried(family: str, key: str, trial: Callable[[], Trial], earlier: Verdict | None) -> Verdict:
    """The verdict of a trial that is made now, and kept; earlier: an unsteady one on disk."""
    if before_trial is not None:
        before_trial()
    verdict = replace(run_trial(trial, clock), found=now()).after(earlier)
    if verdict.lasting:
        _remember(family, key, verdict)
    return verdict


def _report(family: str, key: str, verdict: Verdict) -> None:
    """One warning, or one record, a family and outcome of kernels that are not chosen."""
    line = f"{_REFERENCE_RUNS.format(family)} {_why(verdict)}, for {key}"
    if verdict.outcome in TO_REPORT:
        _say(family, verdict.outcome, f"{line}; `mlx-diffgemma selftest` says more.")
    elif verdict.outcome is Outcome.SLOWER:
        known.unused.setdefault((family, verdict.outcome), f"{line}.")


def _why(verdict: Verdict) -> str:
    match verdict.outcome:
        case Outcome.WRONG:
            return f"give wrong results here ({verdict.note})"
        case Outcome.ERROR:
            return f"cannot run here ({verdict.note})"
    return f"are not faster here ({verdict.kernel_ms:.3g} ms against {verdict.reference_ms:.3g})"


def _recalled() -> dict[str, dict[str, Verdict]]:
    """This machine's verdicts on disk, read once a process: family -> key -> verdict."""
    if known.stored is None:
        known.stored = {}
        file = verdicts_file()
        try:
            if file is not None:
                known.stored = read_verdicts(file).get(str(this_identity()), {})
        except UnreadableError as error:
            _say("cache", "unreadable", f"{file}: {error}; the Metal kernels are tried anew.")
    return known.stored


def _remember(family: str, key: str, verdict: Verdict) -> None:
    file = verdicts_file()
    try:
        if file is not None:
            write_verdict(file, str(this_identity()), family, key, verdict)
    except OSError as error:
        _say("cache", "unwritable", _unwritable(file, error))


def _unwritable(file: Path | None, error: OSError) -> str:
    said = error.strerror or str(error)
    return f"{file}: {said}; the Metal kernels will be tried again in the next process."


def _say(family: str, reason: str, line: str) -> None:
    if (family, reason) not in known.said:
        known.said.add((family, reason))
        warnings.warn(line, KernelWarning, stacklevel=3)
