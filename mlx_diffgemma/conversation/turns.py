"""Turns as a session begins them: questions, answers that go on, and templates, checked.

Each is made behind the conversation as it stands at that moment; an error leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..assets import Task
from ..autoregressive.lookup import lookup_of
from ..checkpoint.config import ModelConfig
from ..constrain.constraint import Constraint
from ..constrain.form import Form
from ..constrain.machine import Machine
from ..diffusion.infill import needed_positions
from ..diffusion.template import TokenTemplate
from ..errors import PromptError, Setting, SettingsError
from ..generation.prompt import positions_needed, token_budget
from ..generation.settings import Settings
from ..model.text import Progress
from ..text.chat import Message
from ..text.holes import Template
from .conversation import last_question
from .fill import FillTurn, prompt_before, token_template
from .form import AnswerForm, Tool
from .front import Front, config_of
from .media import Given
from .options import Asking
from .prompt import Prompt, as_it_is, messages_for, rendered
from .puzzle import read_puzzle
from .reply import SamplerInfo, describe_sampler
from .state import SessionState
from .turn import Turn


@dataclass(frozen=True)
class Filling:
    """A template as its turn takes it, checked; machines: the form of each hole, if it has one."""

    written: Template
    machines: tuple[Machine | None, ...]
    system: str | None
    raw: bool
    progress: Progress | None


@dataclass(frozen=True)
class Checked:
    """A question that can be answered: all that its turn is made of, but the model.

    settings: with as many tokens as may be returned; chosen: the caller's; positions: those that
    prompt and answer may take; form: of the answer; tools: that the model is told of.
    """

    question: Message
    asked: Prompt
    settings: Settings
    chosen: Settings
    sampler: SamplerInfo
    positions: int
    thinking: bool = False
    raw: bool = False
    form: AnswerForm | None = None
    tools: Sequence[Tool] = ()

    def constraint(self) -> Constraint | None:
        """The form on its way, at its beginning; errors as `AnswerForm.constraint` has them."""
        return self.form.constraint((), self.settings, self.chosen) if self.form else None

    def turn(self, session: SessionState, progress: Progress | None, **others: Any) -> Turn:
        """The turn of the question; others: more fields of Turn."""
        return Turn(
            *(session, self.question, self.asked, self.settings, self.sampler, self.raw, progress),
            thinking=self.thinking,
            lookup=lookup_of(self.settings, session.mode_times),
            tools=self.tools,
            form=self.form,
            constraint=self.constraint(),
            **others,
        )


def question_of(
    session: SessionState, prompt: str, given: Given, *, raw: bool
) -> tuple[Message, str | None]:
    """The user's message, and the problem in it that the session's task can check answers to.

    Images are decoded here, before the turn takes the conversation over.
    """
    model, tokenizer, task = session.model, session.tokenizer, session.task
    if task is None or raw:
        return Message("user", prompt, given.prepared(config_of(model), tokenizer)), None
    if given:
        pixels, puzzle = read_puzzle(model, tokenizer, task, prompt, given)
        return Message("user", "", (pixels,)), puzzle
    puzzle = task.prepare(prompt)
    return Message("user", puzzle), puzzle


def asked_of(
    front: Front,
    messages: Sequence[Message],
    *,
    think: bool = False,
    raw: bool = False,
    tools: Sequence[Tool] = (),
) -> Prompt:
    """The prompt of messages: rendered for answers, or raw as it is."""
    tokenizer, ids = front.tokenizer, front.config.image_ids
    if raw:
        return as_it_is(tokenizer, messages[-1], ids)
    return rendered(tokenizer, messages, front.task, think=think, tools=tools, image_ids=ids)


def checked(
    front: Front,
    question: Message,
    asked: Prompt,
    settings: Settings,
    form: Form | None,
    *,
    think: bool = False,
    raw: bool = False,
    tools: Sequence[Tool] = (),
) -> Checked:
    """A question with its prompt, checked; nothing asks whether memory has room for it."""
    limited, sampler = _limited(front.config, asked, settings)
    answer_form = front.forms.answer_form(form, asked, think=think, raw=raw)
    positions = _positions(front.config, asked, limited)
    found = Checked(
        *(question, asked, limited, settings, sampler, positions),
        *(think, raw, answer_form, tools),
    )
    found.constraint()
    return found


def question_turn(
    session: SessionState,
    question: Message,
    puzzle: str | None,
    settings: Settings,
    how: Asking,
    earlier: list[Message],
) -> Turn:
    """The turn of a question behind earlier messages."""
    over, front = _system_text(session, how.system), session.front
    replaced = last_question(earlier) if how.instead else None
    earlier = earlier[:-2] if how.instead else earlier
    messages = messages_for(question, over, [] if puzzle else earlier)
    asked = asked_of(front, messages, think=how.think, raw=how.raw, tools=how.tools)
    found = checked(
        *(front, question, asked, settings, how.form),
        think=how.think,
        raw=how.raw,
        tools=how.tools,
    )
    session.require_room(found.positions)
    session.system = over
    return found.turn(session, how.progress, puzzle=puzzle, replaced=replaced)


def rest_turn(session: SessionState, settings: Settings, progress: Progress | None) -> Turn:
    """The turn of the last answer, which was cut and goes on."""
    cut = session.conversation.require_cut()
    limited, sampler = _limited(session.model.config, cut.prompt, settings)
    session.require_room(_positions(session.model.config, cut.prompt, limited))
    turn = Turn(
        *(session, cut.question, cut.prompt, limited, sampler, False, progress, None),
        thinking=cut.thinking,
        replaced=cut.question,
        begun=cut.begun,
        tools=cut.tools,
        lookup=lookup_of(limited, session.mode_times),
        form=cut.form,
        constraint=cut.form.constraint(cut.begun, limited, settings) if cut.form else None,
    )
    if turn.reader.stopped is not None:
        raise SettingsError(
            Setting("stop"), " names a text that stands in the answer already; leave it out."
        )
    return turn


@dataclass(frozen=True)
class CheckedTemplate:
    """A template that can be filled: all that its turn is made of, but the model.

    positions: those that its prompt and its canvases take.
    """

    question: Message
    asked: Prompt
    settings: Settings
    sampler: SamplerInfo
    template: TokenTemplate
    how: Filling
    positions: int

    def turn(
        self, session: SessionState, progress: Progress | None, puzzle: str | None
    ) -> FillTurn:
        """The turn of the template."""
        how = self.how
        return FillTurn(
            *(session, self.question, self.asked, self.settings, self.sampler, how.raw, progress),
            puzzle=puzzle,
            template=self.template,
            fields=how.written.fields,
            machines=how.machines,
        )


def checked_template(
    front: Front, question: Message, settings: Settings, how: Filling, system: str | None
) -> CheckedTemplate:
    """A template behind a question of its own, checked but for memory."""
    config, tokenizer = front.config, front.tokenizer
    form = token_template(how.written, tokenizer, config.stop_ids, raw=how.raw)
    task = None if how.raw else front.task
    before = prompt_before(tokenizer, question, system, task, how.raw, config.image_ids)
    needed = needed_positions(config, len(before.ids), form, before.soft_tokens)
    sampler = describe_sampler(settings, config, sum(form.lengths))
    return CheckedTemplate(question, before, settings, sampler, form, how, needed)


def template_turn(
    session: SessionState, question: Message, puzzle: str | None, settings: Settings, how: Filling
) -> FillTurn:
    """The turn of a template behind a question of its own; earlier messages are not seen."""
    over = _system_text(session, how.system)
    found = checked_template(session.front, question, settings, how, over)
    session.require_room(found.positions)
    return found.turn(session, how.progress, puzzle)


def problem_template(task: Task, template: str, given: Given) -> tuple[str, str]:
    """A task's problem as a template and as a prompt; PromptError where images are given too."""
    if given:
        raise PromptError(
            "the template is the problem already, expected no image or video beside it; leave it "
            "out, or ask about the picture without a template."
        )
    return task.template(template)


def _system_text(session: SessionState, given: str | None) -> str | None:
    """The system text of a question that is given one, or none and keeps the session's."""
    return session.system if given is None else given or None


def _limited(
    config: ModelConfig, asked: Prompt, settings: Settings
) -> tuple[Settings, SamplerInfo]:
    """The settings with as many tokens as may be returned, and the sampler with them."""
    budget = token_budget(
        *(config, len(asked.ids), settings.max_tokens, asked.soft_tokens),
        mode=settings.certain_mode,
    )
    return replace(settings, max_tokens=budget), describe_sampler(settings, config, budget)


def _positions(config: ModelConfig, asked: Prompt, limited: Settings) -> int:
    """Positions that a prompt and its answer may take."""
    most, mode = limited.max_tokens or 0, limited.certain_mode
    return positions_needed(config, len(asked.ids), most, mode)
