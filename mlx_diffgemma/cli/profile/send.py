"""`profile --send`: a file to hand in, its name, and the place to post it. Nothing is sent."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...machine.identity import Machine

PAGE = 'docs/benchmarks.md has more under "Sending one in"'


def file_to_send(machine: "Machine", model: str, kind: str) -> Path:
    """A name in the present folder that no file has: chip, model, workload and date.

    model: as the user calls it; kind: fixed or adaptive.
    """
    parts = (machine.chip or "unknown chip", short_name(model).rpartition("/")[2], kind)
    date = datetime.now(UTC).date().isoformat()
    stem = "-".join(("profile", *map(_plain, parts), date))
    return next(file for file in _numbered(stem) if not file.is_symlink() and not file.exists())


def short_name(model: str) -> str:
    """A model's name; of a folder its last part: paths are nobody's business."""
    folder = Path(model)
    return folder.resolve().name if folder.exists() else model


def _numbered(stem: str) -> Iterator[Path]:
    yield Path(f"{stem}.json")
    yield from (Path(f"{stem}-{number}.json") for number in count(2))


def _plain(name: str) -> str:
    """A name in small letters, digits and hyphens; "Apple M4 Pro" is m4-pro."""
    words = re.findall("[a-z0-9]+", name.lower().removeprefix("apple "))
    return "-".join(words) or "unnamed"


def where_to_post(file: Path) -> str:
    """The line behind the written file."""
    issues = _issues()
    place = f"at {issues}" if issues else "of the project"
    return (
        f"{file} is written; nothing was sent. It holds machine, versions, times and token ids, no "
        f"user, no path and no prompt's text. Post it in an issue {place}; {PAGE}."
    )


def _issues() -> str | None:
    """The address of the project's issues, where its metadata ([project.urls]) has one."""
    try:
        urls = metadata("mlx-diffgemma").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from a source tree that is not installed
        return None
    named = {name.strip().lower(): url.strip() for name, _, url in (u.partition(",") for u in urls)}
    return named.get("issues")
