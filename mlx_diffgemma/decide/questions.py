"""The three types of question that a decision answers: yes or no, one of several, a scale.

Each is public; `to_json` gives the form it has in a request, which `read_question` reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import SHOWN_CHARACTERS, brief, shown

Text = str | Mapping[str, Any] | Sequence[Any]
"""An instruction or a description: a string, or an object or array that the model reads as JSON."""

MOST_OPTIONS, MOST_LEVELS = 255, 10
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Option:
    """An answer that is allowed: its name in the answer, and what the model is told of it."""

    name: str
    description: Text | None = None


@dataclass(frozen=True)
class Common:
    """The fields of every type of question, all of them optional.

    instructions: what is asked; depends_on: questions whose answers this one is asked with; ask_if:
    questions, and the answers of theirs with which this one is asked at all; alone: a canvas of its
    own, also in layout joint.
    """

    kind: ClassVar[str]

    instructions: Text | None = None
    depends_on: Sequence[str] = field(default=(), kw_only=True)
    ask_if: Mapping[str, Sequence[str]] = field(default_factory=dict, kw_only=True)
    alone: bool = field(default=False, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """The question as it stands in a request."""
        given = {name: value for name, value in vars(self).items() if value or name == "criteria"}
        return {"type": self.kind, **given}

    @property
    def needs(self) -> tuple[str, ...]:
        """The questions that must be answered before this one."""
        return tuple(dict.fromkeys([*self.depends_on, *self.ask_if]))

    @property
    def text(self) -> str:
        """What is asked, as the model reads it; empty where nothing is said."""
        return "" if self.instructions is None else written(self.instructions).strip()


@dataclass(frozen=True)
class Noul(Common):
    """A question that is answered with the probability of yes.

    criteria: what "true" and "false" mean, both or one of them.
    """

    kind: ClassVar[str] = "noul"

    criteria: Mapping[str, Text | None] | None = None

    @property
    def options(self) -> tuple[Option, ...]:
        """Yes, then no."""
        told = self.criteria or {}
        return Option(YES, told.get("true")), Option(NO, told.get("false"))


@dataclass(frozen=True)
class Choice(Common):
    """A question that is answered with one of 1 to 255 names and the probability of each.

    criteria: the names, each with its description or None.
    """

    kind: ClassVar[str] = "choice"

    criteria: Mapping[str, Text | None] = field(default_factory=dict)

    @property
    def options(self) -> tuple[Option, ...]:
        """The names in their order."""
        return tuple(Option(name, told) for name, told in self.criteria.items())


@dataclass(frozen=True)
class Score(Common):
    """A question that is answered with a place on a scale: the mean of its levels' numbers.

    criteria: 1 to 10 levels from low to high; the lowest counts 0.
    """

    kind: ClassVar[str] = "score"

    criteria: Sequence[Text] = ()

    @property
    def options(self) -> tuple[Option, ...]:
        """The levels from low to high, named by their numbers."""
        return tuple(Option(str(i), level) for i, level in enumerate(self.criteria))


Question = Noul | Choice | Score


def told_names(question: Question) -> tuple[str, ...]:
    """The answers as `ask_if` names them: a level by its text, or its number where it has none."""
    if not isinstance(question, Score):
        return tuple(option.name for option in question.options)
    levels = enumerate(question.criteria)
    return tuple(level if isinstance(level, str) else str(i) for i, level in levels)


def written(text: object) -> str:
    """A string as it is; anything else as JSON, in which every character stays readable."""
    return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)


def as_sent(value: object) -> str:
    """A value of a request as a message repeats it: JSON, shortened."""
    return brief(value) if isinstance(value, str) else shown(json.dumps(value), SHOWN_CHARACTERS)
