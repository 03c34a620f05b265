"""Makers of questions for a tool: the call, the answer behind its result, or that there is none."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .example import CALL_END, Example, Message, asked, call, user
from .words import CITIES

NAMES = ("weather", "add", "timer")
ABOUT = {
    "weather": ("The weather of a city.", "Get the weather.", "Weather now."),
    "add": ("Add two numbers.", "Adds a and b.", "Sum of two numbers."),
    "timer": ("Set a timer.", "Start a timer.", "Timer in minutes."),
}
PARAMETERS = {
    "weather": {"city": ("string", "City name")},
    "add": {"a": ("integer", "First"), "b": ("integer", "Second")},
    "timer": {"minutes": ("integer", "Minutes")},
}
WEATHERS = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "stormy")


@dataclass(frozen=True)
class Wish:
    """What is asked of a tool, its result, and the sentences with it and without a tool."""

    question: str
    arguments: dict[str, str | int]
    result: str
    answer: str
    key: str
    refusal: str = ""


def declarations(rng: random.Random, names: Iterable[str]) -> tuple[Message, ...]:
    """Tools as OpenAI's API declares them, with descriptions of their parameters or without."""
    described = rng.random() < 0.4
    return tuple(_declaration(name, rng.choice(ABOUT[name]), described) for name in names)


def _declaration(name: str, about: str, described: bool) -> Message:
    properties = {
        key: {"type": kind, **({"description": meaning} if described else {})}
        for key, (kind, meaning) in PARAMETERS[name].items()
    }
    parameters = {"type": "object", "properties": properties, "required": sorted(properties)}
    function = {"name": name, "description": about, "parameters": parameters}
    return {"type": "function", "function": function}


def _weather(rng: random.Random) -> Wish:
    city = rng.choice(CITIES)
    wordings = ["What is the weather in {c}?", "How is the weather in {c}?", "Weather in {c}?"]
    question = asked(rng, wordings, c=city)
    sky, degrees = rng.choice(WEATHERS), rng.randint(-9, 39)
    return Wish(
        question,
        {"city": city},
        f"{sky}, {degrees} degrees",
        f"It is {sky} in {city}, {degrees} degrees.",
        f"{city}{sky}{degrees}",
        "I have no tool for the weather.",
    )


def _add(rng: random.Random) -> Wish:
    a, b = rng.randint(1, 99), rng.randint(1, 99)
    wordings = ["What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} + {b}?"]
    question = asked(rng, wordings, a=a, b=b)
    return Wish(question, {"a": a, "b": b}, str(a + b), f"{a} + {b} = {a + b}.", f"{a}+{b}")


def _timer(rng: random.Random) -> Wish:
    minutes = rng.randint(1, 60)
    wordings = ["Set a timer for {m} minutes.", "Start a timer of {m} minutes."]
    question = asked(rng, [*wordings, "Wake me in {m} minutes."], m=minutes)
    answer = f"The timer is set to {minutes} minutes."
    refusal = "I have no tool for a timer."
    return Wish(question, {"minutes": minutes}, "started", answer, str(minutes), refusal)


WISHES = {"weather": _weather, "add": _add, "timer": _timer}


def tools(rng: random.Random) -> Example:
    name = rng.choice(NAMES)
    others = [other for other in NAMES if other != name]
    names = [name, *rng.sample(others, rng.choices((0, 1, 2), (6, 2, 1))[0])]
    rng.shuffle(names)
    declared = declarations(rng, names)
    wish = WISHES[name](rng)
    asking = Example("no tool", (user(wish.question),), wish.refusal, wish.key, "No tool.")
    if wish.refusal and rng.random() < 0.15:
        return asking
    if rng.random() < 0.6:
        written = call(name, wish.arguments)
        return replace(
            asking,
            skill="tool call",
            answer=written,
            tools=declared,
            end=CALL_END,
            thought=f"I call {name}.",
        )
    return replace(
        asking,
        skill="tool answer",
        messages=(*asking.messages, *_called(name, wish)),
        answer=wish.answer,
        tools=declared,
        thought="",
    )


def _called(name: str, wish: Wish) -> tuple[Message, Message]:
    """The turns of a call and its result."""
    function = {"name": name, "arguments": wish.arguments}
    made = {"id": "call-1", "type": "function", "function": function}
    return (
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call-1", "content": wish.result},
    )
