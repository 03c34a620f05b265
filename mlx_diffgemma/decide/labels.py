"""Labels: the short texts that stand for options on a canvas, each one token at one position.

An answer names options; the model never reads a name at a slot, so that its length cannot count.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from string import ascii_lowercase, ascii_uppercase, digits

from ..errors import RequestError, counted
from .questions import NO, YES, Noul, Question, Score
from .reader import Texts


@dataclass(frozen=True)
class Form:
    """The form of a canvas with several answers: what stands before a label, and between answers.

    reply: what the model is told of it.
    """

    lead: str
    join: str
    reply: str


LINES = Form(
    "{number}: ",
    "\n",
    'Reply with one line per question, in this order, formatted as "id: label".',
)
INDEXED = Form(
    "{number}",
    " ",
    "Reply on one line with each question's id immediately followed by its label, separated by "
    "single spaces.",
)
LETTERS = (*ascii_uppercase, *ascii_lowercase)
PAIRS = tuple(map("".join, product(ascii_uppercase, repeat=2)))
UNKNOWN = "\ue000"  # for private use: a vocabulary that has it as a token has no text in it
MOST_LINES = 10  # questions that are answered a line each; more take fewer rows indexed


def form_of(count: int) -> Form:
    """The form of a canvas for as many questions as a prompt lists."""
    return LINES if count <= MOST_LINES else INDEXED


def written_answers(form: Form, answers: Sequence[tuple[int, str]]) -> str:
    """Answers, each its question's number and a label, as they stand on a canvas."""
    return form.join.join(form.lead.format(number=number) + label for number, label in answers)


@dataclass
class Labels:
    """The labels that a checkpoint's vocabulary has, found when they are asked for.

    Candidates that are no single token, or that do not stand where the others do, are left out: a
    vocabulary of characters has no pairs of letters, and y and n in place of yes and no.
    """

    texts: Texts
    found: dict[object, tuple[str, ...]] = field(default_factory=dict)

    def of(self, question: Question, form: Form, at: Sequence[str | int]) -> tuple[str, ...]:
        """A label for each option of a question; RequestError where the vocabulary has fewer."""
        wanted = len(question.options)
        found = self._candidates(question, form, wanted)[:wanted]
        if len(found) < wanted:
            raise RequestError(
                at,
                f"{counted(wanted, 'option')}, and this model's vocabulary has "
                f"{counted(len(found), 'label')} of one token for them; ask for fewer.",
                "too_long",
            )
        return found

    def _candidates(self, question: Question, form: Form, wanted: int) -> tuple[str, ...]:
        if isinstance(question, Noul):
            return max((self._fitting(form, pair) for pair in ((YES, NO), ("y", "n"))), key=len)
        if isinstance(question, Score):
            return self._fitting(form, tuple(digits))
        single = self._fitting(form, LETTERS)
        return single if len(single) >= wanted else single + self._fitting(form, PAIRS)

    def _fitting(self, form: Form, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels that take one token each, at the same place of two answers."""
        if (form, labels) not in self.found:
            self.found[form, labels] = tuple(self._alike(form, labels))
        return self.found[form, labels]

    def _alike(self, form: Form, labels: Sequence[str]) -> Iterator[str]:
        """Labels with an id of their own where the unknown character has another one."""
        encoded = {label: self._ids(form, label) for label in (*labels, UNKNOWN)}
        rows = Counter(map(len, encoded.values())).most_common(1)[0][0]
        columns = zip(*(ids for ids in encoded.values() if len(ids) == rows), strict=True)
        slots = [i for i, column in enumerate(columns) if len(set(column)) > 1]
        if len(slots) != 2:
            return
        at = slots[0]
        ids = Counter(each[at] for each in encoded.values() if len(each) == rows)
        for label in labels:
            if len(encoded[label]) == rows and ids[encoded[label][at]] == 1:
                yield label

    def _ids(self, form: Form, label: str) -> Sequence[int]:
        return self.texts.encode(written_answers(form, [(1, label), (2, label)]))
