"""The verdicts about kernels that outlive a process: ~/.cache/mlx-diffgemma/kernels.json.

    {"schema": 2, "machines": {MACHINE: {FAMILY: {KEY: {"outcome": "faster", ...}}}}}

MACHINE names versions, sources, system and chip (an Identity), so that a verdict counts only where
it was made. The file is replaced whole: of two processes that write at once the last one wins, and
what the other had found is found again.
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import metal
from ..machine.files import own_file, read_json, replace_file
from ..machine.identity import Identity, identity, sources_hash
from .trial import Verdict

SCHEMA = 2
MOST_MACHINES = 8  # versions and machines kept; the one written longest ago goes first

Machines = dict[str, dict[str, dict[str, Verdict]]]


class UnreadableError(Exception):
    """The file is there and holds something else, or cannot be read."""


@cache
def this_identity() -> Identity:
    """The Identity of this machine with a hash of metal/ and of the Python that launches it."""
    return identity(sources_hash(files(metal), files(__package__)))


def verdicts_file() -> Path | None:
    """The file of the verdicts; None without a home."""
    return own_file("XDG_CACHE_HOME", ".cache", "kernels.json")


def read_verdicts(file: Path) -> Machines:
    """All the file holds; nothing where there is none or one of another schema."""
    try:
        content = read_json(file)
        if content["schema"] != SCHEMA:
            return {}
        return _parsed(content["machines"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError("not a file of verdicts") from error


def write_verdict(file: Path, machine: str, family: str, key: str, verdict: Verdict) -> None:
    """Add one verdict to what the file holds now; OSError where it cannot be written."""
    try:
        machines = read_verdicts(file)
    except UnreadableError:
        machines = {}
    families = machines.pop(machine, {})
    families.setdefault(family, {})[key] = verdict
    machines[machine] = families  # last: written most recently
    kept = dict(list(machines.items())[-MOST_MACHINES:])
    replace_file(file, json.dumps({"schema": SCHEMA, "machines": _plain(kept)}, indent=1) + "\n")


def _parsed(machines: Any) -> Machines:
    return {
        machine: {
            family: {key: Verdict.from_json(value) for key, value in keys.items()}
            for family, keys in families.items()
        }
        for machine, families in machines.items()
    }


def _plain(machines: Machines) -> Any:
    return {
        machine: {
            family: {key: verdict.to_json() for key, verdict in keys.items()}
            for family, keys in families.items()
        }
        for machine, families in machines.items()
    }
