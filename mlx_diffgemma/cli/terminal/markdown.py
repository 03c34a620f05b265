"""Markdown as lines of styled text, of which no character is lost that somebody needs.

What a model writes stays where it is: its line breaks, indents, list numbers and blank lines. Marks
of headings and of emphasis become styles, bullets one sign, tables columns. Code is printed to the
letter, from the first column and in lines as long as they are, so that what is copied is what was
written. HTML, entities, and formulas with their backslashes stay as they were typed, and so do
marks that are seldom meant as emphasis: any `_`, as in __init__, and a `*` between letters or
digits, as in 2*3*4, or in front of what begins a pattern or ends a phrase, as in "*.py" and (*). A
block of which a letter or a digit would be lost stays as it is.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from ...machine.files import parse_json
from .wrap import WORDS

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

BOLD, FAINT = Style(bold=True), Style(dim=True)
TITLE = Style(bold=True, underline=True)
MARKS = {"strong": BOLD, "em": Style(italic=True), "s": Style(strike=True)}
ESCAPED = frozenset("*_`~#|")  # what a backslash in front keeps from being a mark
NO_BEGINNING = frozenset("./\\,;:)]}")  # characters that no emphasis begins with
BULLET = re.compile(r"(\s*)[-*+](?= )")
GAP = "  "  # between two columns of a table
LEFT, RIGHT = "left", "right"


@lru_cache(maxsize=1)
def _parser() -> "MarkdownIt":
    """CommonMark with tables and ~~strikethrough~~, without what would take characters away.

    text_join: it would put an escape's character in place of what was typed.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.disable(["entity", "lheading", "reference", "text_join"])
    vars(parser).update(normalizeLink=str, normalizeLinkText=str)  # as they were typed
    return parser


def rendered(text: str, columns: int) -> list[Text]:
    """The lines that show a text, wrapped between words where they are wider than `columns`.

    Code and words that no line can hold stay whole. JSON stays as it is.
    """
    source = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if _is_json(text):
        return [Text(line, no_wrap=True) for line in source]
    lines: list[Text] = []
    done = 0
    for start, end, block in _blocks(text, source, columns):
        lines += [Text(line) for line in source[done:start]]
        as_it_is = [Text(line) for line in source[start:end]]
        lines += block if _letters(block) == _letters(as_it_is) else as_it_is
        done = end
    lines += [Text(line) for line in source[done:]]
    return [row for line in lines for row in _wrapped(line, columns)]


def code_blocks(text: str) -> list[str]:
    """The insides of a text's code blocks in order, the last line of each without its break."""
    tokens = _parser().parse(text)
    return [token.content.removesuffix("\n") for token in tokens if token.type == "fence"]


def _letters(lines: Sequence[Text]) -> list[str]:
    """The letters and digits of some lines, which no mark of Markdown is."""
    return [each for line in lines for each in line.plain if each.isalnum()]


def _is_json(text: str) -> bool:
    try:
        return isinstance(parse_json(text.encode()), dict | list)
    except ValueError:
        return False


def _blocks(
    text: str, source: Sequence[str], columns: int
) -> Iterator[tuple[int, int, list[Text]]]:
    """The blocks that are not shown as they are: their first line, the one behind, their lines."""
    tokens, inside = _parser().parse(text), ""
    for number, token in enumerate(tokens):
        start, end = token.map or (0, 0)
        if token.type == "table_open":
            inside = "table"
            table = _table(tokens[number:], columns) if token.level == 0 else []
            yield start, end, table or [Text(line, no_wrap=True) for line in source[start:end]]
        elif token.type == "table_close":
            inside = ""
        elif token.type == "fence":
            yield start, end, _code(token, source[start:end])
        elif token.type == "hr":
            yield start, end, [Text(line, FAINT) for line in source[start:end]]
        elif token.type == "inline" and token.content and inside != "table":
            level = tokens[number - 1].tag if tokens[number - 1].type == "heading_open" else ""
            yield start, end, _paragraph(token, source[start:end], level)


def _code(token: "Token", source: Sequence[str]) -> list[Text]:
    """A code block: its fences dim, as they stand, and the lines between to the letter."""
    inner = [Text(line, no_wrap=True) for line in token.content.split("\n")[:-1]]
    last = [Text(source[-1], FAINT)] if len(source) > len(inner) + 1 else []
    return [Text(source[0], FAINT), *inner, *last]


def _paragraph(token: "Token", source: Sequence[str], heading: str) -> list[Text]:
    """A paragraph or a heading line by line, each behind what stands in front of it."""
    rows = _inline(token.children or [])
    contents = token.content.split("\n")
    lines = []
    for line, content, row in zip(source, contents, rows, strict=False):
        front = line[: max(0, line.rfind(content.strip()))]
        if heading:
            front = front.rstrip("# \t") + " " if front.rstrip("# \t") else ""
            row.stylize(TITLE if heading == "h1" else BOLD)
        lines.append(Text.assemble(BULLET.sub(r"\1•", front), row))
    return lines


