"""README and docs as data: their blocks, and the commands in them.

A block marked sh holds commands, one marked console a transcript: lines with `$`, and what they
print below. A comment `# needs ...` behind a command, or on a block's first line, says why it
cannot run here.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = "mlx-diffgemma"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEED = re.compile(r"(?:^|\s)#\s*(needs .*)$")
COMMENT = re.compile(r"(?:^|\s+)#\s.*$")


@dataclass(frozen=True)
class Command:
    """A line of a page: the command, why it cannot run here, and what the page shows of it."""

    line: str
    need: str | None
    shown: tuple[str, ...] = ()

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call of the program in the line."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars="|;&<>")  # outside quotes
        lexer.whitespace_split, lexer.commenters = True, ""
        calls: list[list[str]] = [[]]
        words = iter(lexer)
        for word in words:
            if set(word) <= set("|;&"):
                calls.append([])
            elif set(word) <= set("<>"):
                next(words, None)  # the file
            else:
                calls[-1].append(word)
        return [words[1:] for words in calls if words[:1] == [PROGRAM]]

    @property
    def is_shell(self) -> bool:
        """True where a shell has to run the line."""
        return bool(re.search(r"[|<>;&]", self.line))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The contents of a page's blocks in one language."""
    return [content for kind, content in BLOCK.findall(text_of(page)) if kind == language]


def commands(page: Path) -> Iterator[Command]:
    """Every line of a page that somebody would type, in order."""
    for kind, content in BLOCK.findall(text_of(page)):
        if kind == "sh":
            yield from _typed(content)
        elif kind == "console":
            yield from _transcript(content)


def _typed(content: str) -> Iterator[Command]:
    lines = content.replace("\\\n", " ").splitlines()
    of_all = NEED.search(lines[0]) if lines[0].startswith("#") else None
    for line in lines:
        need = NEED.search(line) or of_all
        bare = COMMENT.sub("", line).strip()
        if bare:
            yield Command(bare, need[1] if need else None)


def _transcript(content: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", content.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        line, *shown = part.splitlines()
        yield Command(line, None, tuple(shown))


def table(page: Path, head: str) -> list[list[str]]:
    """The cells of the first table behind `head`, row by row, its heading left out."""
    behind = text_of(page).split(head, 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", behind, re.MULTILINE)
    assert rows, head
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in rows[0].splitlines()[2:]
    ]
