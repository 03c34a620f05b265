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
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

from distribution import (
    PACKAGE,
    ReleaseError,
    build,
    copied,
    git,
    last_words,
    project,
    require_files,
    require_same,
    unpack,
)

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "mlx-diffgemma"
# What would lead an installation astray that is to be tried alone.
OWN_SETTINGS = re.compile(r"PYTHON(PATH|HOME)|VIRTUAL_ENV|MLX_DIFFGEMMA_|XDG_")
# Links of Markdown and HTML that name a file of the repository.
RELATIVE_LINK = re.compile(r"(?:\]\(|src=\"|href=\")(?!https?:|#|mailto:)([^)\s\"]+)")


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
    except (ReleaseError, OSError, BadZipFile) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def check(root: Path, *, network: bool) -> None:
    """The whole check of the working tree; ReleaseError with the first thing that is wrong."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        with timed("building sdist and wheel"):
            source = copied(root, work / "source")
            sdist, wheel = build("sdist", source, work / "sdist"), build("wheel", source, work)
        with timed("building the wheel from the sdist, and comparing"):
            unpacked = unpack(sdist, work / "unpacked")
            require_same(wheel, build("wheel", unpacked, work / "second"))
        say(f"  {sdist.name}: {sdist.stat().st_size:,} bytes")
        say(f"  {require_files(wheel, root)}")
        with timed("installing the wheel into an empty venv, and running the demo from there"):
            try_wheel(wheel, project(root)["version"], network=network)
    say("sound: sdist and wheel can be built, installed and used")
    for line in ("", "To release:", *(f"- {step}" for step in to_do(root))):
        say(line)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(what)
    began = time.monotonic()
    yield
    say(f"  done in {time.monotonic() - began:.1f} s")


# --- trying a wheel


def try_wheel(wheel: Path, version: str, *, network: bool = True) -> None:
    """Install a wheel in an empty venv and run the demo with it, in a folder that is no clone.

    Without network the dependencies are those of the Python at hand, and none is installed.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder)
        environment = alone(work)
        venv.create(work / "venv", with_pip=True, symlinks=True)
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
