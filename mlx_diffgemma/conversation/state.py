"""The state of a session: a loaded model with its tokenizer, and one conversation.

All that turns and decisions need of a session stands here; `Session` begins them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..assets import Task
from ..autoregressive.router import Router, Times
from ..generation.settings import Settings
from ..machine.chips import this_chip
from ..machine.choices import Choices, ModeTimes
from ..model.memory import RoomCheck
from ..model.prefix import Prefix
from ..model.text import Model
from ..text.chat import Message
from ..text.tokenizer import Tokenizer
from .conversation import Conversation
from .form import Forms
from .front import Front, config_of
from .reply import ModelInfo
from .times import Clock, estimate, measure, shared_times


def any_context(context: int, beside: int = 0) -> None:
    """Checks nothing: the user takes the risk."""


@dataclass
class SessionState:
    """A loaded model with its tokenizer, and one conversation with it.

    task: the kind of problem that the checkpoint was trained on; dropped: tensors of the folder
    that the network does not use; tuned: choices for this machine, None for the engine's own
    behaviour; require_room: FitError for positions whose cache does not fit into memory; name: the
    model's, as a user knows it; adapter: the folder of the one that is applied; clock: the times of
    both modes, as far as they were seen.
    """

    model: Model
    tokenizer: Tokenizer
    info: ModelInfo
    task: Task | None = None
    load_seconds: float = 0.0
    dropped: tuple[str, ...] = ()
    tuned: Choices | None = None
    require_room: RoomCheck = any_context
    name: str = "this checkpoint"
    adapter: str | None = None
    clock: Clock = field(default_factory=Clock)
    conversation: Conversation = field(default_factory=Conversation)

    @cached_property
    def forms(self) -> Forms:
        """The forms that answers of this session can have."""
        return Forms(self.tokenizer, self.model.config)

    @property
    def front(self) -> Front:
        """The session's checkpoint, as questions are prepared with it."""
        config = config_of(self.model)
        return Front(self.tokenizer, config, self.forms, self.name, self.task, self.mode_times)

    def router(self, settings: Settings, thinking: bool) -> Router:
        """The router of an answer in mode auto; times are measured now where nothing tells them."""
        given = settings.auto_times
        if self.model.part.share.alone:
            times = self.clock.times(given, self.mode_times, self._unknown_times)
        else:
            times = shared_times(self.model, self.clock, given)
        return Router(times, self.model.config.canvas_length, thinking)

    def _unknown_times(self) -> Times:
        """The times of both modes where nothing on this machine knows them."""
        if (chip := this_chip()) is None:
            return measure(self.model)
        return estimate(self.model, Path(self.info.path), self.tuned, chip)

    @property
    def mode_times(self) -> ModeTimes | None:
        """The times of both modes that were tuned, if they were."""
        return self.tuned.times if self.tuned else None

    @property
    def history(self) -> list[Message]:
        """Questions and answers so far."""
        return self.conversation.history

    @property
    def system(self) -> str | None:
        """The system text of the next question."""
        return self.conversation.system

    @system.setter
    def system(self, text: str | None) -> None:
        self.conversation.system = text

    @property
    def prefix(self) -> Prefix | None:
        """The live cache: all that is encoded of the conversation."""
        return self.conversation.prefix

    @property
    def context_used(self) -> int:
        """Positions that are encoded, of `context_length`; the next question goes behind most."""
        return self.prefix.length if self.prefix else 0

    @property
    def context_length(self) -> int:
        """Positions the model has for prompt and answer."""
        return self.model.config.text.max_position_embeddings
