"""What was read of labelled rows, kept beside the calibration: a line of JSON a row.

A row is known by what is asked and how: one that was changed is read again, all others are not.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...decide.calibration import Bound
from ...decide.labelled import Labelled
from ...machine.files import json_bytes, parse_json, read_bytes
from ..record.outfile import Kind

Read = Mapping[str, Sequence[float]]
"""Probabilities of each question's options, by its id."""

KEYS = {"key", "read"}


def reads_file(out: Path) -> Path:
    """The file beside a calibration."""
    return out.with_name(f"{out.name}.reads")


def row_key(bound: Bound, seed: int, row: Labelled) -> str:
    """A name of what is asked of a row, and how."""
    request = row.request
    questions = {name: question.to_json() for name, question in request.questions.items()}
    asked = [asdict(bound), seed, request.state, request.instructions, questions]
    return hashlib.sha256(json_bytes(asked)).hexdigest()[:32]


def kept_reads(file: Path) -> dict[str, Read]:
    """What a file has, by the rows' keys; nothing of one that is not there or broken."""
    found: dict[str, Read] = {}
    with suppress(OSError, ValueError):
        for line in read_bytes(file).splitlines():
            value = parse_json(line)
            if _is_read(value):
                found[value["key"]] = value["read"]
    return found


def line_of(key: str, read: Read) -> dict[str, Any]:
    """The line of a row."""
    return {"key": key, "read": {name: list(p) for name, p in read.items()}}


def _is_read(value: Any) -> bool:
    """True for the value of a line, with probabilities that a temperature can be fitted to."""
    if not isinstance(value, dict) or value.keys() != KEYS or not isinstance(value["read"], dict):
        return False
    numbers = [p for each in value["read"].values() if isinstance(each, list) for p in each]
    return all(isinstance(each, list) and len(each) > 1 for each in value["read"].values()) and all(
        isinstance(p, float | int) and not isinstance(p, bool) and 0 <= p <= 1 for p in numbers
    )


def _holds_reads(file: Path) -> bool:
    try:
        first, *_ = read_bytes(file).splitlines()
        return _is_read(parse_json(first))
    except (OSError, ValueError):
        return False


READS = Kind("file of reads", _holds_reads)
