"""Turns as a session begins them: questions, answers that go on, and templates, checked.

Each is made behind the conversation as it stands at that moment; an error leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..assets import Task
from ..autoregressive.lookup import lookup_of
from ..constrain.machine import Machine
from ..diffusion.infill import needed_positions
from ..errors import PromptError, Setting, SettingsError
from ..generation.prompt import positions_needed, token_budget
from ..generation.settings import Settings
from ..model.text import Progress
from ..text.chat import Message
from ..text.holes import Template
from .conversation import last_question
from .fill import FillTurn, prompt_before, token_template
from .form import Tool
from .media import Given
from .options import Asking
from .prompt import Prompt, as_it_is, messages_for, rendered
from .puzzle import read_puzzle
from .reply import SamplerInfo, describe_sampler
from .turn import Turn

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Filling:
    """A template as its turn takes it, checked; machines: the form of each hole, if it has one."""

    written: Template
    machines: tuple[Machine | None, ...]
    system: str | None
    raw: bool
    progress: Progress | None


def question_of(
    session: Session, prompt: str, given: Given, *, raw: bool
) -> tuple[Message, str | None]:
    """The user's message, and the problem in it that the session's task can check answers to.

    Images are decoded here, before the turn takes the conversation over.
    """
    model, tokenizer, task = session.model, session.tokenizer, session.task
    if task is None or raw:
        return Message("user", prompt, given.prepared(model, tokenizer)), None
    if given:
        pixels, puzzle = read_puzzle(model, tokenizer, task, prompt, given)
        return Message("user", "", (pixels,)), puzzle
    puzzle = task.prepare(prompt)
    return Message("user", puzzle), puzzle


def asked_of(
    session: Session,
    messages: Sequence[Message],
    *,
    think: bool = False,
    raw: bool = False,
    tools: Sequence[Tool] = (),
) -> Prompt:
    """The prompt of the last message: behind the others, or raw as it is."""
    tokenizer, ids = session.tokenizer, session.model.config.image_ids
    if raw:
        return as_it_is(tokenizer, messages[-1], ids)
    return rendered(tokenizer, messages, session.task, think=think, tools=tools, image_ids=ids)


def question_turn(
    session: Session,
    question: Message,
    puzzle: str | None,
    settings: Settings,
    how: Asking,
    earlier: list[Message],
) -> Turn:
    """The turn of a question behind earlier messages."""
    over = _system_text(session, how.system)
    replaced = last_question(earlier) if how.instead else None
    earlier = earlier[:-2] if how.instead else earlier
    messages = messages_for(question, over, [] if puzzle else earlier)
    asked = asked_of(session, messages, think=how.think, raw=how.raw, tools=how.tools)
    limited, sampler = _limited(session, asked, settings)
    form = session.forms.answer_form(how.form, asked, think=how.think, raw=how.raw)
    constraint = form.constraint((), limited, settings) if form else None
    session.system = over
    return Turn(
        *(session, question, asked, limited, sampler, how.raw, how.progress, puzzle),
        thinking=how.think,
        replaced=replaced,
        lookup=lookup_of(limited, session.mode_times),
        form=form,
        constraint=constraint,
    )


def rest_turn(session: Session, settings: Settings, progress: Progress | None) -> Turn:
    """The turn of the last answer, which was cut and goes on."""
    cut = session.conversation.require_cut()
    limited, sampler = _limited(session, cut.prompt, settings)
    turn = Turn(
        *(session, cut.question, cut.prompt, limited, sampler, False, progress, None),
        thinking=cut.thinking,
        replaced=cut.question,
        begun=cut.begun,
        lookup=lookup_of(limited, session.mode_times),
        form=cut.form,
        constraint=cut.form.constraint(cut.begun, limited, settings) if cut.form else None,
    )
    if turn.reader.stopped is not None:
        raise SettingsError(
            Setting("stop"), " names a text that stands in the answer already; leave it out."
        )
    return turn


def template_turn(
    session: Session, question: Message, puzzle: str | None, settings: Settings, how: Filling
) -> FillTurn:
    """The turn of a template behind a question of its own; earlier messages are not seen."""
    config, tokenizer = session.model.config, session.tokenizer
    form = token_template(how.written, tokenizer, config.stop_ids, raw=how.raw)
    over, task = _system_text(session, how.system), None if how.raw else session.task
    before = prompt_before(tokenizer, question, over, task, how.raw, config.image_ids)
    session.require_room(needed_positions(config, len(before.ids), form, before.soft_tokens))
    sampler = describe_sampler(settings, config, sum(form.lengths))
    return FillTurn(
        *(session, question, before, settings, sampler, how.raw, how.progress, puzzle),
        template=form,
        fields=how.written.fields,
        machines=how.machines,
    )


def problem_template(task: Task, template: str, given: Given) -> tuple[str, str]:
    """A task's problem as a template and as a prompt; PromptError where images are given too."""
    if given:
        raise PromptError(
            "the template is the problem already, expected no image or video beside it; leave it "
            "out, or ask about the picture without a template."
        )
    return task.template(template)


def _system_text(session: Session, given: str | None) -> str | None:
    """The system text of a question that is given one, or none and keeps the session's."""
    return session.system if given is None else given or None


def _limited(session: Session, asked: Prompt, settings: Settings) -> tuple[Settings, SamplerInfo]:
    """The settings with as many tokens as may be returned, and the sampler with them."""
    config, prompt_length = session.model.config, len(asked.ids)
    mode = settings.certain_mode
    budget = token_budget(config, prompt_length, settings.max_tokens, asked.soft_tokens, mode=mode)
    session.require_room(positions_needed(config, prompt_length, budget, mode))
    sampler = describe_sampler(settings, config, budget)
    return replace(settings, max_tokens=budget), sampler
