"""The page in headless Chromium: asked, watched, stopped, reloaded, seen narrow and dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
from asking import Open, ask, chats, rest
from browser import CHROMIUM, DRIVER, ENTER, ESCAPE, MISSING, Browser
from drafting import ANSWER, THOUGHT, settling_engine
from scripted import FACTS, ScriptedEngine, Step, done, said
from tiny_engines import tiny_engine
from waiting import wait_for

import mlx_diffgemma as dg
from mlx_diffgemma.cli.terminal.scene import Scene
from mlx_diffgemma.conversation.parts import turn_reader
from mlx_diffgemma.conversation.scene import Run
from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.events import Text
from mlx_diffgemma.serve.http.host import Access
from mlx_diffgemma.serve.refusal import Refusal

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING),
]

FIRST, SECOND = ANSWER.split("1. ")[0].replace("**", "").strip(), "hours, since the moon moves on"


def test_an_answer_settles_and_becomes_text(window: Browser, open_page: Open) -> None:
    server = open_page(settling_engine(0.05))
    window.wait(lambda: window.text("#model") == "scripted")
    ask(window, "How do tides come about?")
    window.wait(lambda: "accepted" in window.text(".answer .where"))
    place, legend = window.text(".answer .where"), window.text(".answer .legend")
    assert place.startswith("canvas 1 · step ")
    assert place.endswith(" nats")
    assert " of 256 accepted " in place
    assert legend.split() == ["nats:", "<0.05", "<0.3", "<1", "<3", "more", "accepted", "changed"]
    window.wait(lambda: window.text(".answer .prose") == FIRST)  # in its place, over the next
    rest(window)
    drafts = window.run("return seen")
    assert len(set(drafts)) >= 10
    drawn = " ".join(drafts)
    assert all(f'class="{kinds}"' in drawn for kinds in ("c4 u", "c0 a", "c0 a u"))
    assert SECOND in window.text(".answer .prose pre code")
    assert window.count(".answer .prose ol > li") == 3
    assert window.text(".answer .prose strong") == "moon"
    assert window.count(".answer .canvas") == 0
    facts = "137 tokens · 24 steps · 5.7 tokens/step · 2.4 s · 57 tokens/s"
    assert window.text(".answer .facts") == facts
    assert window.text("#context") == "context 149/2048"
    assert window.errors() == []
    own = [url for url in window.asked() if not url.startswith(("data:", "chrome:"))]
    assert own
    assert {url.partition("/v1/")[0].rstrip("/") for url in own} <= {server.url}


def test_each_draft_on_the_page_is_a_step_of_the_terminal(window: Browser, open_page: Open) -> None:
    question, seed = "Tell me a story about an owl", 12
    turn = dg.load("tiny-chat").turn(question, seed=seed)
    turn.watched = True
    scene, steps = Scene(turn_reader(turn), 48), list[str]()
    for frame in turn:
        scene.take(frame)
        if snapshot := scene.snapshot():
            steps.append("".join(map(span, snapshot.drawn.runs())))
    open_page(tiny_engine("tiny-chat"))
    window.click("#more")
    window.type("#seed", str(seed))
    ask(window, question)
    rest(window)
    seen = window.run("return seen")
    assert len(seen) >= 10
    places = [steps.index(draft) for draft in seen]
    assert places == sorted(places)
    assert window.text(".answer .prose") == turn.reply().text
    assert window.errors() == []


def span(run: Run) -> str:
    text, classes = run
    return f'<span class="{classes}">{escape(text, quote=False)}</span>'


def test_text_is_read_out_once_it_stays(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(0.05))
    ask(window, "How?")
    window.wait(lambda: "accepted" in window.text(".answer .where"))
    assert window.run("return document.querySelector('#spoken').textContent") == ""
    assert window.count(".answer .canvas .text[aria-hidden=true]") == 1
    rest(window)
    assert SECOND in window.run("return document.querySelector('#spoken').textContent")


def test_stop_leaves_what_came(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.08)
    open_page(engine)
    ask(window, "How?")
    window.wait(lambda: window.text(".answer .prose") == FIRST)
    window.wait(lambda: "canvas 2" in window.text(".answer .where"))
    ask(window, "And")  # Enter stops nothing, and what was typed waits
    assert window.count("body.busy") == 1
    window.press(ESCAPE)
    rest(window)
    wait_for(lambda: engine.cancelled == 1)
    assert window.text(".answer .prose") == FIRST
    assert window.text(".answer .facts") == "stopped"
    assert window.count(".answer .canvas:not(.live) .text span") > 1  # the draft as it stood
    ask(window, " now?")
    window.wait(lambda: len(engine.asked) == 2)
    window.click("#send")
    rest(window)
    assert chats(engine)[1].messages[-1]["content"] == "And now?"
    told = [(turn["role"], turn["content"]) for turn in chats(engine)[1].messages]
    assert [role for role, _ in told] == ["user", "assistant", "user"]
    assert told[1][1].startswith("The **moon**")


def test_a_question_without_an_answer_is_not_asked_twice(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.3)
    open_page(engine)
    ask(window, "First?")
    window.wait(lambda: len(engine.asked) == 1)
    window.press(ESCAPE)
    rest(window)
    ask(window, "Second?")
    window.wait(lambda: len(engine.asked) == 2)
    window.press(ESCAPE)
    rest(window)
    assert [turn["content"] for turn in chats(engine)[1].messages] == ["Second?"]


def test_holes_are_filled_and_marked(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.03)
    open_page(engine)
    window.click("#fill-tab")
    window.type("#template", "Dear [[4]],\nthank you for [[...]].")
    window.type("#wish", f"A letter{ENTER}")
    window.wait(lambda: " accepted " in window.text("#result .where"))
    assert " of 256 " not in window.text("#result .where")  # most of a canvas may be pinned
    rest(window)
    assert len(set(window.run("return seen"))) >= 2
    assert window.text("#filled") == "Dear hole 1,\nthank you for hole 2."
    marks = "return [...document.querySelectorAll('mark')].map((each) => each.textContent)"
    assert window.run(marks) == ["hole 1", "hole 2"]
    assert vars(engine.asked[0])["prompt"] == "A letter"
    window.open(window.run("return location.href"))
    window.click("#fill-tab")
    assert window.run("return document.querySelector('#template').value").startswith("Dear [[4]]")
    assert window.errors() == []


def test_a_picture_is_read(window: Browser, open_page: Open) -> None:
    open_page(tiny_engine("tiny-sudoku"))
    window.wait(lambda: window.count("#choose:not([hidden])") == 1)
    window.type("#file", str(ROOT / "docs/examples/sudoku.png"))
    window.wait(lambda: window.count("#given img") == 1)
    ask(window, "")
    rest(window)
    assert window.text(".answer .prose").startswith("417368295\n256749831\n")
    assert len(set(window.run("return seen"))) >= 2
    window.open(window.run("return location.href"))
    assert window.run("return document.querySelector('.user img').naturalWidth") > 100
    assert window.errors() == []


def test_a_model_that_sees_nothing_takes_no_picture(window: Browser, open_page: Open) -> None:
    open_page(settling_engine())
    window.wait(lambda: window.text("#model") == "scripted")
    assert window.count("#choose[hidden]") == 1
    window.type("#file", str(ROOT / "docs/examples/sudoku.png"))
    window.wait(lambda: window.text("#notice") == "This model reads no images.")
    assert window.count("#given img") == 0


@pytest.mark.parametrize("when", ["behind an answer", "in the middle"])
def test_a_reload_keeps_the_conversation(window: Browser, open_page: Open, when: str) -> None:
    server = open_page(settling_engine(0.01 if when == "behind an answer" else 0.2))
    ask(window, "How?")
    window.wait(lambda: FIRST in window.text(".answer .prose"))
    if when == "behind an answer":
        rest(window)
    window.open(server.url)
    assert window.text(".user .bubble") == "How?"
    assert window.text(".answer .prose").startswith(FIRST)
    assert ("stopped" in window.text(".answer .facts")) == (when == "in the middle")
    window.click("#new")
    assert window.count(".turn") == 0
    window.open(server.url)
    assert window.count(".turn") == 0
    assert window.count("#welcome") == 1


def test_a_key_is_asked_for_and_kept(window: Browser, open_page: Open) -> None:
    server = open_page(settling_engine(), access=Access(key=b"open-sesame"))
    window.wait(lambda: window.count("#gate[open]") == 1)
    assert "kept in this tab" in window.text("#gate")
    window.type("#key", f"wrong{ENTER}")
    window.wait(lambda: "That was not it" in window.text("#gate"))
    window.type("#key", f"open-sesame{ENTER}")
    window.wait(lambda: window.text("#model") == "scripted")
    ask(window, "How?")
    rest(window)
    assert FIRST in window.text(".answer")
    window.open(server.url)
    window.wait(lambda: window.text("#model") == "scripted")
    assert window.count("#gate[open]") == 0
    assert len(window.errors()) == 2  # the two replies of status 401, which Chromium itself tells


def test_who_has_no_key_can_go_on_looking(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(), access=Access(key=b"open-sesame"))
    window.wait(lambda: window.count("#gate[open]") == 1)
    window.press(ESCAPE)
    window.wait(lambda: "asks for a key" in window.text("#model"))


def test_what_the_server_refuses_is_told_in_a_line(window: Browser, open_page: Open) -> None:
    full = Refusal("full", "8 answers wait already.", retry_after=3)
    before = iter([full, None, None])
    meanwhile: Iterator[list[Step]] = iter(
        [
            [Refusal("context", "the prompt has 9 tokens, the context 8.")],
            [Text("Half of"), RuntimeError("a bug")],
        ]
    )

    class Refusing(ScriptedEngine):
        def prepare(self, asked: Asked) -> Asked:
            if refusal := next(before):
                raise refusal
            return asked

    open_page(Refusing(lambda asked: next(meanwhile)))
    told = []
    for _ in range(3):
        ask(window, "How?")
        rest(window)
        told.append(
            window.run("return [...document.querySelectorAll('.alarm')].at(-1).textContent")
        )
    assert told[0] == "8 answers wait already. Try again in 3 s."
    assert told[1] == (
        "the prompt has 9 tokens, the context 8. "
        "Begin a new conversation, or edit an earlier question."
    )
    assert told[2]
    assert "a bug" not in told[2]
    assert "Half of" in window.text("#turns")


def test_a_server_that_goes_away_is_told(window: Browser, open_page: Open) -> None:
    server = open_page(settling_engine(0.2))
    ask(window, "How?")
    window.wait(lambda: "accepted" in window.text(".answer .where"))
    server.worker.stop(now=True)
    server.server.should_exit = True
    rest(window)
    assert window.text(".alarm")
    ask(window, "Again?")
    rest(window)
    last = window.run("return [...document.querySelectorAll('.alarm')].at(-1).textContent")
    assert last.startswith("The server does not answer.")


MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script> [a](javascript:alert(3))"


def test_markup_of_a_model_is_text(window: Browser, open_page: Open) -> None:
    open_page(ScriptedEngine(said(MARKUP)))
    ask(window, MARKUP)
    rest(window)
    assert window.text(".answer .prose").startswith("<img src=x onerror=alert(1)><script>")
    assert window.text(".user .bubble") == MARKUP
    assert window.count("#turns img, #turns script, #turns a") == 0
    assert window.errors() == []


def test_a_thought_is_folded(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    open_page(engine)
    window.click("#more")
    window.click("#think")
    ask(window, "How?")
    rest(window)
    assert chats(engine)[0].think is True
    assert window.text(".thought") == "Thought"
    window.click(".thought summary")
    assert THOUGHT in window.text(".thought")


def test_a_seed_is_taken_again_and_options_stay(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    server = open_page(engine)
    ask(window, "How?")
    rest(window)
    assert engine.asked[0].settings.seed is None
    window.click(".answer .seed")
    assert window.count("#options:not([hidden])") == 1
    window.run("document.querySelector('#mode').value = 'auto'")
    buttons = "[...document.querySelectorAll('.answer button')]"
    window.run(f"{buttons}.find((each) => each.textContent === 'Retry').click()")
    rest(window)
    assert engine.asked[1].settings.seed == 7
    assert engine.asked[1].settings.mode == "auto"
    assert window.count(".turn") == 2
    window.open(server.url)
    assert window.run("return document.querySelector('#seed').value") == "7"
    window.type("#seed", "x")
    ask(window, "Again?")
    rest(window)
    assert "expected a whole number" in window.text(".alarm")
    assert len(engine.asked) == 2


def test_an_earlier_question_is_edited(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    open_page(engine)
    for question in ("One?", "Two?"):
        ask(window, question)
        rest(window)
    window.run("document.querySelector('.user button').click()")
    assert window.run("return document.querySelector('#ask').value") == "One?"
    ask(window, " Or more?")
    rest(window)
    assert [turn["content"] for turn in chats(engine)[-1].messages] == ["One? Or more?"]
    assert window.count(".turn") == 2


def test_shift_and_enter_begin_a_line(window: Browser, open_page: Open) -> None:
    engine = settling_engine(0.01)
    open_page(engine)
    window.type("#ask", "one\ue008\ue007\ue008two")
    window.press(ENTER)
    rest(window)
    assert chats(engine)[0].messages[0]["content"] == "one\ntwo"


LONG = f"{'x' * 300} `{'y' * 300}`\n\n```\n{'z' * 300}\n```\n- {'w' * 300}\n"


@pytest.mark.parametrize("width", [360, 320])
def test_a_narrow_page_scrolls_down_alone(window: Browser, open_page: Open, width: int) -> None:
    open_page(ScriptedEngine([*said(LONG)[:-1], done(warnings=("v" * 300,))], FACTS))
    window.size(width, 640)
    wide = "return document.scrollingElement.scrollWidth - innerWidth"
    assert window.run(wide) <= 0
    window.click("#more")
    ask(window, "u" * 300)
    rest(window)
    assert window.run(wide) <= 0
    window.click("#fill-tab")
    assert window.run(wide) <= 0
    small = (
        "return [...document.querySelectorAll('button, input, select, textarea')]"
        ".filter((each) => each.offsetParent && each.getBoundingClientRect().height < 24)"
        ".map((each) => each.outerHTML)"
    )
    assert window.run(small) == []  # of what is pressed


def test_it_is_dark_where_the_system_is_or_where_one_says_so(
    window: Browser, open_page: Open
) -> None:
    open_page(settling_engine())
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = window.run(ground)
    window.prefer(prefers_color_scheme="dark")
    dark = window.run(ground)
    assert (light, dark) == ("rgb(247, 247, 245)", "rgb(22, 22, 22)")
    seen = []
    for _ in range(3):
        window.click("#theme")
        seen.append(window.run(ground))
    assert seen == [light, dark, dark]  # light, dark, as the system
    window.click("#theme")
    window.open(window.run("return location.href"))
    assert window.run(ground) == light


def test_nothing_moves_for_those_who_want_that(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(0.05))
    moving = "return document.getAnimations().filter((each) => each instanceof CSSAnimation).length"
    ask(window, "How?")
    window.wait(lambda: window.run(moving) > 0)
    window.prefer(prefers_reduced_motion="reduce")
    window.wait(lambda: "canvas 2" in window.text(".answer .where"))
    assert window.run(moving) == 0


def test_one_who_asks_at_once_is_asked_for_the_key_once(window: Browser, open_page: Open) -> None:
    open_page(settling_engine(0.01), access=Access(key=b"open-sesame"))
    window.run("document.querySelector('#ask').value = 'How?'")
    window.run("document.querySelector('#composer').requestSubmit()")
    window.wait(lambda: window.count("#gate[open]") == 1)
    window.type("#key", f"open-sesame{ENTER}")
    window.wait(lambda: FIRST in window.text(".answer"))
    window.wait(lambda: window.text("#model") == "scripted")


@pytest.mark.parametrize(
    "event",
    [
        'new DragEvent("drop", { dataTransfer: data, bubbles: true })',
        'new ClipboardEvent("paste", { clipboardData: data, bubbles: true })',
    ],
    ids=["drop", "paste"],
)
def test_a_picture_is_dropped_or_pasted_and_left_out_again(
    window: Browser, open_page: Open, event: str
) -> None:
    engine = settling_engine(0.01, sees=True)
    open_page(engine)
    window.wait(lambda: window.count("#choose:not([hidden])") == 1)
    files = "const data = new DataTransfer();" + "".join(
        f'data.items.add(new File(["{name}"], "{name}", {{ type: "{kind}" }}));'
        for name, kind in (("a", "image/png"), ("b", "text/plain"), ("c", "image/webp"))
    )
    window.run(f"{files} document.body.dispatchEvent({event})")
    window.wait(lambda: window.count("#given img") == 2)
    window.click("#given figure:last-child button")
    assert window.count("#given img") == 1
    ask(window, "What is this?")
    rest(window)
    (asked,) = chats(engine)
    assert asked.images == (b"a",)
    assert [part["type"] for part in asked.messages[0]["content"]] == ["image", "text"]
