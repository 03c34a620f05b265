"""README and docs say what is so: files, options, slash commands, the picture, the sums."""

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pages import PAGES, ROOT, table, text_of
from typer.main import get_command
from typer.testing import CliRunner

from mlx_diffgemma.cli.app import app
from mlx_diffgemma.cli.chat.slash import COMMANDS
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.model.memory import sized

README, DOCS = ROOT / "README.md", ROOT / "docs"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_readme_is_two_screens() -> None:
    assert len(text_of(README).splitlines()) <= 170


# --- names


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(page)):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_it_names_is_there(page: Path) -> None:
    """Paths in backticks that begin with a folder of the clone or of the package."""
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text_of(page)):
        first = name.split("/")[0]
        bases = [ROOT, ROOT / "mlx_diffgemma", DOCS]
        if any((base / first).exists() for base in bases):
            assert any((base / name).exists() for base in bases), name


def test_every_room_of_the_tree_is_there() -> None:
    tree = text_of(README).split("## The code")[1].split("\n\n")[1]
    rooms = set(re.findall(r"^      (\w+)/", tree, re.MULTILINE))
    packages = {init.parent.name for init in (ROOT / "mlx_diffgemma").glob("*/__init__.py")}
    assert rooms == packages - {"convert", "metal"}  # which stand beside the package
    for folder in ("metal/", "convert/", "tests/", "scripts/"):
        assert folder in tree


def test_every_page_is_listed() -> None:
    listed = re.findall(r"^- \[([\w-]+\.md)\]", text_of(DOCS / "README.md"), re.MULTILINE)
    assert sorted(listed) == sorted(
        page.name for page in DOCS.glob("*.md") if page.stem != "README"
    )


@pytest.mark.parametrize("command", ["generate", "convert"])
def test_the_table_of_options_is_whole(command: str) -> None:
    rows = table(DOCS / f"{command}.md", "## Options")
    named = {option for row in rows for option in re.findall(r"`(--[a-z-]+)`", row[0])}
    options = [p for p in get_command(app).commands[command].params if p.opts[0][:2] == "--"]  # type: ignore[attr-defined]
    assert {option.opts[0] for option in options} <= named
    assert named <= {name for option in options for name in (*option.opts, *option.secondary_opts)}


def test_chats_commands_are_all_there() -> None:
    rows = table(DOCS / "chat.md", "## Commands")
    assert [re.findall(r"`/([a-z]+)", row[0])[0] for row in rows] == list(COMMANDS)


def test_the_glossary_has_no_word_twice() -> None:
    words = [row[0] for row in table(ROOT / "CONTRIBUTING.md", "## Words")]
    assert len(words) >= 20
    assert len(set(words)) == len(words)


# --- pictures and sums


def test_the_table_of_macs_is_what_the_script_says() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_memory_table.py"))
    assert "\n".join(script["table"]()) in text_of(README)


def test_the_sizes_of_recipes_are_those_of_their_plans(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_memory_table.py"))
    source = open_checkpoint(script["write_sparse"](tmp_path))
    for names, folder, text in table(DOCS / "convert.md", "## Sizes"):
        for name in re.findall(r"\w+", names):
            outputs = make_plan(source, make_recipe(RecipeOptions(name))).outputs
            of_text = [o for o in outputs if "vision_tower" not in o.name]
            of_text = [o for o in of_text if "embed_vision" not in o.name]
            assert sized(sum(output.num_bytes for output in outputs)) == folder, name
            assert sized(sum(output.num_bytes for output in of_text)) == text, name


def test_the_picture_is_of_a_story_and_every_host_shows_it() -> None:
    """Nothing in it that a README's host would strip, and the whole story in its last step."""
    content = (DOCS / "denoising.svg").read_text(encoding="utf-8")
    assert len(content) < 100_000
    assert "<script" not in content
    last = max(int(end) for end in re.findall(r'class="t\d+-(\d+)"', content))
    lines: dict[int, dict[float, str]] = {}
    for group in ElementTree.fromstring(content).iter(SVG + "g"):
        if group.attrib.get("class", f"-{last}").endswith(f"-{last}"):
            for text in group.findall(SVG + "text"):
                line = lines.setdefault(int(text.attrib["y"]), {})
                line[float(text.attrib["x"])] = text.text or ""
    shown = " ".join("".join(part for _, part in sorted(lines[y].items())) for y in sorted(lines))
    told = re.search(r"Once there was an? \w+ owl called .* In the end [^.]*\.", _words(shown))
    assert told, shown


def _words(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").split())


@pytest.mark.slow
def test_the_picture_is_what_its_script_makes(tmp_path: Path) -> None:
    """But for the times of the machine that made it."""
    script, picture = runpy.run_path(str(ROOT / "scripts/make_picture.py")), tmp_path / "x.svg"
    for arguments in script["commands"](tmp_path / "trace.jsonl", picture):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    made, kept = (path.read_text("utf-8") for path in (picture, DOCS / "denoising.svg"))
    assert _without_times(made) == _without_times(kept), "run scripts/make_picture.py again"


def _without_times(image: str) -> str:
    """An image whose status lines end before the seconds left, and that is as wide as any."""
    image = re.sub(r'viewBox="[^"]*" width="[^"]*"', "", image.replace("\u00a0", " "))
    return re.sub(r'textLength="[^"]*">(canvas[^<]*?of \d+)[^<]*<', r">\1<", image)


def test_the_architecture_names_files_that_are_there() -> None:
    content = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(content)
    assert "prefers-color-scheme: dark" in content
    names = [text.text or "" for text in root.iter(SVG + "text") if text.get("class") == "file"]
    assert len(names) > 8
    for name in names:
        folder = name.split("/")[0]
        for file in re.findall(r"\w+\.py", name):
            assert (ROOT / "mlx_diffgemma" / folder / file).exists(), name
