"""A session: a loaded model and one conversation with it, prompts in, frames and replies out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from ..assets import Task
from ..diffusion.denoise import Frame, token_budget
from ..diffusion.infill import needed_positions
from ..diffusion.settings import Settings
from ..errors import PromptError
from ..machine.choices import Choices
from ..model.cache import Prefix
from ..model.text import Model, Progress
from ..text.chat import Message, render_prompt
from ..text.holes import read_template
from ..text.tokenizer import Tokenizer
from .conversation import Conversation, messages_for
from .fill import FillOptions, FillTurn, ids_before, require_no_end, token_template
from .reply import Filled, ModelInfo, Reply, describe_sampler
from .turn import Turn, seeded


class TurnOptions(TypedDict, total=False):
    """Options of a question.

    system: replaces the session's system text from here on, "" removes it; think: let the model
    write a thought first; raw: the prompt's tokens as they are, no template, no history, channels
    not parsed; progress: told of encoded prompt positions.
    """

    settings: Settings | None
    system: str | None
    think: bool
    raw: bool
    progress: Progress | None


def any_context(context: int) -> None:
    """Checks nothing: the user takes the risk."""


@dataclass
class Session:
    """A loaded model with its tokenizer, and one conversation with it.

    task: the kind of problem that the checkpoint was trained on; dropped: tensors of the folder
    that the network does not use; tuned: choices for this machine, None for the engine's own
    behaviour; require_room: FitError for positions whose cache does not fit into memory.
    """

    model: Model
    tokenizer: Tokenizer
    info: ModelInfo
    task: Task | None = None
    load_seconds: float = 0.0
    dropped: tuple[str, ...] = ()
    tuned: Choices | None = None
    require_room: Callable[[int], None] = any_context
    conversation: Conversation = field(default_factory=Conversation)

    def ask(self, prompt: str, **options: Unpack[TurnOptions]) -> Reply:
        """The whole answer to `prompt`; asking again continues the conversation."""
        turn = self.turn(prompt, **options)
        for _ in turn:
            pass
        return turn.reply()

    def stream(self, prompt: str, **options: Unpack[TurnOptions]) -> Iterator[Frame]:
        """The answer to `prompt` as frames, each when it is done."""
        return iter(self.turn(prompt, **options))

    def fill(self, template: str, **options: Unpack[FillOptions]) -> Filled:
        """`template` with its holes, `[[...]]` or `[[12]]`, filled and all else as it is.

        It stands alone: the conversation is neither seen nor continued.
        """
        turn = self.fill_turn(template, **options)
        for _ in turn:
            pass
        return turn.reply()

    def turn(
        self,
        prompt: str,
        *,
        settings: Settings | None = None,
        system: str | None = None,
        think: bool = False,
        raw: bool = False,
        progress: Progress | None = None,
    ) -> Turn:
        """A question about to be answered, checked; nothing is computed before it is iterated.

        For the options see TurnOptions. PromptError when prompt and canvases do not fit into the
        context, FitError when their cache does not fit into memory.
        """
        if not prompt.strip():
            raise PromptError("the prompt is empty, expected some text.")
        system = self.system if system is None else system
        puzzle, earlier = None, self.history
        if self.task and not raw:
            prompt = puzzle = self.task.prepare(prompt)
            earlier = []  # every puzzle starts anew
        if raw:
            tokens = self.tokenizer.encode(prompt)
        else:
            messages = messages_for(prompt, system, earlier)
            tokens = render_prompt(self.tokenizer, messages, think=think)
        config, settings = self.model.config, seeded(settings)
        budget = token_budget(config, len(tokens), settings.max_tokens)
        settings = replace(settings, max_tokens=budget)
        canvases = -(-budget // config.canvas_length)
        self.require_room(len(tokens) + canvases * config.canvas_length)
        sampler = describe_sampler(settings, config, budget)
        self.system = system or None
        return Turn(self, prompt, tokens, settings, sampler, raw, progress, puzzle)

    def fill_turn(
        self,
        template: str,
        *,
        prompt: str = "",
        gaps: int | Sequence[int] | None = None,
        settings: Settings | None = None,
        system: str | None = None,
        raw: bool = False,
        progress: Progress | None = None,
    ) -> FillTurn:
        """A template about to be filled, checked; nothing is computed before it is iterated.

        For the options see FillOptions. PromptError when it is no template, or does not fit into
        the context; FitError when it does not fit into memory.
        """
        puzzle = None
        if self.task and not raw:
            template, puzzle = self.task.template(template)
            prompt = self.task.prepare(prompt) if prompt.strip() else puzzle
        config = self.model.config
        written = read_template(template, gaps)
        form = token_template(written, self.tokenizer, config.stop_ids)
        tokens = ids_before(self.tokenizer, prompt, self.system if system is None else system, raw)
        settings = seeded(settings)
        require_no_end(settings)
        self.require_room(needed_positions(config, len(tokens), form))
        sampler = describe_sampler(settings, config, sum(form.lengths))
        return FillTurn(
            self, prompt, tokens, settings, sampler, raw, progress, puzzle, template=form
        )

    def reset(self) -> None:
        """Forgets the conversation and its cache; the model and the system text stay."""
        self.conversation.reset()

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text."""
        self.conversation.restore(messages, system)

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
