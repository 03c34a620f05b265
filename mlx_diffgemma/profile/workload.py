"""The workload of a measurement: shipped prompts, a context of a given length, steps and seeds.

Fixed: every canvas takes the same number of steps, whatever its text, so that machines compare.
Adaptive: answers as a user gets them, to 20 shipped prompts; their number of steps is measured.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from filecmp import cmp
from importlib.resources import files
from itertools import count, cycle, islice
from pathlib import Path
from typing import Literal

from ..assets import embedded_folder
from ..checkpoint.config import ModelConfig
from ..conversation.reply import SamplerInfo
from ..conversation.session import Session
from ..errors import SettingsError
from ..generation.prompt import token_budget
from ..generation.settings import Settings
from ..text.tokenizer import Tokenizer

DEFAULT_CONTEXT = 1024
FEWEST = 5  # canvases: fewer say nothing about the spread
SHIPPED = 20  # prompts of a subject
TOKENIZER = "tokenizer.json"
WARM_UP = 2  # canvases that are run first and not counted


Subject = Literal["prompts", "puzzles", "chat"]
"""The shipped prompts by what they ask: anything, Sudokus, or the skills of tiny-chat."""


@dataclass(frozen=True)
class Prompt:
    """A shipped prompt, the kind of text that it asks for, and an answer that a person wrote."""

    name: str
    kind: str
    licence: str
    text: str
    answer: str


@dataclass(frozen=True)
class Workload:
    """The choices of a workload; SettingsError for those that cannot be measured.

    steps: of every canvas, None for adaptive; context: prompt positions, None for the prompts' own
    (fixed: 1,024 where the model holds them); canvases: measured with fixed steps; prompts, seeds
    and max_tokens (None: as `generate`): of the adaptive workload; seed: the first one.
    """

    steps: int | None = 16
    context: int | None = None
    canvases: int = FEWEST
    prompts: int = SHIPPED
    seeds: int = 3
    max_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise SettingsError(f"--steps is {self.steps}, expected a number from 1, or adaptive.")
        for name in ("prompts", "seeds", "context"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SettingsError(f"--{name} is {value}, expected at least 1.")
        if self.prompts > SHIPPED:
            raise SettingsError(f"--prompts is {self.prompts}, expected at most {SHIPPED}.")
        name = "--canvases is" if self.fixed else "--prompts times --seeds are"
        if self.answers < FEWEST:
            raise SettingsError(
                f"{name} {self.answers}, expected at least {FEWEST}: fewer say nothing about the "
                "spread."
            )

    @property
    def fixed(self) -> bool:
        """True where every canvas takes the same number of steps."""
        return self.steps is not None

    @property
    def settings(self) -> Settings:
        """The settings of its answers, but for seeds and the length of fixed ones."""
        if self.steps is None:
            return Settings(max_tokens=self.max_tokens)
        # So many equal canvases never come before the end.
        return Settings(max_denoising_steps=self.steps, stability_threshold=self.steps)

    @property
    def answers(self) -> int:
        """The number of answers to measure."""
        return self.canvases if self.fixed else self.prompts * self.seeds


@dataclass(frozen=True)
class Question:
    """One answer to measure: a prompt as token ids, and the settings with its seed."""

    prompt: Prompt
    tokens: tuple[int, ...]
    settings: Settings
    sampler: SamplerInfo

    @property
    def seed(self) -> int:
        """The seed of its answers."""
        return self.settings.seed or 0


def shipped_prompts(subject: Subject = "prompts") -> tuple[Prompt, ...]:
    """20 prompts of different kinds, or those for a checkpoint that knows little else."""
    file = files(__package__) / "data" / f"{subject}.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return tuple(
        Prompt(entry["name"], entry["kind"], entry["licence"], entry["prompt"], entry["answer"])
        for entry in content["prompts"]
    )


def subject_of(session: Session) -> Subject:
    """The prompts for a checkpoint: one with tiny-chat's tokenizer knows its skills alone."""
    if session.task is not None:
        return "puzzles"
    own, chat = Path(session.info.path) / TOKENIZER, embedded_folder("tiny-chat")
    known = chat is not None and own.exists() and cmp(own, chat / TOKENIZER, shallow=False)
    return "chat" if known else "prompts"


def questions(session: Session, workload: Workload) -> Iterator[Question]:
    """The questions of a workload, without end: all prompts with one seed, then with the next.

    A fixed workload takes one prompt, the first, with a new seed for every canvas.
    """
    prompts = shipped_prompts(subject_of(session))[: workload.prompts]
    if workload.fixed:
        prompts = prompts[:1]
    for seed in count(workload.seed):
        for prompt in prompts:
            yield _question(session, workload, prompt, seed)


def first_questions(session: Session, workload: Workload) -> list[Question]:
    """The questions to measure; SettingsError or PromptError where one cannot be asked."""
    return list(islice(questions(session, workload), workload.answers))


def _question(session: Session, workload: Workload, prompt: Prompt, seed: int) -> Question:
    wanted = _settings(session.model.config, workload, seed)
    turn = session.turn(prompt.text, settings=wanted, raw=is_raw(session))
    if (context := _context(session, workload)) is None:
        return Question(prompt, tuple(turn.prompt_ids), turn.settings, turn.sampler)
    if len(turn.prompt_ids) > context:
        raise SettingsError(
            f"--context is {context:,}, expected at least the {len(turn.prompt_ids):,} tokens of "
            f"the prompt {prompt.name!r}."
        )
    tokens = filled(session.tokenizer, subject_of(session), turn.prompt_ids, context)
    config = session.model.config
    budget = token_budget(config, context, wanted.max_tokens)
    session.require_room(context + -(-budget // config.canvas_length) * config.canvas_length)
    settings, sampler = replace(turn.settings, max_tokens=budget), turn.sampler
    return Question(prompt, tokens, settings, replace(sampler, max_tokens=budget))


def is_raw(session: Session) -> bool:
    """True where prompts go in without a template, because the checkpoint has none."""
    return session.tokenizer.chat_template is None


def _settings(config: ModelConfig, workload: Workload, seed: int) -> Settings:
    settings = replace(workload.settings, seed=seed)
    return replace(settings, max_tokens=config.canvas_length) if workload.fixed else settings


def _context(session: Session, workload: Workload) -> int | None:
    """The length that prompts are filled to; None where they keep their own."""
    config = session.model.config
    most = config.text.max_position_embeddings - config.canvas_length
    if workload.context is not None:
        if workload.context > most:
            raise SettingsError(
                f"--context is {workload.context:,}, expected at most {most:,} for this model: "
                f"{config.text.max_position_embeddings:,} positions and a canvas of "
                f"{config.canvas_length}."
            )
        return workload.context
    if session.task is not None or not workload.fixed:
        return None
    return min(DEFAULT_CONTEXT, most)


def filled(
    tokenizer: Tokenizer, subject: Subject, ids: Sequence[int], context: int
) -> tuple[int, ...]:
    """`ids` made `context` tokens long by shipped text inserted behind the first id."""
    texts = (f"{prompt.text}\n{prompt.answer}\n" for prompt in shipped_prompts(subject))
    filler = tokenizer.encode("".join(texts))
    return (*ids[:1], *islice(cycle(filler), context - len(ids)), *ids[1:])
