"""The page: what it may do, what it asks for, its colours, and its script without a browser."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contrast import contrast
from scripted import ScriptedEngine
from starlette.testclient import TestClient

from mlx_diffgemma.conversation import scene
from mlx_diffgemma.generation.certainty import CERTAINTIES, DARK, LIGHT
from mlx_diffgemma.serve.dialects.content import MOST_IMAGE_BYTES
from mlx_diffgemma.serve.engine.worker import Worker
from mlx_diffgemma.serve.http.app import make_app
from mlx_diffgemma.serve.http.host import Access, Host
from mlx_diffgemma.serve.page.page import policy, read_page
from mlx_diffgemma.text.holes import read_template

ROOT = Path(__file__).parents[3]
PAGE = read_page()
SOURCE = PAGE.body.decode()
(STYLE,) = re.findall(r"<style>(.*?)</style>", SOURCE, re.DOTALL)
(SCRIPT,) = re.findall(r"<script>(.*?)</script>", SOURCE, re.DOTALL)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node: no script is run")


def directives(headers: Any) -> dict[str, str]:
    lines = headers["Content-Security-Policy"].split("; ")
    return {name: rest for name, _, rest in (line.partition(" ") for line in lines)}


def test_a_server_with_a_key_gives_its_page_to_everyone() -> None:
    engine = ScriptedEngine()
    with ThreadPoolExecutor(1) as desk:
        host = Host(engine, Worker(engine, 1), desk, access=Access(key=b"secret"))
        client = TestClient(make_app(host), base_url="http://localhost")
        reply = client.get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.content == PAGE.body
    assert directives(reply.headers)["connect-src"] == "'self'"


# --- what it may do


def test_only_its_own_script_and_style_run() -> None:
    told = directives(PAGE.headers)
    for name, text in (("script-src", SCRIPT), ("style-src", STYLE)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert told[name] == f"'sha256-{digest}'"
    assert told["default-src"] == told["form-action"] == told["base-uri"] == "'none'"
    assert told["img-src"] == "data: blob:"


def test_another_script_has_another_hash() -> None:
    assert policy(SOURCE) != policy(SOURCE.replace('"use strict";', '"use strict"; '))


def test_nothing_in_it_asks_another_host() -> None:
    hosts = set(re.findall(r"//([\w-]+(?:\.[\w-]+)+)", SOURCE))
    assert hosts == {"www.w3.org"}
    assert re.findall(r"\b(?:src|href)=\"(?!#|data:)[^\"]*\"|@import|url\(", SOURCE) == []


def test_no_text_becomes_markup() -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\b|Function\("
    assert re.findall(sinks, SCRIPT) == []
    assert re.findall(r"<[^>]+\s(?:on\w+|style)=", SOURCE) == []  # nor would the policy run it


def test_it_is_one_small_file_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]
    assert data["mlx_diffgemma.serve.page"] == ["page.html"]
    assert len(PAGE.body) < 64_000


# --- what it shows

COLOURS = {
    name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
READ_ON = {
    "text": ("page", "card", "said", "code", "hole"),
    "faint": ("page", "card", "code"),
    "accent": ("page", "card"),
    "on-accent": ("accent",),
    "card": ("text",),
    "alarm": ("page", "card"),
    **{f"c{level}": ("card",) for level in range(len(CERTAINTIES))},
}
"""Colours of text, and the grounds that it stands on."""


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_all_text_can_be_read(scheme: int) -> None:
    for name, grounds in READ_ON.items():
        for ground in grounds:
            ratio = contrast(COLOURS[name][scheme], COLOURS[ground][scheme])
            assert ratio >= 4.5, (name, ground, ratio)
    for ground in ("page", "card"):
        assert contrast(COLOURS["edge"][scheme], COLOURS[ground][scheme]) >= 3
        assert contrast(COLOURS["accent"][scheme], COLOURS[ground][scheme]) >= 3


def test_every_colour_is_one_that_is_looked_at() -> None:
    used = {*READ_ON, *(ground for grounds in READ_ON.values() for ground in grounds)}
    assert set(COLOURS) == used | {"edge", "line"}  # lines part what can be told apart without


def test_certainty_has_the_colours_that_it_has_elsewhere() -> None:
    for number, level in enumerate(CERTAINTIES):
        assert COLOURS[f"c{number}"] == [level.on_light, level.on_dark]
    assert COLOURS["card"] == [LIGHT.back, DARK.back]
    assert COLOURS["text"] == [LIGHT.text, DARK.text]


def test_runs_have_the_classes_of_a_scene() -> None:
    (known,) = re.findall(r"CLASSES = new Set\((.*)\);", SCRIPT)
    levels = [f"c{level}" for level in range(len(CERTAINTIES))]
    kinds = [scene.ACCEPTED, scene.CHANGED, scene.THOUGHT, scene.FAINT]
    assert json.loads(known) == [*levels, *kinds]
    assert all(
        re.search(rf"^\s*\.{kind} \{{|\}} \.{kind} \{{", STYLE, re.M) for kind in levels + kinds
    )
    (labels,) = re.findall(r"LEVELS = (.*);", SCRIPT)
    assert json.loads(labels) == [level.label for level in CERTAINTIES]


def test_an_image_may_be_as_large_as_the_server_takes_it() -> None:
    (most,) = re.findall(r"MOST_MIB = (\d+);", SCRIPT)
    assert int(most) << 20 == MOST_IMAGE_BYTES


# --- its script, run where there is a JavaScript engine

STAGE = """
class Node {
  constructor(tag) { this.tagName = tag.toUpperCase(); this.traits = {}; this.childNodes = []; }
  setAttribute(name, value) { this.traits[name] = String(value); }
  addEventListener() {}
  append(...added) { this.childNodes.push(...added.flatMap((each) => each ?? [])); }
}
const window = { get sessionStorage() { throw new Error("forbidden"); } };
const document = { createElement: (tag) => new Node(tag) };
SCRIPT
const told = (node) => typeof node === "string" ? node
  : [node.tagName.toLowerCase(), ...Object.values(node.traits), ...inside(node.childNodes)];
