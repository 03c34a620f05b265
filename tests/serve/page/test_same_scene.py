"""The terminal and the server's drafts show one scene for one seed, step by step."""

from collections.abc import Iterator

from rich.style import Style
from tiny_engines import tiny_engine

import mlx_diffgemma as dg
from mlx_diffgemma.cli.terminal.picture import DIM_STYLES, FAINT, TOKEN_STYLES, token_styles
from mlx_diffgemma.cli.terminal.view import _scene
from mlx_diffgemma.conversation.scene import Drawn, Run
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.serve.asked import Chat
from mlx_diffgemma.serve.events import Draft

Seen = list[tuple[str, frozenset[str]]]
"""Characters as they are seen, each with its classes."""


def kinds(style: Style) -> frozenset[str]:
    """The classes that a style of the terminal shows."""
    if style == FAINT:
        return frozenset({"f"})
    thought = style in DIM_STYLES
    code = (DIM_STYLES if thought else TOKEN_STYLES).index(style)
    told = {"a": code // 5 % 2, "u": code // 10, "t": thought}
    return frozenset({f"c{code % 5}", *(kind for kind, holds in told.items() if holds)})


def in_terminal(drawn: Drawn) -> Seen:
    pairs = zip(drawn.pieces, token_styles(drawn), strict=True)
    return [(character, kinds(style)) for piece, style in pairs for character in piece]


def in_page(runs: tuple[Run, ...]) -> Seen:
    return [(character, frozenset(classes.split())) for text, classes in runs for character in text]


def terminals_steps(question: str, settings: Settings) -> Iterator[Seen]:
    turn = dg.load("tiny-chat").turn(question, settings=settings)
    turn.watched = True
    scene = _scene(turn)
    for frame in turn:
        scene.take(frame)
        if snapshot := scene.snapshot():
            yield in_terminal(snapshot.drawn)


def test_the_terminal_and_the_page_show_the_same() -> None:
    question = "Count from 12 to 40."
    settings = Settings(seed=11, max_tokens=128)
    engine = tiny_engine("tiny-chat")
    messages = ({"role": "user", "content": question},)
    asked = Chat(messages=messages, settings=settings, drafts=True)
    events = engine.answer(engine.prepare(asked), lambda: False)
    drafts = [event for event in events if isinstance(event, Draft)]
    steps = list(terminals_steps(question, settings))
    assert [in_page(draft.runs) for draft in drafts] == steps
    assert {draft.canvas for draft in drafts} == {0, 1}
    shown = {kind for step in steps for _, classes in step for kind in classes}
    assert {"c0", "c1", "c2", "a", "u"} <= shown
