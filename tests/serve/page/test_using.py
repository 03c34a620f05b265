"""The page in hasty hands, in other languages and on low screens, in headless Chromium."""

from __future__ import annotations

from dataclasses import replace

import pytest
from asking import Open, ask, chats, rest
from browser import CHROMIUM, DRIVER, ENTER, MISSING, Browser
from drafting import drafts_of, settling_engine
from scripted import FACTS, ScriptedEngine, Step, done, said

from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.events import Begun, Text, Usage
from mlx_diffgemma.serve.http.host import Access

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING),
]

CONTROL = "\ue009"
VISIBLE_RETRIES = """
return [...document.querySelectorAll(".again")].filter((each) => each.offsetParent)
  .map((each) => [...document.querySelectorAll(".turn")].indexOf(each.closest(".turn")));
"""


def test_only_the_last_answer_is_tried_again_and_none_beside_another(
    window: Browser, open_page: Open
) -> None:
    open_page(settling_engine(0.02))
    for question, last in (("One?", 1), ("Two?", 3)):
        ask(window, question)
        window.wait(lambda: "accepted" in window.text(".turn:last-child .where"))
        assert window.run(VISIBLE_RETRIES) == []
        rest(window)
        assert window.run(VISIBLE_RETRIES) == [last]


def test_a_key_that_comes_late_brings_the_model(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(0.01), access=Access(key=b"open-sesame"))
    window.wait(lambda: window.count("#gate[open]") == 1)
    window.type("#key", f"wrong{ENTER}")
    window.wait(lambda: "That was not it" in window.text("#gate"))
    window.run("document.querySelector('#gate').close()")  # as Esc does in some browsers
    window.wait(lambda: "asks for a key" in window.text("#model"))
    ask(window, "How?")
    window.wait(lambda: window.count("#gate[open]") == 1)
    window.type("#key", f"open-sesame{ENTER}")
    window.wait(lambda: window.text("#model") == "scripted")
    rest(window)


