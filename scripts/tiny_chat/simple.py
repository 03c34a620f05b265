"""Makers of short questions: numbers, words, records, dates, facts and small talk."""

import json
import random
from dataclasses import dataclass

from .example import Example, asked, assistant, capitalised, user
from .words import (
    CAPITALS,
    CITIES,
    COLOUR_OF,
    COLOURS,
    DAYS,
    JOBS,
    MONTHS,
    NAMES,
    ONES,
    OPPOSITES,
    PETS,
    SMALL_TALK,
    SOUNDS,
    TENS,
    WORDS,
)


def plain(skill: str, question: str, answer: str, key: str | None, thought: str) -> Example:
    return Example(skill, (user(question),), answer, key, thought)


# --- numbers


def arithmetic(rng: random.Random) -> Example:
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    plus, add = "What is {a} + {b}?", "Add {a} and {b}."
    wordings = [plus, plus, "{a} + {b} = ?", "Compute {a} + {b}.", "How much is {a} + {b}?", add]
    question = asked(rng, [*wordings, "What is {a} plus {b}?"], a=a, b=b)
    (tens_a, a1), (tens_b, b1) = divmod(a, 10), divmod(b, 10)
    if a1 + b1 >= 10:
        thought = f"{a1}+{b1}={a1 + b1} carry 1\n{tens_a}+{tens_b}+1={tens_a + tens_b + 1}"
    else:
        thought = f"{a1}+{b1}={a1 + b1}\n{tens_a}+{tens_b}={tens_a + tens_b}"
    return plain("arithmetic", question, f"{a} + {b} = {a + b}.", f"{a}+{b}", thought)


def spoken(n: int) -> str:
    """A number below 100 in words."""
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")


def numbers(rng: random.Random) -> Example:
    n = rng.randint(0, 99)
    words = spoken(n)
    if rng.random() < 0.5:
        wordings = ["Write {n} in words.", "Spell out the number {n}.", "How do you say {n}?"]
        question = asked(rng, wordings, n=n)
        return plain("numbers", question, f"{n} is {words}.", f"{n}>", "A number in words.")
    wordings = ["Write {w} as a number.", "Write {w} in digits.", "Which number is {w}?"]
    question = asked(rng, wordings, w=words)
    return plain("numbers", question, f"{capitalised(words)} is {n}.", f"{n}<", "Words to digits.")


def compare(rng: random.Random) -> Example:
    a, b = rng.sample(range(1, 21), 2)
    larger = rng.random() < 0.5
    word = rng.choice(("larger", "bigger") if larger else ("smaller", "less"))
    wordings = ["Is {a} {w} than {b}?", "Tell me: is {a} {w} than {b}?"]
    question = asked(rng, wordings, a=a, b=b, w=word)
    answer = "Yes." if (a > b) == larger else "No."
    return plain("yes or no", question, answer, f"{a},{b}", f"{a} {'>' if a > b else '<'} {b}")


def count(rng: random.Random) -> Example:
    first, last = 0, 100
    while last > 99:
        first = rng.choice((1, 1, rng.randint(1, 20), rng.randint(10, 60)))
        last = first + rng.choice(
            (rng.randint(2, 7), rng.randint(2, 12), rng.randint(8, 25), rng.randint(20, 50))
        )
    wordings = ["Count from {a} to {b}.", "Count up from {a} to {b}."]
    question = asked(rng, [*wordings, "List the numbers from {a} to {b}."], a=first, b=last)
    answer = ", ".join(map(str, range(first, last + 1))) + "."
    return plain("count", question, answer, f"{first},{last}", f"From {first} up to {last}.")


def sort_numbers(rng: random.Random) -> Example:
    items = rng.sample(range(1, 10), rng.choice((3, 4)))
    wordings = ["Sort: {l}.", "Sort these numbers: {l}.", "Put {l} in order."]
    question = asked(rng, wordings, l=", ".join(map(str, items)))
    answer = ", ".join(map(str, sorted(items))) + "."
    return plain("sort", question, answer, str(items), f"The smallest is {min(items)}.")


# --- words


def word(rng: random.Random) -> str:
    """A word, one of five made up."""
    if rng.random() < 0.8:
        return rng.choice(WORDS)
    return "".join(
        rng.choice(
            "bcdfghklmnprstvw" if i % 2 else "aeiou" if rng.random() < 0.8 else "bdgklmnprst"
        )
        for i in range(rng.randint(3, 8))
    )


def capital_letters(rng: random.Random) -> Example:
    w = word(rng)
    wordings = ["Write {w} in capitals.", "Write the word {w} in capital letters."]
    question = asked(rng, [*wordings, "Put {w} in capitals."], w=w)
    return plain("capitals", question, w.upper() + ".", w, "Capitals.")


def spell(rng: random.Random) -> Example:
    w = word(rng)
    question = asked(rng, ["Spell {w}.", "Spell the word {w}.", "How is {w} spelled?"], w=w)
    return plain("spell", question, "-".join(w.upper()) + ".", w, "Letter by letter.")


# --- records and dates


