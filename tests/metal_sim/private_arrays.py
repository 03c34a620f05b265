"""Loops over private arrays, which stay in registers only where every index is a constant.

One index that is known only when the kernel runs, and an Apple GPU keeps the whole array in device
memory. Such loops are unrolled in full, and so have constant bounds. Constants are in capitals, or
the result of a function without arguments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .lower import closing, split

PRAGMA = "#pragma clang loop unroll(full)"
TYPE = r"[\w:]+(?:\s*<[^;{}()]*?>)?"
NO_TYPE = r"(?:return|else|typedef|using|case|goto|struct|template)\b"
OTHER_SPACE = r"(?:(?:const|constexpr)\s+)*(?:threadgroup|device|constant)\b"
DECLARATION = re.compile(
    rf"(?:^|(?<=[;{{}}]))\s*(?!{OTHER_SPACE}|{NO_TYPE})(?:(?:const|constexpr|thread)\s+)*{TYPE}\s+"
    r"((?:\w+\s*(?:=[^;,()]*)?,\s*)*\w+\s*\[[^;]*);",
    re.MULTILINE,
)
ARRAY = re.compile(r"(\w+)\s*\[")
POINTER = re.compile(
    rf"\bthread\s+(?:const\s+)?{TYPE}(?:\s*\*\s*(?:const\s+)?(\w+)|\s*\(\s*&\s*(\w+)\s*\)\s*\[)"
)
LOOP = re.compile(r"\b(?:for|while)\s*\(|\bdo\s*\{")
ASSIGNED = re.compile(r"\b(\w+)\s*=(?!=)([^;]*)")
CHANGED = re.compile(r"\b(\w+)\s*(?:[-+*/%&|^]|<<|>>)=|(?:\+\+|--)\s*(\w+)|\b(\w+)\s*(?:\+\+|--)")
CONSTANT = re.compile(
    r"\b[A-Z][A-Z0-9_]*\b|\w+(?:<[^()]*>)?\(\)|(?:static_cast|int|uint|const|ushort|short|size_t)\b"
    r"|\b\d\w*"
)


@dataclass(frozen=True)
class PrivateArray:
    """A private array or a pointer to one, and the part of the text where the name means it."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class Loop:
    """A loop: where it begins, what stands in its brackets, and where its body lies."""

    begin: int
    header: str
    body_begin: int
    body_end: int

    def inside(self, other: "Loop") -> bool:
        """Whether it stands in the body of the other."""
        return other.body_begin <= self.begin < other.body_end

    @property
    def parts(self) -> list[str]:
        """Start, condition and change of a for loop; of any other the condition alone."""
        found = self.header.split(";")
        return found if len(found) == 3 else ["", self.header, ""]

    @property
    def variables(self) -> set[str]:
        """The names that its brackets set or change."""
        start, _, change = self.parts
        return {name for name, _ in ASSIGNED.findall(start)} | changed(change)


def private_array_errors(text: str) -> Iterator[tuple[int, str]]:
    """Position and advice for each loop of a text without comments that may cost registers."""
    arrays, loops = list(private_arrays(text)), list(all_loops(text))
    for loop in loops:
        names = moving(text, loop, [inner for inner in loops if inner.inside(loop)])
        for name in indexed(text, loop, arrays, names):
            over = f"the loop over the private array {name}"
            if not text[: loop.begin].rstrip().endswith(PRAGMA):
                yield loop.begin, f"{over} lacks {PRAGMA}"
            elif not bounded(loop, [outer for outer in loops if loop.inside(outer)]):
                yield loop.begin, f"{over} needs constant bounds"


# --- what the text has ---------------------------------------------------------------------------


def private_arrays(text: str) -> Iterator[PrivateArray]:
    """Arrays in no other address space, and pointers to them."""
    for found in DECLARATION.finditer(text):
        for part in split(found.group(1)):
            if array := ARRAY.match(part):
                yield PrivateArray(array[1], found.start(1), end_of_block(text, found.end()))
    for found in POINTER.finditer(text):
        yield PrivateArray(found[1] or found[2], found.start(), end_of_block(text, found.start()))


def end_of_block(text: str, start: int) -> int:
    """Where the block around `start` ends; of a parameter, where its function's body does."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth < 0 and text[i] == ")":
            body = re.compile(r"\s*\{").match(text, i + 1)
            return closing(text, body.end() - 1) if body else i
        if depth < 0:
            return i
    return len(text)


def all_loops(text: str) -> Iterator[Loop]:
    """The loops of a text, outer ones before those inside them."""
    for found in LOOP.finditer(text):
        if found.group().startswith("do"):
            yield Loop(found.start(), "", found.end(), closing(text, found.end() - 1))
            continue
        end = closing(text, found.end() - 1)
        yield Loop(found.start(), text[found.end() : end], end + 1, end_of_statement(text, end + 1))


def end_of_statement(text: str, start: int) -> int:
    """Where the statement after a loop's brackets ends: a block, a loop again, or up to a ;."""
    at = start + len(text[start:]) - len(text[start:].lstrip())
    if text[at : at + 1] == "{":
        return closing(text, at)
    if again := LOOP.match(text, at):
        return end_of_statement(text, closing(text, again.end() - 1) + 1)
    return text.find(";", at) if ";" in text[at:] else len(text)


# --- what a loop does ----------------------------------------------------------------------------


def moving(text: str, loop: Loop, inner: list[Loop]) -> set[str]:
    """The names that may mean another number in each round, but for what inner loops count."""
    body = list(text[loop.body_begin : loop.body_end])
    for other in inner:
        header = other.begin - loop.body_begin, other.body_begin - loop.body_begin
        start = other.parts[0] + ";"
        body[slice(*header)] = start.ljust(header[1] - header[0])
    rest = "".join(body)
    names = loop.variables | changed(rest)
    assigned = ASSIGNED.findall(rest)
    while added := {left for left, right in assigned if mentions(right, names)} - names:
        names |= added
    return names


def changed(text: str) -> set[str]:
    """The names that are counted up or down, or changed by what they are."""
    return {name for groups in CHANGED.findall(text) for name in groups if name}


def mentions(text: str, names: set[str]) -> bool:
    """Whether one of the names occurs."""
    return not names.isdisjoint(re.findall(r"\w+", text))


def indexed(text: str, loop: Loop, arrays: list[PrivateArray], names: set[str]) -> list[str]:
    """The private arrays of which the loop takes elements by the names, or pointers to them."""
    body = slice(loop.body_begin, loop.body_end)
    return sorted(
        {
            array.name
            for array in arrays
            if array.begin < loop.body_end and loop.begin < array.end
            for index in indices(text[body], array.name)
            if mentions(index, names)
        }
    )


def indices(text: str, name: str) -> Iterator[str]:
    """What stands in brackets behind an array's name, or is added to it."""
    for found in re.finditer(rf"(?<![\w.])(?:{name})\s*(?:\[|\+(?!=))", text):
        if found.group().endswith("+"):
            yield re.split(r"[,;]", text[found.end() :], maxsplit=1)[0]
            continue
        end = found.end() - 1
        while text[end : end + 1] == "[":
            closes = closing(text, end)
            yield text[end + 1 : closes]
            end = closes + 1


def bounded(loop: Loop, outer: list[Loop]) -> bool:
    """Whether its bounds and its step are constants, given those of the loops around it."""
    known = loop.variables.union(*(other.variables for other in outer))
    rest = CONSTANT.sub("", " ".join(loop.parts))
    return set(re.findall(r"[A-Za-z_]\w*", rest)) <= known
