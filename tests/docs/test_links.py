"""Every link of a page leads to a file that is there, and to a heading that it has."""

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, text_of

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = ("mlx_diffgemma", "scripts", "tests")  # that have pages, too
ELSEWHERE = ("http:", "https:", "mailto:")


ALL = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")),
]


def prose(page: Path) -> str:
    return FENCED.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(prose(page)):
        if link.startswith(ELSEWHERE):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# `One` heading\n[a](#one-heading) [b](#two) [c](none.md) [d](page.md#two)\n")
    assert broken(page) == ["#two", "none.md", "page.md#two"]
