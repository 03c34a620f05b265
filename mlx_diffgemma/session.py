"""One conversation with a loaded model: prompts in, frames and replies out.

The session keeps the keys and values of what it has encoded. A further question goes back to the
longest token prefix that old and new prompt share, and encodes exactly the rest.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import mlx.core as mx

from .assets import Task, embedded_task
from .choices import Choices
from .config import SamplerDefaults, read_config
from .diffusion.denoise import Frame, denoise, fresh_seed, token_budget
from .diffusion.settings import Settings
from .errors import CheckpointError, PromptError
from .footprint import fit_check
from .hub import Consent, Source, find_model
from .kernels import dispatch
from .model.cache import Prefix
from .model.text import Model, Progress
from .model.weights import Loaded, load_network
from .reply import Filled, ModelInfo, Reply, SamplerInfo, Seconds
from .text.chat import Answer, Message, longest_common_prefix, parse_answer, render_prompt
from .text.tokenizer import Tokenizer, load_tokenizer
from .version import __version__

if TYPE_CHECKING:
    from .filling import FillTurn


class TurnOptions(TypedDict, total=False):
    """How a question is to be answered.

    system: replaces the session's system text from here on, "" removes it; think: let the model
    write a thought first; raw: the prompt's tokens as they are, no template, no history, channels
    not parsed; progress: told of encoded prompt positions.
    """

    settings: Settings | None
    system: str | None
    think: bool
    raw: bool
    progress: Progress | None


class FillOptions(TypedDict, total=False):
    """How a template is to be filled.

    prompt: what to write, free and by default empty; gaps: tokens of the `[[...]]` holes, one
    number for all or one each, by default 32; system: in place of the session's system text; raw:
    the prompt's tokens as they are, no template around them; progress: told of encoded positions.
    """

    prompt: str
    gaps: int | Sequence[int] | None
    settings: Settings | None
    system: str | None
    raw: bool
    progress: Progress | None


def _any_context(context: int) -> None:
    """Checks nothing: the user takes the risk."""


@dataclass
class Session:
    """A loaded model, its tokenizer, and one conversation with its live cache."""

    model: Model
    tokenizer: Tokenizer
    info: ModelInfo
    task: Task | None = None
    load_seconds: float = 0.0
    dropped: tuple[str, ...] = ()
    tuned: Choices | None = None
    require_room: Callable[[int], None] = _any_context  # FitError for positions beyond the memory
    system: str | None = None
    history: list[Message] = field(default_factory=list)
    prefix: Prefix | None = None

    def reset(self) -> None:
        """Forgets the conversation and its cache; the model and the system text stay."""
        self.history.clear()
        self.prefix = None

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text."""
        for number, message in enumerate(messages):
            expected = ("user", "assistant")[number % 2]
            if message.role != expected:
                raise PromptError(
                    f"message {number + 1} of the conversation is the {message.role}'s, expected "
                    f"the {expected}'s; questions and answers take turns."
                )
        if len(messages) % 2:
            raise PromptError(
                "the conversation ends with a question; leave it out, and ask it again."
            )
        self.history[:] = messages
        self.system = system or None

    @property
    def context_used(self) -> int:
        """Positions that are encoded, of `context_length`; the next question goes behind most."""
        return self.prefix.length if self.prefix else 0

    @property
    def context_length(self) -> int:
        """Positions the model has for prompt and answer."""
        return self.model.config.text.max_position_embeddings

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

    def fill_turn(self, template: str, **options: Unpack[FillOptions]) -> "FillTurn":
        """A template about to be filled, checked; iterate it for its frames.

        PromptError when it is no template, or does not fit into the context; FitError when it does
        not fit into memory.
        """
        from .filling import fill_turn  # it is built on Turn

        return fill_turn(self, template, **options)

    def turn(
        self,
        prompt: str,
        *,
        settings: Settings | None = None,
        system: str | None = None,
        think: bool = False,
        raw: bool = False,
        progress: Progress | None = None,
    ) -> "Turn":
        """A question about to be answered, checked; nothing is computed before it is iterated.

        For the options see TurnOptions. PromptError when prompt and canvases do not fit into the
        context, FitError when their cache does not fit into memory.
        """
        if not prompt.strip():
            raise PromptError("the prompt is empty, expected some text.")
        system = self.system if system is None else system
        if self.task and not raw:
            prompt = self.task.prepare(prompt)
        if raw:
            tokens = self.tokenizer.encode(prompt)
        else:
            tokens = render_prompt(self.tokenizer, self._messages(system, prompt), think=think)
        settings = seeded(settings)
        config = self.model.config
        budget = token_budget(config, len(tokens), settings.max_tokens)
        settings = replace(settings, max_tokens=budget)
        canvases = -(-budget // config.canvas_length)
        self.require_room(len(tokens) + canvases * config.canvas_length)
        described = describe_sampler(settings, config.sampler, budget)
        self.system = system or None
        return Turn(self, prompt, tokens, settings, described, raw, progress)

    def _messages(self, system: str | None, prompt: str) -> list[Message]:
        """The conversation so far and the new question; every puzzle starts a new one."""
        earlier = [] if self.task else self.history
        first = [Message("system", system)] if system else []
        return [*first, *earlier, Message("user", prompt)]

    def rewind(self, tokens: Sequence[int]) -> Prefix:
        """The prefix, gone back to what it shares with `tokens`."""
        if self.prefix is None:
            self.prefix = self.model.new_prefix()
        self.prefix.roll_back(longest_common_prefix(self.prefix.tokens, tokens))
        return self.prefix


@dataclass
class Turn:
    """One question being answered. Iterate it once for its frames; ask it for the Reply any time.

    An iteration given up early leaves a Reply with the finished canvases and the finish reason
    "interrupted"; they also enter the conversation.
    """

    session: Session
    prompt: str
    prompt_ids: list[int]
    settings: Settings
    sampler: SamplerInfo
    raw: bool
    progress: Progress | None
    committed: list[Frame] = field(default_factory=list)
    text_end: int | None = None  # where a stop text cuts the answer
    denoise_seconds: float = 0.0
    encode_seconds: list[float] = field(default_factory=list)
    first_canvas: float | None = None
    total: float = 0.0

    def __iter__(self) -> Iterator[Frame]:
        began = time.perf_counter()
        mx.reset_peak_memory()
        frames = self._frames(self.session.rewind(self.prompt_ids))
        try:
            for frame in frames:
                self.total = time.perf_counter() - began
                yield self._seen(frame)
                if self._finish_reason():
                    return
        finally:
            self.total = time.perf_counter() - began
            self._remember()

    def _frames(self, prefix: Prefix) -> Iterator[Frame]:
        return denoise(
            self.session.model,
            self.prompt_ids,
            self.settings,
            prefix=prefix,
            progress=self.progress,
        )

    def reply(self) -> Reply:
        """The answer as far as it has come."""
        ids = [int(token) for frame in self.committed for token in frame.tokens]
        answer = self._answer(ids)
        steps = [frame.step + 1 for frame in self.committed]
        canvas_length = self.session.model.config.canvas_length
        return Reply(
            text=answer.text[: self.text_end],
            thinking=answer.thinking,
            tool_calls=answer.tool_calls,
            token_ids=tuple(ids),
            finish_reason=self._finish_reason() or "interrupted",
            seed=self.settings.seed or 0,
            prompt_tokens=len(self.prompt_ids),
            generated_tokens=len(ids),
            canvases=len(steps),
            steps=tuple(steps),
            tokens_per_step=ratio(len(ids), sum(steps)),
            seconds=self._seconds(),
            tokens_per_second=ratio(len(ids), self.total),
            positions_per_second=ratio(canvas_length * len(steps), self.total),
            peak_memory_bytes=mx.get_peak_memory(),
            sampler=self.sampler,
            model=self.session.info,
            tuned=self.session.tuned,
            kernels="metal" if dispatch.running() else "ops",
            version=__version__,
        )

    @property
    def finished(self) -> bool:
        """Whether the answer has come to its end."""
        return self._finish_reason() is not None

    @property
    def stop_ids(self) -> Collection[int]:
        """What ends an answer; tokens behind it are no part of it."""
        return self.session.model.config.stop_ids

    def messages(self) -> list[Message]:
        """Question and answer as a conversation holds them: without thoughts."""
        return [Message("user", self.prompt), Message("assistant", self.reply().text)]

    def problem(self) -> str | None:
        """Why the answer does not solve the puzzle an embedded checkpoint was given, or None."""
        if self.session.task is None or self.raw:
            return None
        return self.session.task.problem(self.prompt, self.reply().text)

    def _seconds(self) -> Seconds:
        return Seconds(
            load=self.session.load_seconds,
            prefill=self.encode_seconds[0] if self.encode_seconds else 0.0,
            denoise=self.denoise_seconds,
            commit=sum(self.encode_seconds[1:], 0.0),
            first_canvas=self.first_canvas,
            total=self.total,
        )

    def _finish_reason(self) -> str | None:
        return self.committed[-1].finish_reason if self.committed else None

    def _seen(self, frame: Frame) -> Frame:
        """Counts a frame in, gives it its text, and applies the stop texts to a committed one."""
        if frame.canvas == len(self.encode_seconds):
            self.encode_seconds.append(frame.encode_seconds)
        self.denoise_seconds += frame.seconds
        if frame.committed:
            frame = self._stopped(frame)
            self.committed.append(frame)
            if self.first_canvas is None:
                self.first_canvas = self.total
        return replace(frame, text=self.session.tokenizer.decode(frame.tokens.tolist()))

    def _stopped(self, frame: Frame) -> Frame:
        """The frame, cut after the token that completes the first stop text, if there is one."""
        before = [int(token) for done in self.committed for token in done.tokens]
        tokens = frame.tokens.tolist()
        if not self._stop_places([*before, *tokens]):
            return frame
        count, places = next(
            (n, places)
            for n in range(len(tokens) + 1)
            if (places := self._stop_places([*before, *tokens[:n]]))
        )
        self.text_end = min(places)
        return replace(frame, tokens=frame.tokens[:count], finish_reason="stop")

    def _stop_places(self, ids: list[int]) -> list[int]:
        """Where stop texts begin in the answer's text."""
        text = self._answer(ids).text if self.settings.stop else ""
        return [at for stop in self.settings.stop if (at := text.find(stop)) >= 0]

    def _answer(self, ids: list[int]) -> Answer:
        if not self.raw:
            return parse_answer(self.session.tokenizer, ids, self.stop_ids)
        kept = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        return Answer(self.session.tokenizer.decode(kept, special=True), None, ())

    def _remember(self) -> None:
        """Puts question and answer into the conversation, the answer without its thoughts."""
        if self.committed and not self.raw and self.session.task is None:
            # At once: an interrupt must not leave a question without its answer.
            self.session.history += self.messages()


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
    name = None if dtype is None else str(dtype).rpartition(".")[2]
    check = _any_context if force else fit_check(source.folder, name, choices)
    check(0)
    tokenizer = load_tokenizer(source.folder)
    vocab_size = read_config(source.folder).text.vocab_size
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{source.folder / 'tokenizer.json'} has ids up to {tokenizer.vocab_size - 1}, the "
            f"model has {vocab_size}; the tokenizer belongs to another checkpoint."
        )
    loaded = load_network(source.folder, dtype, progress, choices)
    _use_all_gpu_memory()
    return Session(
        loaded.model,
        tokenizer,
        _describe(source, loaded),
        embedded_task(source.folder),
        load_seconds=time.perf_counter() - began,
        dropped=loaded.dropped,
        tuned=choices,
        require_room=check,
    )


