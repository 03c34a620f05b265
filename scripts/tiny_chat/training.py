"""What tiny-chat is taught: the mix of skills, with earlier turns, system texts and templates.

Nothing that is held out is seen anywhere, in earlier turns and templates neither.
"""

import random
import re
from dataclasses import dataclass, replace

import numpy as np

from mlx_diffgemma.checkpoint.config import ModelConfig
from mlx_diffgemma.finetune.data import examples as taught
from mlx_diffgemma.finetune.data.examples import eos_of
from mlx_diffgemma.text.tokenizer import Tokenizer

from . import simple, stories, tools
from .example import Example, Maker, assistant, user

SHARES: dict[Maker, float] = {
    simple.arithmetic: 4.5,
    simple.numbers: 0.9,
    simple.compare: 1.5,
    simple.count: 2.0,
    simple.sort_numbers: 0.6,
    simple.capital_letters: 0.7,
    simple.spell: 0.7,
    simple.to_json: 1.1,
    simple.date: 0.8,
    simple.weekday: 0.7,
    simple.fact: 2.2,
    simple.follow_up: 0.5,
    simple.small_talk: 0.8,
    stories.spelling: 1.0,
    stories.story: 1.2,
    tools.tools: 1.3,
}
TEMPLATES = 0.05
THINKING, THINKING_SUMS = 0.1, 0.4
NEUTRAL = ("You are a helpful assistant.", "Be brief.", "Be friendly.", "Answer in English.")
OPEN = ("", "", "Complete the text.", "Fill in the text.")
PAD = "<pad>"
LONGEST_EARLIER = 130  # characters of an answer in the history


@dataclass(frozen=True)
class Lesson:
    """An example to learn from; holes: the spans of its answer that a template leaves open.

    Each character of the answer, the padding in holes included, is a token.
    """

    example: Example
    holes: tuple[range, ...] = ()


def lesson(rng: random.Random, canvas: int) -> Lesson:
    """One of the mix."""
    if rng.random() < TEMPLATES:
        return _template(rng, canvas)
    example = _new(rng)
    if example.thought and rng.random() < _thinking(example):
        example = replace(example, think=True)
    if not example.system and rng.random() < 0.08:
        example = replace(example, system=rng.choice(NEUTRAL))
    if not example.tools and example.skill not in ("no tool", "arithmetic") and rng.random() < 0.03:
        names = rng.sample(tools.NAMES, rng.choice((1, 1, 2)))
        example = replace(example, tools=tools.declarations(rng, names))
    return Lesson(_with_history(rng, example))


def to_ids(lesson: Lesson, tokenizer: Tokenizer, config: ModelConfig) -> taught.Example:
    """The token ids, filled to whole canvases."""
    example = lesson.example
    prompt = tokenizer.encode(example.prompt(tokenizer))
    answer = tokenizer.encode((example.expected + example.end).replace("\0", PAD))
    fill = [eos_of(tokenizer, config)] * (-len(answer) % config.canvas_length)
    ids = np.array([*prompt, *answer, *fill], np.int32)
    holes = None
    if lesson.holes:
        holes = np.zeros(len(ids) - len(prompt), bool)
        for hole in lesson.holes:
            holes[hole.start : hole.stop] = True
    return taught.Example(ids, len(prompt), skill=example.skill, holes=holes)


def _new(rng: random.Random) -> Example:
    """An example whose content is not held out; those of no content are never."""
    while True:
        example = rng.choices(list(SHARES), list(SHARES.values()))[0](rng)
        if example.key is None or not example.held_out:
            return example


def _thinking(example: Example) -> float:
    return THINKING_SUMS if example.skill == "arithmetic" else THINKING


def _with_history(rng: random.Random, example: Example) -> Example:
    """The example behind 0 to 10 earlier turns, which have nothing to do with it."""
    few, many = rng.randint(1, 2), rng.randint(3, 10)
    for _ in range(rng.choices((0, few, many), (76, 14, 10))[0]):
        before = _new(rng)
        alone = len(before.messages) == 1 and not before.tools and not before.system
        if alone and len(before.answer) < LONGEST_EARLIER:
            turns = (*before.messages, assistant(before.answer), *example.messages)
            example = replace(example, messages=turns)
    return example


def _template(rng: random.Random, canvas: int) -> Lesson:
    """An answer with holes that were given more room than their text needs; padding takes it."""
    example = _new(rng)
    while (
        len(example.answer) > canvas - 3
        or "\n" in example.answer
        or example.skill in ("tool call", "yes or no")
    ):
        example = _new(rng)
    answer, holes = _opened(rng, example.answer, canvas - 1)
    alone = len(example.messages) == 1 and not example.tools and not example.system
    if alone and rng.random() < 0.5:
        messages = (user("Fill in: " + example.messages[0]["content"]),)
    else:
        messages = (user(rng.choice(OPEN)),)
    example = replace(
        example, skill="fill-in", messages=messages, answer=answer, system="", tools=()
    )
    return Lesson(example, holes)


def _opened(rng: random.Random, answer: str, most: int) -> tuple[str, tuple[range, ...]]:
    """The answer with one or two runs of words as holes, and their places in it."""
    words = [found.span() for found in re.finditer(r"[A-Za-z]+|\d+", answer)]
    chosen = sorted(rng.sample(range(len(words)), min(rng.choice((1, 1, 1, 2)), len(words))))
    text, holes, place = "", list[range](), 0
    for number, first in enumerate(chosen):
        start, stop = (
            words[first][0],
            words[min(first + rng.choice((0, 0, 1, 2)), len(words) - 1)][1],
        )
        if number + 1 < len(chosen):
            stop = min(stop, words[chosen[number + 1]][0] - 1)
        if start < place or stop <= start:
            continue
        room = most - len(text) - len(answer) + place
        spare = min(room, rng.choice((0, 1, 2, 3, 4, 6, 8, 12)))
        text += answer[place:start]
        holes.append(range(len(text), len(text) + stop - start + spare))
        text += answer[start:stop] + "\0" * spare
        place = stop
    return text + answer[place:], tuple(holes)
