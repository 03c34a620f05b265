"""Conversations whose encoded beginnings are kept, found by what a prompt has in common with them.

A client sends all of its conversation each time. The one among the kept that begins likewise is
gone on with; where a prompt shares only a beginning with it, such as a system text, that beginning
is copied, so that both can go on. Sliding layers forget beginnings: one that is shared and no
longer stored is encoded once more, and then kept by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ...conversation.conversation import Conversation
from ...conversation.prompt import Prompt
from ...conversation.session import Session
from ...conversation.turn import Turn
from ...diffusion.kept import copied
from ...errors import FitError
from ...model.images import ImageRun
from ...model.text import Progress
from ...share.guard import lost_macs

OPENING = 16  # tokens at most that open an answer, and that templates write otherwise afterwards
WORTH = 512  # positions from which on a shared beginning is kept by itself


@dataclass
class Kept:
    """A conversation; asked: tokens of its last prompt, behind which its answer stands.

    stays: it is a beginning that several share, which is copied, and never gone on with. shrunk:
    its buffers hold no more than they must.
    """

    conversation: Conversation = field(default_factory=Conversation)
    asked: int = 0
    stays: bool = False
    shrunk: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes of its keys and values."""
        return 0 if self.conversation.prefix is None else self.conversation.prefix.num_bytes

    @property
    def num_asked(self) -> int:
        """Encoded tokens of its last prompt."""
        prefix = self.conversation.prefix
        return 0 if prefix is None else min(self.asked, prefix.length)

    def shrink(self) -> None:
        """Give back memory that the conversation needs only while it goes on."""
        prefix = self.conversation.prefix
        if prefix is not None and not self.shrunk:
            prefix.shrink()
        self.shrunk = True

    def shared(self, ids: Sequence[int], runs: Sequence[ImageRun]) -> int:
        """The first tokens that it has in common with a prompt and its images."""
        prefix = self.conversation.prefix
        return 0 if prefix is None else prefix.shared(ids, runs)

    def stored(self, position: int) -> int:
        """The last point up to a position that can be gone back to."""
        prefix = self.conversation.prefix
        return 0 if prefix is None else prefix.reachable(position)

    def beginning(self, position: int) -> Kept:
        """Its first positions, which are stored, as a conversation of their own."""
        prefix = self.conversation.prefix
        return Kept(Conversation(prefix=None if prefix is None else copied(prefix, position)))


@dataclass(frozen=True)
class Taken:
    """A session for a prompt; cached: the first tokens of it that are encoded there.

    beginning: tokens of the prompt that are worth to be kept by themselves once they are encoded.
    """

    session: Session
    cached: int
    beginning: int = 0


@dataclass
class Conversations:
    """The conversations of a session's model, the one used last at the end; `most` at most.

    others: bytes of other kept prefixes; let_go: lets go of these, False where there are none.
    """

    session: Session
    most: int = 4
    worth: int = WORTH
    others: Callable[[], int] = lambda: 0
    let_go: Callable[[], bool] = lambda: False
    kept: list[Kept] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = self.session.model.config.image_ids

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(each.num_bytes for each in self.kept)

    def take(self, asked: Prompt, positions: int) -> Taken:
        """A session for a prompt.

        positions: those that prompt and answer may take. FitError where they do not fit into
        memory, even alone.
        """
        self.session.require_room(positions)
        chosen, shared = self._begun(asked)
        for other in self.kept:
            other.shrink()
        self._make_room(chosen, positions)
        chosen.asked, chosen.shrunk = len(asked.ids), False
        self.kept.append(chosen)
        self._drop_surplus()
        session = replace(self.session, conversation=chosen.conversation)
        prefix = chosen.conversation.rewind(session.model, asked.ids, asked.runs(self.images))
        gone = shared - prefix.length
        return Taken(session, prefix.length, shared if gone >= self.worth else 0)

    def keep_beginning(self, taken: Taken, turn: Turn, progress: Progress) -> None:
        """Encode the beginning of the prompt that was taken last, and keep it by itself."""
        latest, model = self.kept[-1], taken.session.model
        piece = range(taken.cached, taken.beginning)
        placed = model.placed(turn.prompt_ids, turn.asked.images)
        images = [image.pixels for image in placed if image.span.start in piece]
        ids = turn.prompt_ids[piece.start : piece.stop]

        def encode() -> None:
            with lost_macs(model.part.share):
                model.encode(ids, latest.conversation.prefix, images=images, progress=progress)

        latest.conversation.step(turn, encode)
        made = latest.beginning(piece.stop)
        made.stays = True
        self.kept.insert(-1, made)
        self._drop_surplus()

    def _drop_surplus(self) -> None:
        """Let go of the oldest of more conversations than are to be kept."""
        del self.kept[: max(0, len(self.kept) - self.most)]

    def drop_oldest(self) -> bool:
        """Let go of the conversation that was used longest ago; False where there is none."""
        if self.kept:
            del self.kept[0]
            return True
        return False

    def _begun(self, asked: Prompt) -> tuple[Kept, int]:
        """The conversation that a prompt goes on with, taken from those kept, or a new one.

        And the tokens that the prompt shares with any of them, stored or not.
        """
        runs = asked.runs(self.images)
        shared = [each.shared(asked.ids, runs) for each in self.kept]
        stored = [each.stored(n) for each, n in zip(self.kept, shared, strict=True)]
        best = max(range(len(stored)), key=lambda n: (stored[n], n), default=None)
        if best is None or stored[best] == 0:
            return Kept(), max(shared, default=0)
        other = self.kept.pop(best)
        if not other.stays and other.num_asked - shared[best] <= OPENING:
            return other, max(shared)
        self.kept.insert(len(self.kept) if other.stays else best, other)
        return other.beginning(stored[best]), max(shared)

    def _make_room(self, chosen: Kept, positions: int) -> None:
        """Let go of the oldest conversations until so many positions fit beside the others."""
        while True:
            try:
                return self.session.require_room(positions, self.num_bytes + self.others())
            except FitError:
                if not self.drop_oldest() and not self.let_go():
                    self.kept.append(chosen)
                    raise
