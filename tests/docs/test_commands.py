"""Every command that a page shows runs, or its options and the files that it reads are there."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, PROGRAM, ROOT, Command, commands, text_of
from typer.main import get_command
from waiting import SECONDS

from mlx_diffgemma.cli.app import app

READ = ("--data", "--prompt-file", "--template-file", "--load", "--image")
WRITTEN = ("--trace", "--svg", "--html", "--json")  # --json: of profile alone
# Pages whose commands take seconds; README runs the like of them.
SLOW = {f"docs/{name}.md" for name in ("decide", "finetuning", "forms", "generate", "images")}
names = [str(page.relative_to(ROOT)) for page in PAGES]
marked = [
    pytest.param(page, marks=pytest.mark.slow if name in SLOW else ())
    for page, name in zip(PAGES, names, strict=True)
]


@pytest.mark.parametrize("page", marked, ids=names)
def test_what_can_run_here_runs(page: Path, clone: Path, run: Callable[..., str]) -> None:
    """In the page's order, so that one command may read what another has written."""
    for command in commands(page):
        if command.need or not command.calls:
            continue
        if command.is_shell:
            in_a_shell(command.line, clone)
            continue
        printed = run(*command.calls[0])
        if command.shown:
            assert tuple(printed.splitlines()) == command.shown


def in_a_shell(line: str, folder: Path) -> None:
    """The line in bash, with a program of our name in front of all others."""
    program = folder / "bin" / PROGRAM
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mlx_diffgemma "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, (line, ran.stderr)


# --- those that are not run


def command_of(words: list[str]) -> tuple[str, Any]:
    """The (sub)command a call begins with."""
    found: Any = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    if words[1:] and words[1] in getattr(found, "commands", {}):
        return " ".join(words[:2]), found.commands[words[1]]
    return words[0], found


def options_of(command: Any) -> set[str]:
    return {option for p in command.params for option in (*p.opts, *p.secondary_opts)}


def test_every_option_exists() -> None:
    for page in PAGES:
        inline = re.findall(rf"`({PROGRAM} [a-z][^`]*)`", text_of(page))
        shown = [*commands(page), *(Command(line, None) for line in inline)]
        for words in (words for command in shown for words in command.calls):
            name, command = command_of(words)
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given - {"--help"} <= options_of(command), (page.name, name)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_file_that_is_read_is_there(page: Path, clone: Path) -> None:
    """In the clone, or written by an earlier command of the page."""
    written: set[str] = set()
    for command in commands(page):
        for words in command.calls:
            missing = {file for file in read_by(words) if not (clone / file).exists()}
            assert missing <= written, (page.name, command.line)
            written |= set(written_by(words))
        written |= set(re.findall(r">\s*(\S+)", command.line))
        for word in shlex.split(command.line):
            if re.match(r"(\./)?(docs|scripts|tests)/", word):
                assert (ROOT / word).exists(), (page.name, command.line)


def read_by(words: list[str]) -> Iterator[str]:
    given = (value for option, value in pairwise(words) if option in READ)
    yield from (value for value in given if value != "-")
    if words[0] == "replay":
        yield words[1]
    if words[:2] == ["profile", "compare"]:
        yield from words[2:4]


def written_by(words: list[str]) -> Iterator[str]:
    yield from (value for option, value in pairwise(words) if option in WRITTEN)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_script_can_be_called(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command.line)
        if words[0].startswith("./scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), command.line
            for option in (word for word in words[1:] if word.startswith("--")):
                assert option in (ROOT / words[0]).read_text(), command.line


def test_no_command_hides_in_an_indented_block() -> None:
    """Only fenced blocks are read by these tests."""
    for page in PAGES:
        assert not re.findall(r"^    (?:\./scripts|mlx-diffgemma)\b.*", text_of(page), re.MULTILINE)
