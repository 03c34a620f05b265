"""Jobs that rank 0 gives, as tests of several ranks run them: a server's engine, and a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.cli.chat.talk import Request, Talk
from mlx_diffgemma.cli.chat.together import Others
from mlx_diffgemma.cli.chat.together import follow as follow_chat
from mlx_diffgemma.conversation.front import open_front
from mlx_diffgemma.conversation.loading import load
from mlx_diffgemma.decide.request import read_request
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.serve.asked import Asked, Chat, Completion, Infill
from mlx_diffgemma.serve.engine.engine import Cancellation, Engine, Facts
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.engine.together import Leading, follow
from mlx_diffgemma.serve.events import Answer, Begun, Done
from mlx_diffgemma.share.jobs import Jobs
from mlx_diffgemma.share.part import Cut, Part
from mlx_diffgemma.share.share import Share
from mlx_diffgemma.text.holes import read_template

NAME = "tiny-chat"


def served(share: Share, cut: Cut, questions: Sequence[Any]) -> list[Any]:
    """What an engine answers to questions, on rank 0; see `_answered`."""
    engine, jobs = _engine(share, cut), Jobs(share)
    if share.alone:
        return [_answered(engine, *question) for question in questions]
    if share.rank:
        follow(engine, jobs)
        return []
    leading = Leading(engine, Part(share, cut), jobs, _raise)
    leading.load()
    found = [_answered(leading, *question) for question in questions]
    leading.beat()
    leading.unload()
    leading.end()
    return found


def _raise(error: BaseException) -> None:
    raise error


def _engine(share: Share, cut: Cut) -> LoadedEngine:
    folder = embedded_folder(NAME)
    assert folder is not None
    front = open_front(folder, NAME)
    facts = Facts(NAME, front.context_length, front.config.canvas_length, 0, sees=False)
    return LoadedEngine(front, facts, lambda: load(NAME, share=share, cut=cut), key=lambda: "key")


def _answered(engine: Engine, kind: str, what: Any, options: Any, looks: int | None = None) -> Any:
    """The text, finish and cached tokens of an answer, or the answers of a decision.

    looks: after so many, nobody waits for it any more.
    """
    if kind == "decide":
        return engine.decide(read_request(what), lambda: False).to_json()
    answer, cached = Answer(), None
    try:
        for event in engine.answer(engine.prepare(_asked(kind, what, options)), _gone(looks)):
            answer.take(event)
            cached = event.cached_tokens if isinstance(event, Begun) else cached
            if isinstance(event, Done):
                return [answer.text, event.finish, event.usage.completion, cached]
    except Cancellation:
        return ["given up", cached]
    raise AssertionError("an answer ends")


def _asked(kind: str, what: Any, options: Any) -> Asked:
    settings = Settings(**{"seed": 1, **options})
    if kind == "chat":
        return Chat(settings, messages=tuple(what))
    if kind == "fill":
        return Infill(settings, template=read_template(what))
    return Completion(settings, prompt=what)


def _gone(looks: int | None) -> Callable[[], bool]:
    seen: Iterator[int] = iter(range(10**9))
    return lambda: looks is not None and next(seen) >= looks


# --- chat


def talked(share: Share, cut: Cut, lines: Sequence[Any]) -> list[Any]:
    """What is said in a chat, on rank 0: a command's name, and what it takes."""
    session = load(NAME, share=share, cut=cut)
    if share.rank:
        follow_chat(session, Jobs(share))
        return [[m.content for m in session.history], session.system]
    stop: list[bool] = []
    jobs = None if share.alone else Jobs(share)
    talk = Talk(session, Settings(seed=3), others=Others(jobs, lambda: bool(stop and stop.pop())))
    for name, *what in lines:
        _say(talk, stop, name, what)
        talk.others.rest()
    talk.others.end()
    return [[m.content for m in session.history], session.system]


def _say(talk: Talk, stop: list[bool], name: str, what: Sequence[Any]) -> None:
    if name in ("ask", "stop", "again", "more"):
        made = {"again": talk.again, "more": lambda *_: talk.more()}.get(name, talk.question)
        try:
            _answer(talk, made(*what[:1]), stop, what[1] if name == "stop" else None)
        except PromptError:
            assert what[0] == ""
    else:
        getattr(talk, name)(*what)


def _answer(talk: Talk, request: Request, stop: list[bool], frames: int | None) -> None:
    """Answer; after so many frames Ctrl-C comes."""
    turn = talk.turn(request, lambda done, total: None)
    try:
        for number, frame in enumerate(turn, 1):
            if number == frames:
                if not talk.others.there:
                    raise KeyboardInterrupt
                stop.append(True)
            talk.others.look_behind(frame)
    except KeyboardInterrupt:
        pass
    talk.keep(request, turn)
