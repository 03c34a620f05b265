"""What happened when: pieces of time with a name."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """Something that took time; began: seconds on the clock that measured it."""

    name: str
    began: float
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)