def _inline(tokens: "Sequence[Token]") -> list[Text]:
    """The lines of a paragraph's text."""
    rows, styles, literal = [Text()], list[Style](), set[int]()
    places: list[str] = []  # of the links that are open
    for number, token in enumerate(tokens):
        kind, _, edge = token.type.rpartition("_")
        style = sum(styles[1:], styles[0]) if styles else Style()
        if token.type in ("softbreak", "hardbreak"):
            rows.append(Text())
        elif kind in MARKS and edge == "open":
            close = _closing(tokens, number)
            if kind != "s" and not _emphasis(tokens, number, close):
                literal |= {number, close}
                rows[-1].append(token.markup, style)
            else:
                styles.append(MARKS[kind])
        elif kind in MARKS and edge == "close":
            if number in literal:
                rows[-1].append(token.markup, style)
            else:
                styles.pop()
        else:
            if token.type == "link_open":
                places.append(str(token.attrs.get("href", "")))
            place = places.pop() if token.type == "link_close" else ""
            for piece, more in _pieces(token, place):
                rows[-1].append(piece, style + more)
    return rows


def _pieces(token: "Token", place: str) -> Iterator[tuple[str, Style]]:
    """The text of a token that is no mark of emphasis, and what is beside its style.

    place: that of the link which it ends.
    """
    plain = Style()
    match token.type:
        case "code_inline":
            yield from ((token.markup, FAINT), (token.content, plain), (token.markup, FAINT))
        case "text_special":
            yield (token.content if token.content in ESCAPED else token.markup), plain
        case "link_open" if token.markup != "autolink":
            yield "[", FAINT
        case "link_open":
            yield "<", FAINT
        case "link_close" if token.markup != "autolink":
            yield f"]({place})", FAINT
        case "link_close":
            yield ">", FAINT
        case "image":
            yield f"![{token.content}]({token.attrs.get('src', '')})", plain
        case _:
            yield token.content, plain


def _closing(tokens: "Sequence[Token]", opening: int) -> int:
    """The place of the mark that ends the emphasis which one begins."""
    level = tokens[opening].level
    ends = (n for n in range(opening + 1, len(tokens)) if tokens[n].level == level)
    return next(n for n in ends if tokens[n].nesting == -1)


def _emphasis(tokens: "Sequence[Token]", opening: int, closing: int) -> bool:
    """True where two marks are surely meant as emphasis.

    Letters of other scripts may touch them from outside: Chinese has no blanks between words.
    """
    before = tokens[opening - 1].content[-1:] if opening else ""
    behind = tokens[closing + 1].content[:1] if closing + 1 < len(tokens) else ""
    touched = any(each.isascii() and each.isalnum() for each in (before, behind))
    begins = tokens[opening + 1].content[:1] not in NO_BEGINNING
    return tokens[opening].markup[0] == "*" and begins and not touched


def _table(tokens: "Sequence[Token]", columns: int) -> list[Text]:
    """A table as columns, or nothing where it is wider than so many cells."""
    rows: list[list[Text]] = []
    sides: list[str] = []
    for number, token in enumerate(tokens):
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(_inline(tokens[number + 1].children or [])[0])
            if token.type == "th_open":
                right = RIGHT in str(token.attrs.get("style", ""))
                sides.append(RIGHT if right else LEFT)
    widths = [max(map(_cells, column)) for column in zip_longest(*rows, fillvalue=Text())]
    if sum(widths) + len(GAP) * (len(widths) - 1) > columns:
        return []
    for cell in rows[0]:
        cell.stylize(BOLD)
    head, *body = [_row(row, widths, sides) for row in rows]
    return [head, Text(GAP.join("─" * width for width in widths), FAINT), *body]


def _row(cells: Sequence[Text], widths: Sequence[int], sides: Sequence[str]) -> Text:
    """A row of a table, without blanks at its end."""
    row = Text(no_wrap=True)
    for number, (cell, width, side) in enumerate(zip(cells, widths, sides, strict=False)):
        blanks = " " * (width - _cells(cell))
        row.append(GAP if number else "")
        row.append_text(Text(blanks) + cell if side == RIGHT else cell + Text(blanks))
    row.rstrip()
    return row


def _cells(text: Text) -> int:
    return cell_len(text.plain)


def _wrapped(line: Text, columns: int) -> list[Text]:
    """The rows of a line, broken between words; further ones are indented as the first one is."""
    if line.no_wrap or _cells(line) <= columns:
        return [line]
    indent = re.match(r"[\s>]*(?:[•\-*+] +|\d+[.)] +)?", line.plain)
    margin = " " * cell_len(indent[0]) if indent and cell_len(indent[0]) <= columns // 2 else ""
    breaks, cells, begun = list[int](), 0, False
    for match in WORDS.finditer(line.plain):
        blanks, word = cell_len(match[1]), cell_len(match[2])
        if begun and word and cells + blanks + word > columns:
            breaks.append(match.start(2))
            cells, blanks = len(margin), 0
        begun = begun or (bool(word) and match.end() > (indent.end() if indent else 0))
        cells += blanks + word
    first, *others = line.divide(breaks)
    for row in (first, *others):
        row.rstrip()
    return [first, *(Text(margin) + row for row in others)]
