"""Sdist and wheel: built from what git knows, compared, and looked into."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

PACKAGE = "mlx_diffgemma"
MAX_WHEEL_BYTES = 12_000_000
SHOWN, MOST_SAID = 3, 500  # names, and characters of a program's output, in an error


class ReleaseError(Exception):
    """A reason not to release, in one line."""


def project(root: Path) -> dict[str, Any]:
    """The table [project] of pyproject.toml: the one place that states the version."""
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return table


# --- building


def tracked(root: Path, *folders: str) -> list[str]:
    """The files that git knows in the working tree, by their path; those deleted left out."""
    listed = git(root, "ls-files", "-z", "--", *folders).split("\0")
    return [name for name in listed if name and os.path.lexists(root / name)]


def git(root: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if ran.returncode:
        raise ReleaseError(f"git {arguments[0]} fails: {last_words(ran.stderr)}")
    return ran.stdout


def copied(root: Path, into: Path) -> Path:
    """A copy of what git knows: a build leaves folders where it runs, and packs what it finds."""
    for name in tracked(root):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target, follow_symlinks=False)
    return into


def build(kind: str, source: Path, out: Path) -> Path:
    """The sdist or wheel that the build back-end makes of `source`, without the network."""
    code = f"import sys, setuptools.build_meta as b; print(b.build_{kind}(sys.argv[1]))"
    out.mkdir(exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True
    )
    if ran.returncode:
        raise ReleaseError(f"the {kind} cannot be built: {last_words(ran.stderr)}")
    return out / ran.stdout.splitlines()[-1]


def unpack(archive: Path, into: Path) -> Path:
    """The one folder that an sdist holds."""
    with tarfile.open(archive) as tar:
        # Python 3.11.2, in Debian 12, knows no filters; 3.12 and 3.13 warn where none is set.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(into)
    (folder,) = into.iterdir()
    return folder


def require_same(one: Path, other: Path) -> None:
    """ReleaseError where two wheels differ in a file; their times may differ."""
    first, second = contents(one), contents(other)
    if differing := sorted({name for name, _ in first.items() ^ second.items()}):
        raise ReleaseError(f"the wheel made of the sdist differs in {shown(differing)}")


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel and their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


# --- what a wheel must hold


def require_files(wheel: Path, root: Path) -> str:
    """A line on a wheel that is whole and no larger than allowed; else a ReleaseError."""
    names, wanted = set(contents(wheel)), packaged(root)
    if missing := sorted(wanted - names):
        raise ReleaseError(f"{wheel.name} lacks {shown(missing)}; see [tool.setuptools]")
    if stray := sorted(name for name in names - wanted if ".dist-info/" not in name):
        raise ReleaseError(f"{wheel.name} holds what git does not know: {shown(stray)}")
    size = wheel.stat().st_size
    if size > MAX_WHEEL_BYTES:
        raise ReleaseError(f"{wheel.name} has {size:,} bytes, allowed are {MAX_WHEEL_BYTES:,}")
    require_metadata(metadata(wheel), project(root), (root / "README.md").read_text())
    share = size / MAX_WHEEL_BYTES
    return (
        f"{wheel.name}: {size:,} bytes, {share:.0%} of what is allowed; all {len(wanted)} files "
        "of the package, its extras and README"
    )


def packaged(root: Path) -> set[str]:
    """The files of the package as a wheel names them; convert/ and metal/ stand elsewhere here."""
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    moved: Mapping[str, str] = tool["package-dir"]
    names = {name for name in tracked(root, PACKAGE) if not (root / name).is_symlink()}
    for module, folder in moved.items():
        place = module.replace(".", "/")
        names |= {place + name.removeprefix(folder) for name in tracked(root, folder)}
    return names


def metadata(wheel: Path) -> Message:
    """The METADATA of a wheel: headers, and README as its body."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def require_metadata(found: Message, table: Mapping[str, Any], readme: str) -> None:
    """ReleaseError where version, extras or README are not those of the repository."""
    facts = {
        "Version": (found["Version"], table["version"]),
        "extras": (
            sorted(found.get_all("Provides-Extra", [])),
            sorted(table["optional-dependencies"]),
        ),
        "Description-Content-Type": (found["Description-Content-Type"], "text/markdown"),
    }
    for name, (got, expected) in facts.items():
        if got != expected:
            raise ReleaseError(f"the metadata's {name}: {got}, expected {expected}")
    body = found.get_payload(decode=True)
    if not isinstance(body, bytes) or body.decode().strip() != readme.strip():
        raise ReleaseError("the metadata's description is not README.md")


def last_words(output: str) -> str:
    """The end of what a program wrote, in one line."""
    return " ".join(output.split())[-MOST_SAID:]


def shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
