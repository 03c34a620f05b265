#!/usr/bin/env python3
"""A release: sdist and wheel built from what git knows, looked into, and tried in an empty venv.

    python scripts/release.py check [--no-network]   # everything, which is scripts/release_check
    python scripts/release.py files WHEEL            # the contents and the size of a wheel
    python scripts/release.py try WHEEL              # an installation elsewhere, and its demo
    python scripts/release.py notes TAG              # the tag's section of CHANGELOG.md

Of other packages only `check` needs one: it builds with the setuptools at hand.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "mlx_diffgemma"
PROGRAM = "mlx-diffgemma"
MAX_WHEEL_BYTES = 12_000_000
SHOWN, MOST_SAID = 3, 500  # names, and characters of a program's output, in an error
# What would lead an installation astray that is to be tried alone.
OWN_SETTINGS = re.compile(r"PYTHON(PATH|HOME)|VIRTUAL_ENV|MLX_DIFFGEMMA_|XDG_")
# Links of Markdown and HTML that name a file of the repository.
RELATIVE_LINK = re.compile(r"(?:\]\(|src=\"|href=\")(?!https?:|#|mailto:)([^)\s\"]+)")


class ReleaseError(Exception):
    """A reason not to release, in one line."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    whole = commands.add_parser("check", help="build, look into and try the working tree")
    whole.add_argument("--no-network", action="store_true", help="borrow installed dependencies")
    for name in ("files", "try"):
        commands.add_parser(name).add_argument("wheel", type=Path)
    commands.add_parser("notes").add_argument("tag")
    given = parser.parse_args(arguments)
    try:
        if given.command == "check":
            check(ROOT, network=not given.no_network)
        elif given.command == "files":
            say(require_files(given.wheel, ROOT))
        elif given.command == "try":
            try_wheel(given.wheel, project(ROOT)["version"])
        else:
            print(notes(given.tag, ROOT))
    except ReleaseError as error:
        sys.exit(f"error: {error}")


def check(root: Path, *, network: bool) -> None:
    """The whole check of the working tree; ReleaseError with the first thing that is wrong."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        with timed("sdist and wheel built"):
            source = copied(root, work / "source")
            sdist, wheel = build("sdist", source, work / "sdist"), build("wheel", source, work)
        with timed("the same wheel built from the sdist"):
            unpacked = unpack(sdist, work / "unpacked")
            require_same(wheel, build("wheel", unpacked, work / "second"))
        say(f"  {sdist.name}: {sdist.stat().st_size:,} bytes")
        say(f"  {require_files(wheel, root)}")
        with timed("wheel installed in an empty venv, and the demo run from there"):
            try_wheel(wheel, project(root)["version"], network=network)
    say("sound: sdist and wheel can be built, installed and used")
    for line in ("", "To release:", *(f"- {step}" for step in to_do(root))):
        say(line)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


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


# --- trying a wheel


def try_wheel(wheel: Path, version: str, *, network: bool = True) -> None:
    """Install a wheel in an empty venv and run the demo with it, in a folder that is no clone.

    Without network the dependencies are those of the Python at hand, and none is installed.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder)
        environment = alone(work)
        venv.create(work / "venv", with_pip=True)
        python, program = work / "venv/bin/python", work / "venv/bin" / PROGRAM
        if not network:
            (site,) = (work / "venv/lib").glob("python*/site-packages")
            (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        offline = () if network else ("--no-index", "--no-deps")
        pip = [python, "-m", "pip", "install", "-qq", *offline, wheel.resolve()]
        run(pip, work, {**environment, "HOME": os.environ.get("HOME", folder)})
        where = run([python, "-c", f"import {PACKAGE} as p; print(p.__file__)"], work, environment)
        if not Path(where.strip()).is_relative_to(work.resolve()):
            raise ReleaseError(f"another installation was tried: {where.strip()}")
        said = run([program, "--version"], work, environment).strip()
        if said != f"{PROGRAM} {version}":
            raise ReleaseError(f"--version says {said!r}, expected {version}")
        demo(program, work, environment)


def demo(program: Path, work: Path, environment: Mapping[str, str]) -> None:
    """Run the demo's answers with another program, from a folder that is no clone."""
    with_program = {**environment, "DEMO_PROGRAM": str(program), "CI": "true"}
    answers = run([ROOT / "scripts/demo"], work, with_program)
    if not re.search(r"(?:[1-9]\s*){81}", answers):
        raise ReleaseError(f"the demo solved no sudoku: {last_words(answers)}")


def alone(work: Path) -> dict[str, str]:
    """An environment without what is set for a clone or a user."""
    kept = {name: value for name, value in os.environ.items() if not OWN_SETTINGS.match(name)}
    (work / "home").mkdir()
    return {**kept, "HOME": str(work / "home"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> str:
    """The standard output of a command; ReleaseError with its last words where it fails."""
    words = [str(word) for word in command]
    ran = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if ran.returncode:
        said = last_words(ran.stderr.strip() or ran.stdout)
        raise ReleaseError(f"{' '.join(words[:4])} ends with {ran.returncode}: {said}")
    return ran.stdout


# --- what is left to do


def notes(tag: str, root: Path) -> str:
    """The section of CHANGELOG.md that belongs to a tag, which has to be this version's."""
    version = project(root)["version"]
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, and pyproject.toml has version {version}")
    text = section(version, root)
    if text is None:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}] with notes")
    return text


def section(name: str, root: Path) -> str | None:
    """The notes under a heading of CHANGELOG.md; None where there are none."""
    text = (root / "CHANGELOG.md").read_text()
    found = re.search(rf"^## \[{re.escape(name)}\].*?\n(.*?)(?=^## \[|\Z)", text, re.M | re.S)
    return (found[1].strip() or None) if found else None


def to_do(root: Path) -> Iterator[str]:
    """Steps that are left before the tag, and the tag itself."""
    table = project(root)
    version = table["version"]
    if changed := git(root, "status", "--porcelain").splitlines():
        yield f"the tree is dirty, and was checked as it is: commit {len(changed)} changed files"
    if git(root, "tag", "--list", f"v{version}").strip():
        yield f"v{version} is tagged already: raise `version` in pyproject.toml, its only place"
    if section("Unreleased", root):
        yield f"CHANGELOG.md has notes under [Unreleased]: head them [{version}] and the date"
    elif not section(version, root):
        yield f"CHANGELOG.md has no section [{version}]: write it"
    links = RELATIVE_LINK.findall((root / "README.md").read_text())
    if links and not table.get("urls"):
        yield (
            f"README.md has {len(links)} links to files of the repository, which lead nowhere on "
            "PyPI; and pyproject.toml has no [project.urls]"
        )
    yield f"git tag v{version} && git push origin v{version}; .github/workflows/release.yml goes on"


if __name__ == "__main__":
    main()
