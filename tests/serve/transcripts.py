"""What a scripted answer looks like on the wire: the streams that are compared byte for byte.

`scripts/make_transcripts.py` writes them to `golden/` beside the tests of a dialect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scripted import done

from mlx_diffgemma.conversation.form import Wanted
from mlx_diffgemma.serve.asked import Asked, Chat
from mlx_diffgemma.serve.dialects.dialect import Dialect, Encoder, Envelope
from mlx_diffgemma.serve.events import (
    Answer,
    Begun,
    Call,
    Draft,
    Event,
    Failed,
    Text,
    Thought,
    Usage,
)
from mlx_diffgemma.serve.refusal import Refusal

PING = "ping"
ENVELOPE = Envelope("0a1b2c", 1_764_000_000, "tiny-chat")
HERE = Path(__file__).parent / "dialects"

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
QUESTION = Chat(messages=({"role": "user", "content": "Hello?"},), stream=True)
WITH_TOOLS = replace(QUESTION, wanted=Wanted(tools=(WEATHER,)))
EITHER = replace(QUESTION, wanted=Wanted(schema=SCHEMA, tools=(WEATHER,)))
BEGUN = Begun(seed=7, prompt_tokens=12, cached_tokens=4)
USED = Usage(prompt=12, completion=9, cached=4, thought=3)

Step = Event | str
KINDS: Mapping[str, tuple[Asked, Sequence[Step]]] = {
    "plain": (QUESTION, [BEGUN, Text("Hello"), Text(" there: ü, 🙂 and\n\nlines."), done()]),
    "thought": (
        QUESTION,
        [BEGUN, Thought("2 and 2"), Thought(" is 4."), Text("4."), done(usage=USED)],
    ),
    "tools": (
        WITH_TOOLS,
        [
            BEGUN,
            Text("I will look."),
            Call("k1", "weather", {"city": "Paris"}),
            done("tool_calls", warnings=("a comma was missing.",)),
        ],
    ),
    "parallel": (
        WITH_TOOLS,
        [
            BEGUN,
            Thought("Two cities."),
            Call("k1", "weather", {"city": "Paris"}),
            Call("k2", "weather", {"city": "Zürich", "days": [1, 2], "at": {"hour": None}}),
            done("tool_calls", usage=USED),
        ],
    ),
    "after": (
        WITH_TOOLS,
        [BEGUN, Text("One."), Call("k1", "weather", {}), Text("Two."), done("tool_calls")],
    ),
    "length": (QUESTION, [BEGUN, Text("It was a"), done("length")]),
    "thinking": (QUESTION, [BEGUN, Thought("It is a"), done("length", usage=USED)]),
    "stopped": (QUESTION, [BEGUN, Text("one, two"), done("stop_text", stop=", three")]),
    "empty": (QUESTION, [BEGUN, Text(""), Thought(""), done()]),
    "failure": (
        QUESTION,
        [BEGUN, Text("It was a"), Failed(Refusal("internal", "the weights are not finite."))],
    ),
    "refused": (QUESTION, [Failed(Refusal("full", "8 wait already.", retry_after=1))]),
    "form": (
        replace(QUESTION, wanted=Wanted(schema=SCHEMA)),
        [BEGUN, Text('{"name": '), Text('"Fay"}'), done()],
    ),
    "form_beside_tools": (
        EITHER,
        [BEGUN, Thought("Fay."), Text('{"name": '), Text('"Fay"}'), done(usage=USED)],
    ),
    "called_beside_form": (
        EITHER,
        [BEGUN, Thought("Paris."), Call("k1", "weather", {"city": "Paris"}), done("tool_calls")],
    ),
    "drafts": (
        replace(QUESTION, drafts=True),
        [
            BEGUN,
            Draft("Hxllo", 0, 1, 48, 3, 1.25, (("H", "c4 a"), ("x", "c0 u"), ("llo", "c3"))),
            Draft("Hello", 0, 2, 48, 64, 0.5, (("Hello", "c4 a"),)),
            Text("Hello"),
            done(),
        ],
    ),
    "undrafted": (
        QUESTION,
        [BEGUN, Draft("Hxllo", 0, 1, 48, 3, 1.25), Text("Hello"), done()],
    ),
    "pinged": (QUESTION, [PING, BEGUN, PING, Text("Hello"), PING, Text("."), done()]),
}
"""Each kind of stream: a question, and the events of its answer with the pings between them."""


def transcript(dialect: Dialect, kind: str) -> str:
    """All that is sent for a kind of stream."""
    return streamed(dialect, *KINDS[kind])


def streamed(dialect: Dialect, asked: Asked, steps: Sequence[Step]) -> str:
    """All that is sent for the events of an answer, with pings between them."""
    encoder = dialect.encoder(ENVELOPE, asked)
    return "".join([*encoder.opening(), *(text for step in steps for text in _sent(encoder, step))])


def _sent(encoder: Encoder, step: Step) -> list[str]:
    return [encoder.ping()] if isinstance(step, str) else list(encoder.encode(step))


def answered(kind: str) -> Answer:
    """The whole answer of a kind of stream."""
    return whole(KINDS[kind][1])


def whole(steps: Sequence[Step]) -> Answer:
    """The whole answer of events."""
    answer = Answer()
    for step in steps:
        if not isinstance(step, str):
            answer.take(step)
    return answer


def stored(name: str, kind: str) -> Path:
    """The file of a stream; name: of the dialect's folder of tests."""
    return HERE / name / "golden" / f"{kind}.sse"
