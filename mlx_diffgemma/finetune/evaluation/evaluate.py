"""Evaluation: the accuracy of a model on cases, by steps, mode and skill.

Each answer stands alone: no case sees another. All ways of a case are taken one after the other, so
that its prompt is encoded once and an evaluation cut short has seen all ways of the same cases.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx

from ...checkpoint.config import ModelConfig
from ...conversation.prompt import Prompt
from ...conversation.reply import Reply
from ...conversation.session import Session
from ...conversation.turn import Turn
from ...conversation.turns import Checked, checked
from ...errors import CheckpointError, DataError, Setting, SettingsError, brief
from ...generation.agreement import seeded
from ...generation.settings import MODES, OF_MODES, Settings
from ...machine.device import on_gpu
from ...model.host import host_model
from ...text.chat import Message, encode_written, name_of_tool, write_turns
from ...text.exchange import texts_of
from ...text.literal import Written
from ...text.masks import ASSISTANT
from ...text.reader import parse_answer
from .accuracy import Tally
from .cases import Case

MOST_NUMBERS = 250_000_000  # of a network that numpy may compute: a gigabyte of float32


@dataclass(frozen=True)
class Way:
    """A way to answer. steps: a canvas at most, None in mode ar; settings: without a seed."""

    mode: str
    steps: int | None
    settings: Settings

    def told(self, config: ModelConfig) -> "Way":
        """The way with the checkpoint's own number of steps where none is given."""
        if self.mode == "ar" or self.steps is not None:
            return self
        return replace(self, steps=self.settings.resolved(config, 0).sampler.max_denoising_steps)


@dataclass(frozen=True)
class Outcome:
    """An answer to a case; seed: that of its noise."""

    case: Case
    way: Way
    seed: int
    reply: Reply
    text: str  # with markers where those are compared
    correct: bool

    def tally(self) -> Tally:
        """The answer, counted."""
        denoised = sum(part.tokens for part in self.reply.segments if part.mode == "diffusion")
        return Tally(
            1,
            int(self.correct),
            self.reply.canvases,
            sum(self.reply.steps),
            denoised,
            self.reply.seconds.total,
            {self.case.line.number},
        )


@dataclass(frozen=True)
class Evaluation:
    """Cases to be answered by a session in several ways.

    seeds: answers a case and way, each with noise of its own. think and system are those of lines
    that say nothing themselves. Making it checks every prompt: the error about one that cannot be
    answered names its line.
    """

    session: Session
    cases: Sequence[Case]
    ways: Sequence[Way]
    seeds: int = 1
    think: bool | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        for case in self.cases:
            with case.line.read():
                for way in self.ways:
                    self._turn(case, way, 0)

    @property
    def total(self) -> int:
        """The number of answers."""
        return len(self.cases) * len(self.ways) * self.seeds

    def __iter__(self) -> Iterator[Outcome]:
        """Every answer, when it is done."""
        for case in self.cases:
            for way in self.ways:
                for number in range(self.seeds):
                    yield self._outcome(case, way, seed_of(number, case.line.number))

    def _outcome(self, case: Case, way: Way, seed: int) -> Outcome:
        turn = self._turn(case, way, seed)
        for _ in turn:
            pass
        reply, tokenizer = turn.reply(), self.session.tokenizer
        ids, stops = list(reply.token_ids), self.session.model.config.stop_ids
        answer = parse_answer(tokenizer, ids, stops, case.asking.tools)
        whole = tokenizer.decode(ids[:-1] if ids and ids[-1] in stops else ids, special=True)
        text = whole if case.marked else answer.text
        return Outcome(case, way, seed, reply, text, case.accepts(answer, whole))

    def _turn(self, case: Case, way: Way, seed: int) -> Turn:
        """The question, checked; nothing is computed before it is iterated."""
        session = self.session
        if session.task is not None:
            return session.turn(_problem(case), settings=way.settings, seed=seed)
        settings = seeded(replace(way.settings, seed=seed))
        settings.require_trained(session.model.config, session.name)
        found = self._checked(case, settings)
        session.require_room(found.positions)
        return session.conversation.begin(lambda _: found.turn(session, None, puzzle=None))

    def _checked(self, case: Case, settings: Settings) -> Checked:
        """The whole prompt behind which nothing is parsed: all that is written is compared."""
        session, media = self.session, case.asking.media
        text = self._prompt(case)
        encoded = encode_written(session.tokenizer, text, media, session.model.config.image_ids)
        asked = Prompt(encoded.ids, images=encoded.images)
        question = Message("user", text.text, media)
        return checked(session.front, question, asked, settings, None, raw=True)

    def _prompt(self, case: Case) -> Written:
        """The whole prompt, rendered by the chat template as prompts to learn are."""
        messages, tools = list(case.questions), case.asking.tools
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        think = bool(self.think if case.think is None else case.think)
        tokenizer = self.session.tokenizer
        text = write_turns(tokenizer, messages, tools=tools, think=think, trusted=ASSISTANT)
        given = {name_of_tool(tool): "the tool" for tool in tools}
        for message in messages:
            given |= dict.fromkeys(texts_of(message), f"the {message['role']}'s text")
        for part, what in given.items():
            if part.strip() not in text.text:
                raise CheckpointError(
                    f"{tokenizer.folder}: the chat template leaves out {what} {brief(part)}; leave "
                    "it out of the line, or put another template into chat_template.jinja."
                )
        return text