def test_another_model_behind_the_same_address_is_seen(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    open_page(engine)
    window.wait(lambda: window.text("#model") == "scripted")
    engine.facts = replace(engine.facts, name="another", sees=True)
    ask(window, "How?")
    window.wait(lambda: window.text("#model") == "another")
    assert window.count("#choose:not([hidden])") == 1


def test_a_question_that_was_not_sent_outlives_a_reload(window: Browser, open_page: Open) -> None:
    server = open_page(settling_engine())
    window.type("#ask", "Half a question")
    window.open(server.url)
    assert window.run("return document.querySelector('#ask').value") == "Half a question"


def test_last_words_without_a_full_stop_are_read_out(window: Browser, open_page: Open) -> None:
    open_page(ScriptedEngine(said("42")))
    ask(window, "What is 17 + 25?")
    rest(window)
    assert window.run("return document.querySelector('#spoken').textContent") == "42"


def test_the_enter_that_ends_a_composition_sends_nothing(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    open_page(engine)
    window.type("#ask", "にほん")
    for told in ("isComposing: true", "keyCode: 229"):  # the second is Safari's
        key = f'new KeyboardEvent("keydown", {{ key: "Enter", bubbles: true, {told} }})'
        window.run(f"document.querySelector('#ask').dispatchEvent({key})")
        assert window.count(".turn") == 0
    window.press(ENTER)
    rest(window)
    assert [chat.messages[0]["content"] for chat in chats(engine)] == ["にほん"]
    assert window.count(".turn") == 2


def test_control_and_enter_fill(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    open_page(engine)
    window.click("#fill-tab")
    window.type("#template", f"Dear [[4]].{CONTROL}{ENTER}")
    window.wait(lambda: window.text("#filled") == "Dear hole 1.")
    assert len(engine.asked) == 1


def test_what_is_wrong_with_a_text_to_fill_is_seen_as_an_error(
    window: Browser, open_page: Open
) -> None:
    open_page(settling_engine())
    window.click("#fill-tab")
    window.click("#run")
    window.wait(lambda: "expected a text with holes" in window.text("#result .alarm"))
    told = "return getComputedStyle(document.querySelector('#result .alarm')).color"
    assert window.run(told) == "rgb(176, 0, 56)"  # --alarm


def test_an_answer_without_a_word_says_so(window: Browser, open_page: Open) -> None:
    open_page(ScriptedEngine([Begun(7, 12, 0), done(usage=Usage(prompt=12, completion=1))]))
    ask(window, "<turn|>")
    rest(window)
    assert window.text(".answer .facts").startswith("an empty answer · 1 token · 3 steps · ")


def test_what_was_typed_comes_back_when_an_edit_is_given_up(
    window: Browser, open_page: Open
) -> None:
    open_page(settling_engine(0.01))
    ask(window, "One?")
    rest(window)
    window.type("#ask", "Half of two")
    value = "return document.querySelector('#ask').value"
    for _ in range(2):
        window.run("document.querySelector('.user button').click()")
        assert window.run(value) == "One?"
    window.click("#leave")
    assert window.run(value) == "Half of two"
    assert window.count("#editing[hidden]") == 1


def test_a_thought_that_was_opened_stays_open(window: Browser, open_page: Open) -> None:
    server = open_page(settling_engine(0.01))
    window.click("#more")
    window.click("#think")
    for question in ("One?", "Two?"):
        ask(window, question)
        rest(window)
        window.run("document.querySelector('.thought').open = true")
    window.open(server.url)
    opened = "return [...document.querySelectorAll('.thought')].map((each) => each.open)"
    assert window.run(opened) == [True, False]


# --- what is dropped and pasted

FILE = 'data.items.add(new File([new Uint8Array(%d)], "%s", { type: "%s" }));'
DROP = 'new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })'
PASTE = 'new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })'


def give(window: Browser, event: str, *items: str) -> bool:
    """Whether the page took what was dropped or pasted, so that the browser does nothing."""
    told = f"const data = new DataTransfer(); {' '.join(items)} const event = {event};"
    end = "document.querySelector('#ask').dispatchEvent(event); return event.defaultPrevented;"
    return bool(window.run(told + end))


def test_what_is_no_image_or_too_large_is_told(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(sees=True))
    window.wait(lambda: window.count("#choose:not([hidden])") == 1)
    window.click("#fill-tab")  # the images of a question are seen in the chat
    files = (
        (9, "a.png", "image/png"),
        (9, "b.pdf", "application/pdf"),
        (20 * 2**20 + 1, "c.jpg", "image/jpeg"),
    )
    assert give(window, DROP, *(FILE % each for each in files))
    window.wait(lambda: window.count("#given img") == 1)
    told = "b.pdf is no image. c.jpg is larger than 20 MiB; make it smaller."
    assert window.text("#notice") == told
    assert window.count("#notice[role=alert]") == 1
    window.type("#ask", f"What?{ENTER}")
    assert window.text("#notice") == ""


def test_text_is_dropped_and_pasted_as_text(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(sees=True))
    window.wait(lambda: window.count("#choose:not([hidden])") == 1)
    text = 'data.setData("text/plain", "hello");'
    picture = FILE % (9, "cells.png", "image/png")
    assert not give(window, DROP, text)
    assert not give(window, PASTE, text)
    assert not give(window, PASTE, text, 'data.setData("text/html", "<td>hello");', picture)
    assert give(window, PASTE, text, picture)  # a file of the Finder comes with its name
    window.wait(lambda: window.count("#given img") == 1)


def test_an_image_that_a_tab_cannot_keep_leaves_a_word(window: Browser, open_page: Open) -> None:
    server = open_page(settling_engine(0.01, sees=True))
    window.wait(lambda: window.count("#choose:not([hidden])") == 1)
    give(window, DROP, FILE % (9 * 2**20, "large.png", "image/png"))
    window.wait(lambda: window.count("#given img") == 1)
    ask(window, "")
    rest(window)
    window.open(server.url)
    assert window.text(".user .bubble") == "(an image)"


# --- what is seen

ARABIC = "مرحبا بالعالم.\n\n- واحد `f(a, b)`\n\n```\nprint(1)\n```\n\n"
ENGLISH = "In English.\n\n|a|b|\n|-|-:|\n|1|2|\n"


def test_each_block_has_the_direction_of_its_language(window: Browser, open_page: Open) -> None:
    open_page(ScriptedEngine(said(ARABIC, ENGLISH)))
    ask(window, "?")
    rest(window)
    told = (
        "return [...document.querySelectorAll('.prose > *, .prose code')]"
        ".map((each) => [each.tagName, getComputedStyle(each).direction])"
    )
    arabic = [["P", "rtl"], ["UL", "rtl"], ["CODE", "ltr"], ["PRE", "ltr"], ["CODE", "ltr"]]
    assert window.run(told) == [*arabic, ["P", "ltr"], ["DIV", "ltr"]]
    assert window.run("return document.querySelector('td + td').align") == "right"
    assert window.errors() == []


WORDS = " ".join(f"word{number}" for number in range(300)) + "\n\n"


def long_answer(asked: Asked) -> list[Step]:
    canvases = [[*drafts_of(WORDS, canvas, 0.05), Text(WORDS)] for canvas in range(4)]
    return [Begun(7, 12, 0), *(step for canvas in canvases for step in canvas), done()]


def test_it_scrolls_for_those_at_the_end_alone(window: Browser, open_page: Open) -> None:
    left = (
        "const it = document.scrollingElement; return it.scrollHeight - it.scrollTop - innerHeight"
    )
    open_page(ScriptedEngine(long_answer, FACTS))
    window.size(800, 600)
    ask(window, "How?")
    window.wait(lambda: window.text(".answer .where").startswith("canvas 2"))
    window.run("scrollTo(0, 50)")
    window.wait(lambda: window.text(".answer .where").startswith("canvas 3"))
    assert window.run("return scrollY") == 50
    window.run("scrollTo(0, 1e6)")
    rest(window)
    assert window.run(left) <= 1
    assert window.run("return scrollY") > 1000


def test_a_low_page_is_not_all_head_and_dock(window: Browser, open_page: Open) -> None:
    open_page(settling_engine())
    stuck = (
        "return [...document.querySelectorAll('header, .dock')]"
        ".map((each) => getComputedStyle(each).position)"
    )
    seen = []
    for height in (800, 400, 256):
        window.size(640, height)
        seen.append(window.run(stuck))
    assert seen == [["sticky", "sticky"], ["static", "sticky"], ["static", "static"]]