def load_model(folder: str | Path, dtype: mx.Dtype | None = None) -> Model:
    """The network of a checkpoint folder alone; no tokenizer is looked for."""
    return load_network(find_model(folder, offline=True).folder, dtype).model


def _describe(source: Source, loaded: Loaded) -> ModelInfo:
    config = loaded.model.config
    return ModelInfo(
        path=str(source.folder),
        revision=source.revision,
        quantization=config.quantization.default.name if config.quantization else None,
        layers=len(config.text.layers),
        parameters=loaded.num_parameters,
    )


def _use_all_gpu_memory() -> None:
    """Lets Metal keep the weights resident, as mlx-lm does; elsewhere there is no such limit."""
    if mx.metal.is_available():
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))


def seeded(settings: Settings | None) -> Settings:
    """The settings, with a fresh seed where none was chosen."""
    settings = settings or Settings()
    return settings if settings.seed is not None else replace(settings, seed=fresh_seed())


def describe_sampler(settings: Settings, defaults: SamplerDefaults, max_tokens: int) -> SamplerInfo:
    """The sampler as a Reply tells of it."""
    return SamplerInfo(
        max_tokens=max_tokens,
        stop=settings.stop,
        exact_self_conditioning=settings.exact_self_conditioning,
        **asdict(settings.resolved(defaults, 0).sampler),
    )


def ratio(count: float, by: float) -> float | None:
    """A rate; None where nothing was measured."""
    return count / by if by else None