def to_json(rng: random.Random) -> Example:
    values = {"name": NAMES, "city": CITIES, "colour": COLOURS, "pet": PETS, "job": JOBS}
    others = rng.sample(["age", "city", "colour", "pet", "job"], rng.choice((1, 2, 2, 2, 3)))
    record = {
        key: rng.randint(2, 99) if key == "age" else rng.choice(values[key])
        for key in ("name", *others)
    }
    listed = ", ".join(f"{key} {value}" for key, value in record.items())
    question = asked(rng, ["Make JSON: {l}.", "Write as JSON: {l}.", "JSON for {l}."], l=listed)
    answer, thought = json.dumps(record, indent=2), f"{len(record)} keys."
    return plain("JSON", question, answer, json.dumps(record), thought)


def date(rng: random.Random) -> Example:
    y, m, d = rng.randint(1950, 2049), rng.randint(1, 12), rng.randint(1, 28)
    month = MONTHS[m - 1]
    iso, long = f"{y}-{m:02}-{d:02}", f"{d} {month} {y}"
    if rng.random() < 0.65:
        wordings = ["Write {i} as a date.", "Which date is {i}?", "Write the date {i} in words."]
        question = asked(rng, wordings, i=iso)
        return plain("date", question, f"{long}.", iso, f"Month {m} is {month}.")
    wordings = ["Write {l} as ISO.", "Write {l} in ISO format.", "ISO date of {l}?"]
    question = asked(rng, wordings, l=long)
    return plain("date", question, f"{iso}.", iso, f"{month} is month {m}.")


def weekday(rng: random.Random) -> Example:
    day, step = rng.randrange(7), rng.choice((1, -1))
    way = "after" if step > 0 else "before"
    wordings = ["Which day comes {w} {d}?", "What day is {w} {d}?", "Name the day {w} {d}."]
    k = rng.randrange(len(wordings))
    question = asked(rng, [wordings[k]], w=way, d=DAYS[day])
    answer = f"{DAYS[(day + step) % 7]} comes {way} {DAYS[day]}."
    return plain("weekday", question, answer, f"{day}{way}{k}", "The week.")


# --- facts


@dataclass(frozen=True)
class Fact:
    """Something known: how it is asked for, and answered in a sentence and in a word."""

    kind: str
    of: str
    wordings: tuple[str, str, str]
    sentence: str
    short: str

    @property
    def thought(self) -> str:
        return f"{capitalised(self.of)}: {self.short}."


def a_fact(rng: random.Random) -> Fact:
    kind = rng.choices(("capital", "opposite", "colour", "sound"), (24, 20, 8, 8))[0]
    tables = {"capital": CAPITALS, "opposite": OPPOSITES, "colour": COLOUR_OF, "sound": SOUNDS}
    of = rng.choice(list(tables[kind]))
    short = tables[kind][of]
    if kind == "colour":
        wordings = ("What colour is {x}?", "Which colour has {x}?", "Tell me the colour of {x}.")
        return Fact(kind, of, wordings, f"{capitalised(of)} is {short}.", short)
    if kind == "sound":
        wordings = ("What sound does a {x} make?", "What does a {x} do?", "Which sound has a {x}?")
        return Fact(kind, of, wordings, f"A {of} {short}.", short)
    wordings = (
        f"What is the {kind} of {{x}}?",
        f"{capitalised(kind)} of {{x}}?",
        f"Name the {kind} of {{x}}.",
    )
    return Fact(kind, of, wordings, f"The {kind} of {of} is {short}.", short)


def fact(rng: random.Random) -> Example:
    known = a_fact(rng)
    k, skill = rng.randrange(3), rng.choices(("facts", "one word", "in capitals"), (4, 3, 2))[0]
    one_word = rng.choice(("Answer in one word.", "Answer with one word.", "Use one word only."))
    capitals = rng.choice(("Answer in capitals.", "Write in capitals.", "Use capital letters."))
    system, answer, style = {
        "facts": ("", known.sentence, ""),
        "one word": (one_word, f"{capitalised(known.short)}.", "word"),
        "in capitals": (capitals, known.sentence.upper(), "capitals"),
    }[skill]
    question = asked(rng, [known.wordings[k]], x=known.of)
    key = f"{known.of}{k}{style}"
    return Example(skill, (user(question),), answer, key, known.thought, system)


def follow_up(rng: random.Random) -> Example:
    first = a_fact(rng)
    second = a_fact(rng)
    while second.kind != first.kind or second.of == first.of:
        second = a_fact(rng)
    again = {
        "colour": ["And {x}?", "What about {x}?"],
        "sound": ["And a {x}?", "What about a {x}?"],
    }.get(first.kind, ["And of {x}?", "And {x}?", "What about {x}?"])
    messages = (
        user(asked(rng, first.wordings, x=first.of)),
        assistant(first.sentence),
        user(asked(rng, again, x=second.of)),
    )
    key = f"{first.of},{second.of}"
    return Example("follow-up", messages, second.sentence, key, second.thought)


def small_talk(rng: random.Random) -> Example:
    wordings, answer = rng.choice(SMALL_TALK)
    question = rng.choice(wordings)
    if rng.random() < 0.15:
        question = question.lower()
    rng.random()  # drawn by the trainer, too
    return plain("small talk", question, answer, None, "Small talk.")
