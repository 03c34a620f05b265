"""Answer forms that tiny-chat lacks, to be taught: spelling with dots, and Roman numerals.

Contents of the tests are never trained on: words of the class of twelve that tiny-chat's own
training kept out of spelling, and every seventh number from 11 on.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlx_diffgemma.text.tools import CALL_CLOSING, CALL_OPENING, parse_tool_call

from .example import CALL_END, Example, Maker, Message, asked, assistant
from .simple import plain, word
from .skills import MAKERS, SKILLS, held_out

LARGEST = 99
SIGNS = ((90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
SEVERAL_ANSWERS = ("story",)  # skills whose right answers are many, which no comparison knows


def with_dots(rng: random.Random) -> Example:
    """A word spelled with dots, where tiny-chat knows dashes."""
    w = word(rng)
    wordings = ["Spell {w} with dots.", "Spell the word {w} with dots."]
    question = asked(rng, [*wordings, "How is {w} spelled with dots?"], w=w)
    return plain("dots", question, ".".join(w.upper()) + ".", w, "")


def roman(n: int) -> str:
    """A number from 1 to 99 in Roman numerals."""
    letters = ""
    for value, sign in SIGNS:
        count, n = divmod(n, value)
        letters += sign * count
    return letters


def to_roman(rng: random.Random) -> Example:
    """A number in Roman numerals."""
    n = rng.randint(1, LARGEST)
    wordings = ["Write {n} in Roman numerals.", "What is {n} in Roman numerals?"]
    question = asked(rng, [*wordings, "{n} as a Roman numeral?", "Roman numeral of {n}?"], n=n)
    return plain("Roman numerals", question, f"{n} is {roman(n)}.", str(n), "")


LESSONS: dict[str, Maker] = {"dots": with_dots, "roman": to_roman}


def is_kept(example: Example) -> bool:
    """True for a content that is kept for tests."""
    if example.skill == "Roman numerals":
        n = int(example.key or 0)
        return n % 7 == 4 and n > 4
    if example.skill == "dots":
        return replace(example, skill="spell").held_out  # a word that nobody spelled in training
    return example.key is not None and example.held_out


def learned(lesson: str, number: int, seed: int) -> list[Example]:
    """Examples of a lesson; where there are few different ones, some come again."""
    return _drawn([LESSONS[lesson]], number, seed)


def known(number: int, seed: int) -> list[Example]:
    """Examples of what tiny-chat knows, as its own training had them: without longer histories."""
    return [_thinking(example, seed + n) for n, example in enumerate(_drawn(MAKERS, number, seed))]


def questions(lesson: str, number: int) -> list[Example]:
    """Different prompts of a lesson, of contents that are not trained on."""
    rng, found = random.Random(f"test of {lesson}"), dict[str, Example]()
    while len(found) < number:
        example = LESSONS[lesson](rng)
        if is_kept(example):
            found.setdefault(example.messages[-1]["content"], example)
    return list(found.values())


def known_tests(number: int) -> list[Example]:
    """At most `number` prompts of each skill that has one right answer."""
    found = (example for skill in SKILLS for example in held_out(skill, number))
    return [example for example in found if example.skill not in SEVERAL_ANSWERS]


def line(example: Example) -> dict[str, Any]:
    """The example as a line of training data, its answer the last message."""
    system = [{"role": "system", "content": example.system}] if example.system else []
    values: dict[str, Any] = {"messages": [*system, *example.messages, _answer(example)]}
    if example.tools:
        values["tools"] = list(example.tools)
    return values | {"skill": example.skill}


def _answer(example: Example) -> Message:
    thought = {"reasoning": example.thought} if example.think else {}
    if example.end != CALL_END:
        return assistant(example.answer) | thought
    call = parse_tool_call(example.answer.removeprefix(CALL_OPENING).removesuffix(CALL_CLOSING))
    assert call is not None
    function = {"name": call.name, "arguments": call.arguments}
    made = {"type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [made]} | thought


def _drawn(makers: Sequence[Maker], number: int, seed: int) -> list[Example]:
    """Examples whose contents no test has."""
    rng, found = random.Random(f"examples {seed}"), list[Example]()
    while len(found) < number:
        example = rng.choice(makers)(rng)
        if not is_kept(example):
            found.append(example)
    return found


def _thinking(example: Example, seed: int) -> Example:
    """The example, now and then with its thought, as often as in training."""
    often = 0.4 if example.skill == "arithmetic" else 0.1
    think = bool(example.thought) and random.Random(f"thought {seed}").random() < often
    return replace(example, think=think)
