"""The engine of several Macs, with nobody behind the way to the others."""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from loaded_engines import CHAT, chat, engine_of, never

from mlx_diffgemma.conversation.form import Wanted
from mlx_diffgemma.decide.request import read_request
from mlx_diffgemma.errors import FitError, NumericsError, PromptError, ShareError
from mlx_diffgemma.serve.asked import Asked, Completion, Infill
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.engine.together import Leading, follow, is_alike
from mlx_diffgemma.serve.engine.told import asked_of, request_of, told_question, told_request
from mlx_diffgemma.serve.events import Failed, Text
from mlx_diffgemma.serve.refusal import Refusal
from mlx_diffgemma.share.jobs import Job, Jobs
from mlx_diffgemma.share.part import Part
from mlx_diffgemma.share.share import Share
from mlx_diffgemma.text.holes import read_template

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


class Written:
    """Jobs that are written down, and that nobody else does."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def tell(self, job: Job) -> None:
        self.jobs.append(json.loads(json.dumps(job)))

    def beat(self) -> None:
        self.jobs.append(None)

    def agreed(self, wanted: Callable[[], bool]) -> Callable[[], bool]:
        return wanted

    def wants_end(self, wanted: bool = False) -> bool:
        return wanted

    def hear(self) -> Iterator[Job]:
        yield from self.jobs


@pytest.fixture(scope="module")
def engine() -> LoadedEngine:
    return engine_of(CHAT)


def leading(engine: LoadedEngine, lost: list[BaseException]) -> tuple[Leading, Written]:
    jobs = Written()
    return Leading(engine, Part(Share(0, 2)), cast(Jobs, jobs), lost.append), jobs


@pytest.mark.parametrize(
    "asked",
    [
        chat("What is 17 + 25?", drafts=True, think=True, stop=("x",)),
        chat("Name one.", wanted=Wanted(schema=SCHEMA)),
        chat("What time is it?", wanted=Wanted(tools=(TOOL,), tool_choice="now")),
        Completion(prompt="The sky is"),
        Infill(template=read_template("In [[year:[0-9]{4}]] or [[4]]."), hole_only=True),
    ],
)
def test_a_question_is_told_with_its_seed(engine: LoadedEngine, asked: Asked) -> None:
    """Another Mac makes the same prompt and the same form of it."""
    ready = engine.prepare(asked)
    told = asked_of(json.loads(json.dumps(told_question(ready))))
    assert type(told) is type(asked)
    again = engine.prepare(told).question.checked
    assert again.asked.ids == ready.question.checked.asked.ids
    assert again.settings == ready.question.checked.settings
    assert (told.drafts, getattr(told, "template", None)) == (
        asked.drafts,
        getattr(asked, "template", None),
    )


def test_a_request_is_told_whole() -> None:
    body = {
        "state": {"a": 1},
        "questions": {
            "b": {"type": "noul", "instructions": "Is it?", "criteria": {"true": "yes"}},
            "c": {"type": "choice", "criteria": {"x": None, "y": "why"}, "ask_if": {"b": ["yes"]}},
            "d": {"type": "score", "criteria": ["low", "high"], "depends_on": ["b"]},
        },
        "samples": 2,
        "model": "tiny-chat",
        "instructions": "Be strict.",
    }
    request = read_request(body)
    assert request_of(json.loads(json.dumps(told_request(request)))) == request


def test_an_answer_that_is_given_up_goes_on_until_all_end_it(engine: LoadedEngine) -> None:
    lost: list[BaseException] = []
    (leader, jobs), steps = leading(engine, lost), engine.done.steps
    events = leader.answer(leader.prepare(chat("What is 17 + 25?")), never)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert engine.done.steps == steps  # it was at the next look
    assert [job["do"] for job in jobs.jobs] == ["answer"]
    assert any(isinstance(e, Text) for e in leader.answer(leader.prepare(chat("Hi")), never))
    assert engine.done.steps > steps
    assert not lost
    leader.beat()
    leader.end()
    assert jobs.jobs[2:] == [None, {"do": "end"}]


def test_an_error_of_the_question_alone_ends_nothing(engine: LoadedEngine) -> None:
    assert is_alike(PromptError("x"))
    refusal = Refusal("context", "x")
    refusal.__cause__ = FitError("no room")
    assert is_alike(refusal)
    assert not is_alike(ShareError("gone", lost=True))
    refusal.__cause__ = MemoryError()
    assert not is_alike(refusal)
    with pytest.raises(Refusal, match="auto"):
        leading(engine, [])[0].prepare(chat("Hi", mode="auto"))


def broken(engine: LoadedEngine, error: Exception) -> LoadedEngine:
    """The engine, whose answers end with an error behind their first event."""

    def answer(prepared: Any, *_: Any) -> Iterator[Any]:
        yield Text("a")
        refusal = Refusal("internal", "x")
        refusal.__cause__ = error
        yield Failed(refusal)

    made = engine_of(CHAT)
    made.answer = answer  # type: ignore[method-assign]
    return made


def test_a_lost_mac_is_told_to_the_client_and_ends_all(engine: LoadedEngine) -> None:
    error, lost = ShareError("rank 1 is gone", lost=True), list[BaseException]()
    leader, jobs = leading(broken(engine, error), lost)
    events = leader.answer(leader.prepare(chat("Hi")), never)
    assert [type(event) for event in (next(events), next(events))] == [Text, Failed]
    with pytest.raises(ShareError):
        next(events)
    assert lost == [error]
    with pytest.raises(Refusal, match="stopping"):
        leader.decide(
            read_request({"state": "x", "questions": {"a": {"type": "noul", "instructions": "?"}}}),
            never,
        )
    leader.end()
    assert len(jobs.jobs) == 1


def test_who_follows_goes_on_behind_what_all_find_and_ends_with_the_rest(
    engine: LoadedEngine,
) -> None:
    told, jobs = told_question(engine.prepare(chat("Hi"))), Written()
    jobs.tell(told)
    follow(broken(engine, NumericsError("not finite")), cast(Jobs, jobs))
    with pytest.raises(ShareError):
        follow(broken(engine, ShareError("gone", lost=True)), cast(Jobs, jobs))
    jobs.wants_end = lambda wanted=False: True  # type: ignore[method-assign]
    follow(engine, cast(Jobs, jobs))  # given up at the first look
    with pytest.raises(Cancellation):
        list(engine.answer(engine.prepare(chat("Hi")), lambda: True))


def test_who_cannot_prepare_what_rank_0_could_ends(engine: LoadedEngine) -> None:
    """Such as a schema that one Mac alone took too long to read: the others are going on."""
    jobs, other = Written(), engine_of(CHAT)
    jobs.tell(told_question(engine.prepare(chat("Hi"))))

    def prepare(asked: Any) -> Any:
        raise Refusal("invalid", "x") from NumericsError("slow")

    other.prepare = prepare  # type: ignore[method-assign]
    with pytest.raises(NumericsError, match="slow"):
        follow(other, cast(Jobs, jobs))
