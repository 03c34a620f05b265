"""A session: a loaded model and one conversation with it, prompts in, frames and replies out."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Unpack

import mlx.core as mx

from ..assets import Task
from ..checkpoint.hub import Consent, find_model
from ..diffusion.denoise import Frame, token_budget
from ..diffusion.settings import Settings
from ..errors import PromptError
from ..kernels import dispatch
from ..machine.choices import Choices
from ..model.cache import Prefix
from ..model.text import Model, Progress
from ..model.weights import load_network
from ..text.chat import Message, render_prompt
from ..text.tokenizer import Tokenizer
from .conversation import Conversation, messages_for
from .fill import FillOptions, FillTurn, fill_turn
from .loading import Engine, load_engine
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


@dataclass
class Session:
    """A loaded model, and one conversation with it and its live cache."""

    engine: Engine
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

    def fill_turn(self, template: str, **options: Unpack[FillOptions]) -> FillTurn:
        """A template about to be filled, checked; iterate it for its frames.

        PromptError when it is no template, or does not fit into the context; FitError when it does
        not fit into memory.
        """
        return fill_turn(self.engine, self.conversation, template, **options)

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
        if self.task and not raw:
            prompt = self.task.prepare(prompt)
        tokens = self._prompt_ids(prompt, system, think, raw)
        config, settings = self.model.config, seeded(settings)
        budget = token_budget(config, len(tokens), settings.max_tokens)
        settings = replace(settings, max_tokens=budget)
        canvases = -(-budget // config.canvas_length)
        self.require_room(len(tokens) + canvases * config.canvas_length)
        sampler = describe_sampler(settings, config.sampler, budget)
        self.system = system or None
        engine, conversation = self.engine, self.conversation
        return Turn(engine, conversation, prompt, tokens, settings, sampler, raw, progress)

    def reset(self) -> None:
        """Forgets the conversation and its cache; the model and the system text stay."""
        self.conversation.reset()

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text."""
        self.conversation.restore(messages, system)

    @property
    def model(self) -> Model:
        """The network."""
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer and chat template."""
        return self.engine.tokenizer

    @property
    def info(self) -> ModelInfo:
        """The model as replies describe it."""
        return self.engine.info

    @property
    def task(self) -> Task | None:
        """The problem that an embedded checkpoint was trained on."""
        return self.engine.task

    @property
    def load_seconds(self) -> float:
        """Seconds that loading took."""
        return self.engine.load_seconds

    @property
    def dropped(self) -> tuple[str, ...]:
        """Tensors of the checkpoint that the network does not use."""
        return self.engine.dropped

    @property
    def tuned(self) -> Choices | None:
        """Choices for this machine, None for the engine's own behaviour."""
        return self.engine.tuned

    @property
    def require_room(self) -> Callable[[int], None]:
        """FitError for a number of positions whose cache does not fit into memory."""
        return self.engine.require_room

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

    def _prompt_ids(self, prompt: str, system: str | None, think: bool, raw: bool) -> list[int]:
        """The ids of the prompt behind the conversation so far; every puzzle starts a new one."""
        if raw:
            return self.tokenizer.encode(prompt)
        earlier = () if self.task else self.history
        return render_prompt(self.tokenizer, messages_for(prompt, system, earlier), think=think)


def load(
    model: str | Path,
    dtype: mx.Dtype | None = None,
    *,
    offline: bool = False,
    force: bool = False,
    consent: Consent | None = None,
    progress: Progress | None = None,
    choices: Choices | None = None,
) -> Session:
    """A Session with `model`: a folder, a repository id, or "tiny-sudoku".

    dtype: of the activations, None for the checkpoint's own. consent is asked before a download;
    without it only the local cache is looked at. FitError when it cannot fit, unless `force`.
    progress is told of loaded layers. choices: what suits this machine. SettingsError when
    $MLX_DIFFGEMMA_KERNELS asks for what this machine cannot do.
    """
    began = time.perf_counter()
    dispatch.require_usable()
    source = find_model(model, offline=offline, consent=consent)
    return Session(
        load_engine(source, dtype, force=force, progress=progress, choices=choices, began=began)
    )


def load_model(folder: str | Path, dtype: mx.Dtype | None = None) -> Model:
    """The network of a checkpoint folder alone; no tokenizer is looked for."""
    return load_network(find_model(folder, offline=True).folder, dtype).model