const inside = (nodes) => nodes.map(told).filter((each) => each !== "").reduce((all, each) =>
  typeof each === "string" && typeof all.at(-1) === "string" && all.length
    ? [...all.slice(0, -1), all.at(-1) + each] : [...all, each], []);
console.log(JSON.stringify(RESULT));
"""


def evaluated(expression: str) -> Any:
    """The value of an expression of the script, as JSON; the page around it is not begun."""
    head, begun, _ = SCRIPT.partition("\ntheme(browser")
    assert begun
    stage = STAGE.replace("SCRIPT", head).replace("RESULT", expression)
    ran = subprocess.run(["node", "-e", stage], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


MARKDOWN: Sequence[tuple[str, list[Any]]] = (
    ("One\ntwo\n\nthree", [["p", "One\ntwo"], ["p", "three"]]),
    ("# A *b*", [["h3", "A ", ["em", "b"]]]),
    (
        "a **b _c_** `d*e*` f",
        [["p", "a ", ["strong", "b ", ["em", "c"]], " ", ["code", "d*e*"], " f"]],
    ),
    ("snake_case_name, 2 * 3 * 4, **", [["p", "snake_case_name, 2 * 3 * 4, **"]]),
    ("```py\n# x\n\n<b>\n```\nend", [["pre", ["code", "# x\n\n<b>"]], ["p", "end"]]),
    ("```\nopen", [["pre", ["code", "open"]]]),
    ("- a\n  - b\n- c", [["ul", ["li", "a", ["ul", ["li", "b"]]], ["li", "c"]]]),
    ("3. a\n\n   b\n4. c", [["ol", "3", ["li", "a", ["p", "b"]], ["li", "c"]]]),
    ("1. a\n\n1. b", [["ol", "1", ["li", "a"], ["li", "b"]]]),
    ("> a\n> b", [["blockquote", ["p", "a\nb"]]]),
    ("---\n***bold***", [["hr"], ["p", ["strong", ["em", "bold"]]]]),
    ("<script>alert(1)</script>", [["p", "<script>alert(1)</script>"]]),
    ("[x](javascript:alert(1))", [["p", "[x](javascript:alert(1))"]]),
    ("[x](data:text/html,hi)", [["p", ["span", "x (data:text/html,hi)"]]]),
    ("\\*no\\*", [["p", "*no*"]]),
    ("**x** **", [["p", ["strong", "x"], " **"]]),
    ("- a\n    ```\n    b\n      c\n    ```", [["ul", ["li", "a", ["pre", ["code", "b\n  c"]]]]]),
    (
        "So:\n| a | *b* |\n|:--|--:|\n| c \\| d | e | f |\n| g\nend",
        [
            ["p", "So:"],
            [
                "div",
                "table",
                [
                    "table",
                    ["thead", ["tr", ["th", "left", "a"], ["th", "right", ["em", "b"]]]],
                    [
                        "tbody",
                        ["tr", ["td", "left", "c | d"], ["td", "right", "e"]],
                        ["tr", ["td", "left", "g"], ["td", "right"]],
                    ],
                ],
            ],
            ["p", "end"],
        ],
    ),
    ("a | b\n\n| c |\n| - | - |", [["p", "a | b"], ["p", "| c |\n| - | - |"]]),
)


@needs_node
def test_markdown_becomes_nodes() -> None:
    texts = json.dumps([text for text, _ in MARKDOWN])
    found = evaluated(f"{texts}.map((text) => blocksOf(text).map(told))")
    assert found == [blocks for _, blocks in MARKDOWN]


@needs_node
def test_a_link_says_where_it_goes_and_tells_nobody_where_from() -> None:
    text = "[a](https://b.example/c) and http://d.example/e."
    ((_, first, _, second, end),) = evaluated(f"blocksOf({json.dumps(text)}).map(told)")
    apart = ["_blank", "noopener noreferrer nofollow"]
    assert first == ["a", *["https://b.example/c"] * 2, *apart, "a"]
    assert second[1] == second[-1] == "http://d.example/e"
    assert end == "."


@needs_node
@pytest.mark.parametrize(
    "text",
    [
        *("*" * 20_000, "[" * 20_000, "`" * 9_999 + "a", "> " * 9_999, "- " * 9_999),
        *("|" * 20_000 + "\n" + "|-" * 20_000, "|a\n" * 9_999, "|" + " " * 20_000 + "a\n|-|"),
    ],
)
def test_no_text_takes_long(text: str) -> None:
    assert evaluated(f"(blocksOf({json.dumps(text)}), process.uptime())") < 5


TEMPLATES = (
    "Dear [[4]], thank you for [[...]].",
    "[[1]][[2]]",
    "a \\[[12]] b \\\\[[12]] c",
    "[[year:[12][0-9]{3}]] and [[index:x\\[[0-9]\\]]]!",
    "[1] [[x]] [[...]",
)


@needs_node
def test_holes_are_where_the_server_sees_them() -> None:
    """Without a hole a text is refused there; the page marks nothing in it."""
    found = evaluated(f"{json.dumps(TEMPLATES)}.map(textsOf)")
    assert found[:-1] == [list(read_template(each).texts) for each in TEMPLATES[:-1]]
    assert found[-1] == [TEMPLATES[-1]]


@needs_node
def test_what_was_filled_is_marked() -> None:
    nodes = 'filledNodes("a [[1]], [[2]].", TEXT, HOLES).map(told).filter((each) => each !== "")'

    def marked(text: str, holes: Sequence[str] | None) -> Any:
        told = nodes.replace("TEXT", json.dumps(text)).replace("HOLES", json.dumps(holes))
        return evaluated(told)

    whole = ["a ", ["mark", "x, y"], ", ", ["mark", "z"], "."]
    assert marked("a x, y, z.", ["x, y", "z"]) == whole
    assert marked("a x, y.", None) == ["a ", ["mark", "x"], ", ", ["mark", "y"], "."]
    assert marked("a x", None) == ["a ", ["mark", "x"], ["mark"]]  # stopped in the middle
