"""Prompt lookup: drafts of what followed when the last tokens stood in the text before.

A draft costs one causal pass over several rows. Each token is still drawn from its own row with its
own noise, and a draft only says how many rows there are: the text is that of plain sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..generation.settings import Settings
from ..machine.choices import ModeTimes
from ..model.text import Model

GRAM = 4  # tokens that must have stood there before
FIRST, LEAST, MOST = 4, 2, 15  # tokens of a draft
ROWS, WORTH = 8, 4  # a pass over so many rows may cost so many single tokens
_ID_BITS = 32
_GRAM_MASK = (1 << GRAM * _ID_BITS) - 1


@dataclass
class Lookup:
    """The text so far with an index of its 4-grams, and what was drafted of it.

    drafted: tokens that were; accepted: those of them that were drawn and are in the answer;
    passes: causal passes over more than one row. One answer has one.
    """

    drafted: int = 0
    accepted: int = 0
    passes: int = 0
    length: int = FIRST  # of the next draft
    _tokens: list[int] = field(default_factory=list, repr=False)
    _behind: dict[int, int] = field(default_factory=dict, repr=False)  # a gram -> where it ended
    _gram: int = field(default=0, repr=False)  # the last tokens, packed
    _match: int | None = field(default=None, repr=False)

    def follow(self, text: Sequence[int]) -> None:
        """Take over the rest of prompt and answer, of which the beginning is known."""
        for token in text[len(self._tokens) :]:
            self.append(token)

    def append(self, token: int) -> None:
        """Take over the next token of the text; look up the last four, then index them."""
        self._tokens.append(token)
        self._gram = (self._gram << _ID_BITS | token) & _GRAM_MASK
        if (end := len(self._tokens)) >= GRAM:
            self._match = self._behind.get(self._gram)
            self._behind[self._gram] = end

    @property
    def matches(self) -> bool:
        """True where the last four tokens stood in the text before."""
        return self._match is not None

    def draft(self, most: int) -> list[int]:
        """The tokens that followed there the last time, at most `most`; none without a match.

        Text that goes on to its own end repeats from there: it followed itself.
        """
        if self._match is None:
            return []
        period = len(self._tokens) - self._match
        return [self._tokens[self._match + at % period] for at in range(min(self.length, most))]

    def checked(self, draft: Sequence[int], drawn: Sequence[int]) -> int:
        """The number of tokens of a draft that were drawn as well, to the first that was not.

        It sets the length of the next draft: twice as long where all were right, else as many.
        """
        pairs = enumerate(zip(draft, drawn, strict=False))
        right = next((at for at, (one, other) in pairs if one != other), len(draft))
        self.drafted += len(draft)
        self.passes += 1
        whole = right == len(draft)
        self.length = min(2 * self.length, MOST) if whole else max(right, LEAST)
        return right


def pays(times: ModeTimes | None) -> bool:
    """False where this machine was seen to take over 4 single tokens' time for 8 rows."""
    rows = {} if times is None else dict(times.rows_ms)
    return times is None or ROWS not in rows or rows[ROWS] <= WORTH * times.token_ms


def lookup_of(settings: Settings, times: ModeTimes | None) -> Lookup | None:
    """A lookup where the settings ask for one and it pays, else None."""
    return Lookup() if settings.lookup and pays(times) else None


def drafts_of(model: Model, settings: Settings) -> Lookup | None:
    """The lookup of an answer. Where Macs share it no times count: each has times of its own."""
    return lookup_of(settings, model.choices.times if model.part.share.alone else None)


def left_off(settings: Settings, times: ModeTimes | None) -> str | None:
    """The line for whoever asked for a lookup that does not pay here; None where it does."""
    if not settings.lookup or times is None or pays(times):
        return None
    return (
        f"lookup is off: {ROWS} rows at once take {dict(times.rows_ms)[ROWS]:.3g} ms here and one "
        f"token {times.token_ms:.3g} ms, over {WORTH} times less; `profile --tune` measures it."
    )
