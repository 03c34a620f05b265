"""One conversation with a loaded model: prompts in, frames and replies out."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import mlx.core as mx

from ..assets import embedded_task
from ..checkpoint.config import read_config
from ..checkpoint.hub import Consent, Source, find_model
from ..diffusion.denoise import Frame, token_budget
from ..diffusion.settings import Settings
from ..errors import CheckpointError, PromptError
from ..kernels import dispatch
from ..machine.choices import Choices
from ..model.memory import fit_check
from ..model.text import Model, Progress
from ..model.weights import Loaded, load_network
from ..text.chat import render_prompt
from ..text.tokenizer import load_tokenizer
from .conversation import SessionState, any_context
from .fill import FillOptions, FillTurn, fill_turn
from .reply import Filled, ModelInfo, Reply
from .turn import Turn, describe_sampler, seeded


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


class Session(SessionState):
    """A loaded model, its tokenizer, and one conversation with its live cache."""

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
        if raw:
            tokens = self.tokenizer.encode(prompt)
        else:
            tokens = render_prompt(self.tokenizer, self.messages_with(system, prompt), think=think)
        settings = seeded(settings)
        config = self.model.config
        budget = token_budget(config, len(tokens), settings.max_tokens)
        settings = replace(settings, max_tokens=budget)
        canvases = -(-budget // config.canvas_length)
        self.require_room(len(tokens) + canvases * config.canvas_length)
        described = describe_sampler(settings, config.sampler, budget)
        self.system = system or None
        return Turn(self, prompt, tokens, settings, described, raw, progress)


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
    check = any_context if force else fit_check(source.folder, name, choices)
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
        limit = mx.device_info(mx.gpu)["max_recommended_working_set_size"]
        mx.set_wired_limit(int(limit))
