"""Conversations whose encoded beginnings are kept, found by what a prompt has in common with them.

A client sends all of its conversation each time. The one among the kept that begins likewise is
gone on with; where a prompt shares only a beginning with it, such as a system text, that beginning
is copied, so that both can go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..conversation.conversation import Conversation
from ..conversation.prompt import Prompt
from ..conversation.session import Session
from ..diffusion.kept import copied
from ..errors import FitError

OPENING = 16  # tokens at most that open an answer, and that templates write otherwise afterwards


@dataclass
class Kept:
    """A conversation; asked: tokens of its last prompt, behind which its answer stands."""

    conversation: Conversation = field(default_factory=Conversation)
    asked: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of its keys and values."""
        return 0 if self.conversation.prefix is None else self.conversation.prefix.num_bytes

    @property
    def num_asked(self) -> int:
        """Encoded tokens of its last prompt."""
        prefix = self.conversation.prefix
        return 0 if prefix is None else min(self.asked, prefix.length)


@dataclass
class Conversations:
    """The conversations of a session's model, the one used last at the end; `most` at most.

    others: bytes of other kept prefixes; let_go: lets go of these, False where there are none.
    """

    session: Session
    most: int = 4
    others: Callable[[], int] = lambda: 0
    let_go: Callable[[], bool] = lambda: False
    kept: list[Kept] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = self.session.model.config.image_ids

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(each.num_bytes for each in self.kept)

    def take(self, asked: Prompt, positions: int) -> tuple[Session, int]:
        """A session for a prompt, and the first tokens of it that are encoded there.

        positions: those that prompt and answer may take. FitError where they do not fit into
        memory, even alone.
        """
        self.session.require_room(positions)
        chosen = self._begun(asked)
        self._make_room(chosen, positions)
        chosen.asked = len(asked.ids)
        self.kept.append(chosen)
        del self.kept[: -self.most]
        session = replace(self.session, conversation=chosen.conversation)
        prefix = chosen.conversation.rewind(session.model, asked.ids, asked.runs(self.images))
        return session, prefix.length

    def drop_oldest(self) -> bool:
        """Let go of the conversation that was used longest ago; False where there is none."""
        if self.kept:
            del self.kept[0]
            return True
        return False

    def _begun(self, asked: Prompt) -> Kept:
        """The conversation that a prompt goes on with, taken from those kept, or a new one."""
        runs = asked.runs(self.images)
        shared = [
            0 if (prefix := each.conversation.prefix) is None else prefix.shared(asked.ids, runs)
            for each in self.kept
        ]
        best = max(range(len(shared)), key=lambda n: (shared[n], n), default=None)
        if best is None or shared[best] == 0:
            return Kept()
        if self.kept[best].num_asked - shared[best] <= OPENING:
            return self.kept.pop(best)
        return self._beginning(self.kept[best], shared[best])

    def _beginning(self, other: Kept, position: int) -> Kept:
        """A conversation with the first positions of another's, as far as they are stored."""
        prefix = other.conversation.prefix
        assert prefix is not None
        stored = prefix.reachable(position)
        made = copied(prefix, stored) if stored else None
        return Kept(Conversation(prefix=made))

    def _make_room(self, chosen: Kept, positions: int) -> None:
        """Let go of the oldest conversations until so many positions fit beside the others."""
        while True:
            try:
                return self.session.require_room(positions, self.num_bytes + self.others())
            except FitError:
                if not self.drop_oldest() and not self.let_go():
                    self.kept.append(chosen)
                    raise
