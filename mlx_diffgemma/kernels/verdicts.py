"""The verdicts about kernels that outlive a process: ~/.cache/mlx-diffgemma/kernels.json.

    {"schema": 3, "machines": {MACHINE: {FAMILY: {KEY: {"outcome": "faster", ...}}}}}

MACHINE names versions, sources, system and chip (an Identity), so that a verdict counts only where
it was made. The file is replaced whole: of two processes that write at once the last one wins, and
what the other had found is found again. An entry that cannot be read costs only itself: it counts
as none, and stays until its kernels are tried again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import metal
from ..machine.files import json_bytes, own_file, read_json, replace_file
from ..machine.identity import Identity, identity, sources_hash
from .trial import Verdict

SCHEMA = 3
DAY = 86_400  # seconds
MOST_MACHINES = 8  # versions and machines kept; the one written longest ago goes first

Machines = dict[str, dict[str, dict[str, Verdict]]]


@dataclass(frozen=True)
class VerdictRow:
    """A verdict as reports show it; found: UTC; age_days: None where nobody noted when it was.

    key: with the name of the instantiation that won, where it is not the usual one.
    """

    family: str
    key: str
    outcome: str
    kernel_ms: float | None
    reference_ms: float | None
    found: str | None
    age_days: float | None
    disagreement: float | None
    steady: bool
    tries: int


class UnreadableError(Exception):
    """The file is there and holds something else, or cannot be read."""


@cache
def this_identity() -> Identity:
    """The Identity of this machine with a hash of metal/ and of the Python that launches it."""
    return identity(sources_hash(files(metal), files(__package__)))


def verdicts_file() -> Path | None:
    """The file of the verdicts; None without a home."""
    return own_file("XDG_CACHE_HOME", ".cache", "kernels.json")


def rows(verdicts: Mapping[tuple[str, str], Verdict], now: datetime) -> list[VerdictRow]:
    """A row for each verdict, given by family and key, as old as it is at the time `now`."""
    return [
        VerdictRow(
            family,
            ", ".join(filter(None, (key, verdict.variant))),
            verdict.outcome.value,
            verdict.kernel_ms,
            verdict.reference_ms,
            verdict.found.isoformat(timespec="seconds") if verdict.found else None,
            max(0.0, (now - verdict.found).total_seconds() / DAY) if verdict.found else None,
            verdict.disagreement,
            verdict.steady,
            verdict.tries,
        )
        for (family, key), verdict in verdicts.items()
    ]


def read_verdicts(file: Path) -> Machines:
    """All the file holds that can be read; nothing where there is none or one of another schema."""
    return {
        machine: {
            family: {key: found for key, value in keys.items() if (found := _verdict(value))}
            for family, keys in _objects(families)
        }
        for machine, families in _objects(_read(file))
    }


def write_verdict(file: Path, machine: str, family: str, key: str, verdict: Verdict) -> None:
    """Add one verdict to what the file holds now; OSError where it cannot be written."""
    try:
        machines = _read(file)
    except UnreadableError:
        machines = {}
    families = _object(machines.pop(machine, None))
    families[family] = {**_object(families.get(family)), key: verdict.to_json()}
    machines[machine] = families  # last: written most recently
    kept = dict(list(machines.items())[-MOST_MACHINES:])
    replace_file(file, json_bytes({"schema": SCHEMA, "machines": kept}, indent=1))


def _read(file: Path) -> dict[str, Any]:
    """The machines in the file, nothing below them read yet."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except ValueError as error:
        raise UnreadableError(f"not a file of verdicts: {error}") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise UnreadableError("not a file of verdicts")
    machines = content.get("machines") if content["schema"] == SCHEMA else {}
    if not isinstance(machines, dict):
        raise UnreadableError("not a file of verdicts")
    return machines


def _verdict(value: Any) -> Verdict | None:
    try:
        return Verdict.from_json(value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries that are objects themselves."""
    return ((name, entry) for name, entry in value.items() if isinstance(entry, dict))
