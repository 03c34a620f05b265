"""What is asked of an answer's text: a pattern, and the request that it was made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .patterns import Pattern

Kind = Literal["schema", "pattern", "choices", "tools"]

MOST_ADVICE = 3  # sizes that an error advises to shorten


@dataclass(frozen=True)
class Form:
    """What an answer has to look like.

    kind: of its text, or "tools" where it has none but calls. key: the request, word for word:
    forms of one kind and key are the same. sizes: the lengths and counts that make it large, each
    by its name. calls: the answer may be calls of tools, in place of its text.
    """

    kind: Kind
    key: str
    pattern: Pattern = field(compare=False, repr=False)
    sizes: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    calls: bool = False

    @property
    def advice(self) -> str:
        """What to shorten where the form is too large for an automaton."""
        largest = sorted(self.sizes, key=lambda name: -self.sizes[name])[:MOST_ADVICE]
        if self.kind == "pattern":
            return "shorten its repetitions"
        return f"shorten {', '.join(largest)}" if largest else "shorten its longest texts"
