"""The page that plays a trace: whole in itself, by steps, and nothing in it but what is meant."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from contrast import contrast
from puzzle import SOLVE

from mlx_diffgemma.cli.record.film import Film, make_film, svg
from mlx_diffgemma.cli.record.pace import Pace
from mlx_diffgemma.cli.record.page import html
from mlx_diffgemma.cli.record.recording import read_recording
from mlx_diffgemma.generation.certainty import DARK, LIGHT

EVIL = "</pre></script><script>alert(1)</script>\"'&amp;\x1b[2J\x00\ud800\u2028"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """A solved Sudoku, half a second a step."""
    from typer.testing import CliRunner

    from mlx_diffgemma.cli.app import app

    file = tmp_path_factory.mktemp("trace") / "steps.jsonl"
    assert CliRunner().invoke(app, [*SOLVE, "--trace", str(file)]).exit_code == 0
    return make_film(read_recording(file), Pace(step_seconds=0.5))


class Page(HTMLParser):
    """The elements of a page in order, and the text in its prompt."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.prompt = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if "pre" in self.inside:
            self.prompt += data

    def names(self) -> list[str]:
        return [name for name, _ in self.elements]


def test_the_slider_goes_by_steps_and_controls_stand_above(film: Film) -> None:
    """Bug: the slider went by time, below the image."""
    page = Page(html(film, "Title"))
    names = page.names()
    assert names.index("input") < names.index("svg")
    (slider,) = (given for name, given in page.elements if name == "input")
    assert (slider["type"], slider["min"], slider["max"]) == (
        "range",
        "0",
        str(len(film.pictures) - 1),
    )
    assert names.count("button") == 3
    assert names.count("select") == 1


def test_every_control_has_a_name(film: Film) -> None:
    content = html(film, "Title")
    for name, given in Page(content).elements:
        if name == "input":
            assert given["aria-label"]
    for attributes, text in re.findall(r"<button([^>]*)>([^<]*)<", content):
        assert "aria-label" in attributes or text.isalpha()
    assert "<label>Speed <select" in content


def test_it_holds_the_very_image_and_needs_nothing_else(film: Film) -> None:
    content = html(film, "Title")
    assert svg(film, "Title") in content
    assert "http" not in content.replace("http://www.w3.org/2000/svg", "")
    for name, given in Page(content).elements:
        assert name not in ("link", "iframe", "img", "object")
        assert not {"src", "href"} & set(given)


def test_the_same_film_is_the_same_page(film: Film) -> None:
    assert html(film, "Title") == html(film, "Title")


def test_it_shows_the_prompt_and_the_legend(film: Film) -> None:
    content = html(film, "Title")
    assert Page(content).prompt.strip().startswith("530070000\n600195000")
    for part in ("entropy", "&lt;0.05", "more", "accepted", "changed"):
        assert part in content


def test_no_text_is_markup_or_a_control_character(film: Film) -> None:
    content = html(
        replace(film, prompt=EVIL, note=EVIL), EVIL.replace("\x00", "").replace("\ud800", "")
    )
    page = Page(content)
    assert page.names().count("script") == 1
    assert page.prompt.strip().startswith(
        "</pre></script><script>alert(1)</script>\"'&amp;\\x1b[2J"
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page.prompt)
    content.encode()  # no lone surrogate is left


def rules(content: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of an image each class's colour, light and dark."""
    light, _, dark = content.partition("@media (prefers-color-scheme:dark)")
    found = [dict(re.findall(r"(\.s\d+|rect)\{fill:(#\w{6})", part)) for part in (light, dark)]
    return found[0], found[1]


def test_every_colour_can_be_read_in_both_schemes(film: Film) -> None:
    """4.5:1 and more; a dark scheme has its own colour for every class."""
    light, dark = rules(svg(film, "Title"))
    assert (light["rect"], dark["rect"]) == (LIGHT.back, DARK.back)
    assert len(light) >= 8
    assert set(light) == set(dark)
    for scheme in (light, dark):
        for name, colour in scheme.items():
            assert name == "rect" or contrast(colour, scheme["rect"]) >= 4.5, (name, colour)


def test_the_pages_own_colours_can_be_read_in_both_schemes(film: Film) -> None:
    """Text 4.5:1, borders and what is focused 3:1."""
    schemes = re.findall(r":root \{ (--back[^}]*) \}", html(film, "Title"))
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        assert contrast(colours["text"], colours["back"]) >= 4.5
        assert contrast(colours["line"], colours["back"]) >= 3
        assert contrast(colours["accent"], colours["back"]) >= 4.5


# --- its script, run where there is a JavaScript engine

STAGE = """
const shapes = PARTS.map((name) => ({ getAttribute: () => name, style: {} }));
const elements = {};
const element = (id) => elements[id] ??= {
  value: id === "speed" ? "1" : "0", textContent: "Play", setAttribute() {},
};
let pressed, due = [];
const document = {
  getElementById: element, querySelectorAll: () => shapes,
  documentElement: { classList: { add() {} } },
  addEventListener: (_, heard) => pressed = heard,
};
const matchMedia = () => ({ matches: true });
const setTimeout = (call, wait) => due.push({ call, wait });
const clearTimeout = () => due = [];
const key = (name) => pressed({ key: name, target: { tagName: "BODY" }, preventDefault() {} });
const seen = () => shapes.map((part) => part.style.visibility === "visible" ? 1 : 0).join("");
const said = [];
SCRIPT
const note = () => said.push([at("place").textContent, seen(), at("play").textContent]);
note();
key("ArrowRight"); note();
key("End"); note();
key("ArrowRight"); note();
key("Home"); note();
at("step").value = "1"; at("step").oninput(); note();
key(" "); said.push(due.map((each) => each.wait)); note();
const first = due; due = []; first[0].call(); note();
at("play").onclick(); note();
console.log(JSON.stringify(said));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node: the script is not run")
def test_keys_and_slider_show_the_steps(film: Film, tmp_path: Path) -> None:
    film = replace(film, pictures=film.pictures[:3], starts=film.starts[:3], length=3.0)
    (script,) = re.findall(r"<script>\n(.*)</script>", html(film, "Title"), re.DOTALL)
    stage = STAGE.replace("PARTS", '["t0-1", "t1-3", "t2-3", "t0-2"]').replace("SCRIPT", script)
    ran = subprocess.run(["node", "-e", stage], capture_output=True, text=True, check=True)
    said: Any = json.loads(ran.stdout)
    steps = {1: "1001", 2: "0101", 3: "0110"}
    waits = said.pop(6)
    assert said == [
        [f"step {step} of 3", steps[step], label]
        for step, label in [
            (1, "Play"),
            (2, "Play"),
            (3, "Play"),
            (3, "Play"),
            (1, "Play"),
            (2, "Play"),
            (2, "Pause"),
            (3, "Pause"),
            (3, "Play"),
        ]
    ]
    assert waits == [500]
