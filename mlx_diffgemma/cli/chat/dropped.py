"""Files that are dropped into a line: terminals type their paths, each in its own spelling.

macOS Terminal, iTerm2 and Ghostty write a backslash before blanks and brackets, GNOME Terminal and
kitty put quotes around, others write a file:// URL, and Finder copies a path as it is. Words end at
a blank, a tab or a line break alone: names of macOS's screenshots hold U+202F, which Python counts
as white space.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

PHOTOS = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".gif", ".tif", ".tiff", ".bmp")
IMAGES = frozenset((*PHOTOS, ".heic", ".heif", ".avif"))
VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"))
BLANKS = " \t\n"
LONGEST = 4096  # characters of a path, as systems have it
MARKS = "?!.,;:)"  # may stand behind a path that ends a sentence

BEGINNING = re.compile(r"""(?:^|(?<=[ \t\n]))(?=['"]?(?:/|~|file:))""", re.IGNORECASE)
PART = re.compile(
    r"""'(?P<single>[^']*)'  |  "(?P<double>(?:\\.|[^"\\])*)"  |  \\(?P<escaped>.)
    |  (?P<plain>[^\x20\t\n'"\\])""",
    re.DOTALL | re.VERBOSE,
)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
URL = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)


@dataclass(frozen=True)
class Dropped:
    """The files of a line in order, and the text beside them."""

    images: tuple[Path, ...]
    videos: tuple[Path, ...]
    text: str


def read_dropped(line: str) -> Dropped | None:
    """The images and videos whose paths a line holds; None where it holds none that is there.

    A path at the beginning or the end leaves the text, one within it leaves the file's name. A line
    with a blank in front is a question as it is.
    """
    if line[:1].isspace() or not (found := list(_found(line))):
        return None
    files = [file for _, _, file in found]
    images = tuple(file for file in files if _ending(file) in IMAGES)
    videos = tuple(file for file in files if _ending(file) in VIDEOS)
    return Dropped(images, videos, _text(line, found))


def named_files(text: str) -> list[Path]:
    """The files that stand behind a command, there or not: the one of that name, or word by word.

    Words are read as a shell reads them; a quote without its other half makes one name of all.
    """
    text = text.strip(BLANKS)
    if _exists(whole := _respelt(_as_path(text))):
        return [whole]
    words: list[str] = []
    at = 0
    while at < len(text):
        word, end = _word(text, at)
        if end == at and text[at] not in BLANKS:
            words = []
            break
        words += [word] if word else []
        at = max(end, at + 1)
    return [_respelt(_as_path(word)) for word in words or [text]]


def _found(line: str) -> Iterator[tuple[int, int, Path]]:
    """Beginning, end and file of each path in a line, from the left."""
    end = 0
    for start in (match.start() for match in BEGINNING.finditer(line)):
        if start < end:
            continue
        if (file := _dropped(line[start:].rstrip(BLANKS))) is not None:
            yield start, len(line), file
            return
        word, stop = _word(line, start)
        if line[stop : stop + 1] not in BLANKS:  # a backslash, or a quote without its other half
            continue
        bare = line[:stop].rstrip(MARKS)
        for name, behind in ((word, stop), (word.rstrip(MARKS), len(bare))):
            if (file := _dropped(name)) is not None:
                yield start, behind, file
                end = behind
                break


def _word(line: str, start: int) -> tuple[str, int]:
    """The word at `start`, without its quotes and backslashes, and the place behind it."""
    parts, at = [], start
    while (part := PART.match(line, at)) is not None:
        quoted = part["double"]
        parts.append(
            ESCAPED.sub(r"\1", quoted) if quoted is not None else part[part.lastgroup or 0]
        )
        at = part.end()
    return "".join(parts), at


def _dropped(name: str) -> Path | None:
    """The image or video of that name; None where none is there."""
    if len(name) > LONGEST or _ending(path := _as_path(name)) not in IMAGES | VIDEOS:
        return None
    path = _respelt(path)
    return path if _exists(path) else None


def _as_path(name: str) -> Path:
    """The path that a name or a file:// URL stands for, the home put in."""
    if (url := URL.match(name)) is not None:
        return Path(unquote(name[url.end() :], errors="surrogateescape"))
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user
        return Path(name)


def _exists(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # too long, or a NUL
        return False


def _respelt(file: Path) -> Path:
    """The file; or the one beside it whose name differs in blanks or spelt accents alone.

    On its way through a clipboard U+202F may become a blank, and an accent two characters or one.
    """
    if _exists(file):
        return file
    wanted = _folded(file.name)
    try:
        return next((each for each in file.parent.iterdir() if _folded(each.name) == wanted), file)
    except (OSError, ValueError):
        return file


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _ending(file: Path) -> str:
    return file.suffix.lower()


def _text(line: str, found: Sequence[tuple[int, int, Path]]) -> str:
    """The line without the paths at its ends, and with a file's name in place of one within."""
    begins = [0, *(end for _, end, _ in found)]
    ends = [*(start for start, _, _ in found), len(line)]
    texts = [line[begin:end] for begin, end in zip(begins, ends, strict=True)]
    names = [file.name for _, _, file in found]
    while names and not texts[0].strip(BLANKS):
        del texts[0], names[0]
    while names and not texts[-1].strip(BLANKS):
        del texts[-1], names[-1]
    within = zip(names, texts[1:], strict=True)
    return (texts[0] + "".join(name + text for name, text in within)).strip(BLANKS)
