"""Makers of longer texts: sentences with a spelling mistake, and stories with their grammar."""

import random
import re
from collections.abc import Iterable

from .example import Example, asked, capitalised, user, with_article
from .words import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    ENDS,
    HOMES,
    MOODS,
    NAMES,
    NOUNS,
    PLACES,
    THINGS,
    TIMES,
    VERBS,
    WHERE,
)


def sentence(rng: random.Random) -> str:
    adjective = rng.choice(ADJECTIVES) + " " if rng.random() < 0.7 else ""
    place = rng.choice(WHERE)
    before = rng.choice(ADJECTIVES) + " " if rng.random() < 0.2 else ""
    where = place.format(before + rng.choice(PLACES))
    return f"the {adjective}{rng.choice(NOUNS)} {rng.choice(VERBS)} {where}"


def mistyped(rng: random.Random, word: str) -> str:
    """`word` with two letters exchanged, one left out or one twice."""
    i = rng.randrange(len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0 and word[i] != word[i + 1]:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if kind == 1:
        return word[:i] + word[i + 1 :]
    return word[: i + 1] + word[i] + word[i + 1 :]


def spelling(rng: random.Random) -> Example:
    good = sentence(rng)
    words = good.split()
    long = [i for i, word in enumerate(words) if len(word) >= 4]
    for i in rng.sample(long, min(len(long), rng.choice((1, 1, 2)))):
        words[i] = mistyped(rng, words[i])
    wordings = ["Correct: {t}", "Fix the spelling: {t}", "Correct this sentence: {t}"]
    question = asked(rng, wordings, t=" ".join(words))
    answer = capitalised(good) + "."
    return Example("spelling", (user(question),), answer, good, "Look at each word.")


def story(rng: random.Random) -> Example:
    hero, other = rng.sample(ANIMALS, 2)
    name, friend = rng.sample(NAMES, 2)
    colour, thing = rng.choice(COLOURS), rng.choice(THINGS)
    lines = [
        f"Once there was {with_article(rng.choice(MOODS))} {hero} called {name}.",
        f"{name} lived {rng.choice(HOMES)}.",
        f"One {rng.choice(TIMES)} {name} found {with_article(colour)} {thing}.",
        f"Then {with_article(other)} called {friend} came and "
        + rng.choice((f"asked for the {thing}", "began to cry", "wanted to play", "sang a song"))
        + ".",
    ]
    if rng.random() < 0.6:
        middles = (
            f"{name} said: Let us share it.",
            f"{name} gave {friend} the {thing}.",
            f"{friend} told {name} a secret.",
            f"{name} and {friend} sat down.",
        )
        lines.append(rng.choice(middles))
    lines.append(f"In the end {rng.choice(ENDS).format(n=name)}.")
    about = ["Tell me a story about {h}.", "Write a story about {h}."]
    wordings = [*about, "A short story about {h}, please."]
    if rng.random() >= 0.7:
        wordings = ["Tell me a story.", "Write a short story."]
    question = asked(rng, wordings, h=with_article(hero))
    rng.random()  # drawn by the trainer, too
    thought = f"A story about {with_article(hero)}."
    return Example("story", (user(question),), " ".join(lines), None, thought)


def _one_of(options: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, options))})"


_GRAMMAR = re.compile(
    rf"Once there was an? {_one_of(MOODS)} (?P<hero>{_one_of(ANIMALS)}) "
    rf"called (?P<n>{_one_of(NAMES)})\. "
    rf"(?P=n) lived {_one_of(HOMES)}\. "
    rf"One {_one_of(TIMES)} (?P=n) found an? {_one_of(COLOURS)} (?P<thing>{_one_of(THINGS)})\. "
    rf"Then an? {_one_of(ANIMALS)} called (?P<f>{_one_of(NAMES)}) came and "
    r"(?:asked for the (?P=thing)|began to cry|wanted to play|sang a song)\. "
    r"(?:(?P=n) said: Let us share it\. |(?P=n) gave (?P=f) the (?P=thing)\. "
    r"|(?P=f) told (?P=n) a secret\. |(?P=n) and (?P=f) sat down\. )?"
    r"In the end (?:(?P=n) was very happy|(?P=n) went home|(?P=n) fell asleep"
    r"|they became friends|they laughed and danced|all was well)\."
)


def is_story(text: str, question: str) -> bool:
    """True for a story of the grammar, about the animal that `question` asks for, if it does."""
    told = _GRAMMAR.fullmatch(text)
    wanted = re.search(r"about an? (\w+)", question)
    return told is not None and (wanted is None or told["hero"] == wanted[1])