def require_seeds(count: int) -> None:
    """SettingsError for a number of answers a case that is none."""
    if not 1 <= count < 2**32:
        raise SettingsError(Setting("seeds"), f" is {count}, expected 1 or more, below 2**32.")


def seed_of(number: int, line: int) -> int:
    """The seed of answer `number`, from 0, to the case in a line: no two are the same."""
    return number << 32 | line


def ways_of(
    modes: Sequence[str], steps: Sequence[int | None], fields: Mapping[str, Any]
) -> list[Way]:
    """Each mode with each number of steps, but for mode ar, which has none.

    steps: None for the checkpoint's own. fields: of Settings; each goes to the modes that know it.
    SettingsError for one that no mode knows, for a mode or a number of steps that is none, or is
    there twice.
    """
    for name, values in (("mode", modes), ("max_denoising_steps", steps)):
        if twice := next((v for n, v in enumerate(values) if v in values[:n]), None):
            raise SettingsError(Setting(name), f" has {twice} twice; leave one out.")
    made: list[Way] = []
    for mode in modes:
        if mode not in MODES:
            raise SettingsError(
                Setting("mode"), f" is {brief(mode)}, expected some of {', '.join(MODES)}."
            )
        own = {k: v for k, v in fields.items() if mode in OF_MODES.get(k, MODES)}
        counts: Sequence[int | None] = [None] if mode == "ar" else steps
        made += [Way(mode, n, Settings(mode=mode, max_denoising_steps=n, **own)) for n in counts]
    _require_used(modes, steps, fields)
    return made


def _require_used(
    modes: Sequence[str], steps: Sequence[int | None], fields: Mapping[str, Any]
) -> None:
    """SettingsError for a setting that no mode takes."""
    given = {name for name, value in fields.items() if value is not None and value is not False}
    given |= {"max_denoising_steps"} if any(n is not None for n in steps) else set()
    for name in sorted(given):
        if not set(modes) & set(wanted := OF_MODES.get(name, MODES)):
            raise SettingsError(
                *(Setting(name), f" is for mode {' or '.join(wanted)}, and "),
                *(Setting("mode"), f" is {', '.join(modes)}; leave it out, or add one of them."),
            )


def let_numpy_compute(session: Session) -> bool:
    """Give a small network on the CPU to numpy, which is four to seven times as fast there.

    True where that was done: the network's numbers, rounded in another order. A larger one, or one
    that computes in 16 bits, stays as it is.
    """
    if on_gpu() or session.model.dtype != mx.float32 or session.info.parameters > MOST_NUMBERS:
        return False
    session.model = host_model(session.model)
    return True


@dataclass
class Scores:
    """Tallies by way and skill, in the order in which they came."""

    ways: Sequence[Way]
    tallies: dict[tuple[int, str | None], Tally] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one more answer."""
        number = next(n for n, way in enumerate(self.ways) if way is outcome.way)
        self.tallies.setdefault((number, outcome.case.skill), Tally()).add(outcome.tally())

    def rows(self) -> Iterator[tuple[Way, str | None, Tally]]:
        """Each way's skills, and behind them all of its answers under None."""
        for number, way in enumerate(self.ways):
            own = {skill: tally for (n, skill), tally in self.tallies.items() if n == number}
            if own:
                named = ((skill, tally) for skill, tally in own.items() if skill is not None)
                yield from ((way, skill, tally) for skill, tally in named)
                yield way, None, Tally.together(own.values())

    @property
    def whole(self) -> Tally:
        """All answers so far."""
        return Tally.together(self.tallies.values())

    @property
    def accuracy(self) -> float:
        """That of all answers so far, for a look at each of them: `whole` gathers their cases."""
        tallies = self.tallies.values()
        return sum(t.correct for t in tallies) / max(1, sum(t.n for t in tallies))


def _problem(case: Case) -> str:
    """The text of a problem that the session's task knows."""
    (question, *more), asking = case.questions, case.asking
    if more or asking.tools or asking.media or not isinstance(question["content"], str):
        raise DataError("more than one text, expected the problem alone, which this model solves.")
    return question["content"]
