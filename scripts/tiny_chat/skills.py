"""The 22 skills of tiny-chat: held-out prompts of each, and the check of an answer."""

import json
import random
from dataclasses import replace

from . import simple, stories, tools
from .example import Example, Maker

SKILLS = (
    *("arithmetic", "numbers", "yes or no", "count", "sort", "capitals", "spell", "JSON", "date"),
    *("weekday", "facts", "one word", "in capitals", "follow-up", "small talk", "spelling"),
    *("story", "tool call", "tool answer", "no tool"),
    *("thinking: arithmetic", "thinking: other"),
)
# in the order of the trainer, which the prompts of a seed depend on
MAKERS: tuple[Maker, ...] = (
    simple.arithmetic,
    simple.numbers,
    simple.compare,
    simple.count,
    simple.sort_numbers,
    simple.capital_letters,
    simple.spell,
    simple.to_json,
    simple.date,
    simple.weekday,
    simple.fact,
    simple.follow_up,
    simple.small_talk,
    stories.spelling,
    stories.story,
    tools.tools,
)
MOST_TRIES = 200_000


def held_out(skill: str, number: int, seed: int = 1) -> list[Example]:
    """At most `number` different prompts of a skill whose contents training never saw.

    Few of weekday, facts, small talk and "no tool" exist: fewer than 100. Stories and small talk
    have no held-out content, and some of their answers were seen.
    """
    rng, found = random.Random(f"{skill}{seed}"), dict[str, Example]()
    for _ in range(MOST_TRIES):
        if len(found) >= number:
            break
        example = _of(skill, rng.choice(MAKERS)(rng))
        if example and example.held_out:
            found.setdefault(_prompt(example), example)
    return list(found.values())


def _prompt(example: Example) -> str:
    """All that the prompt is made of."""
    return json.dumps([example.messages, example.system, example.tools, example.think])


def _of(skill: str, example: Example) -> Example | None:
    """The example as one of `skill`; None where it is none."""
    if not skill.startswith("thinking"):
        return example if example.skill == skill else None
    if not example.thought or (example.skill == "arithmetic") != skill.endswith("arithmetic"):
        return None
    return replace(example, think=True)


def is_right(example: Example, text: str) -> bool:
    """True where `text`, the answer without its end, is right; of a story, where it is one."""
    if example.skill != "story":
        return text == example.expected
    return stories.is_story(text.removeprefix(example.thinking), example.messages[-1]["content"])
