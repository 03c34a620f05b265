"""A session: a loaded model and one conversation with it, prompts in, frames and replies out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

from ..assets import Task
from ..autoregressive.lookup import lookup_of
from ..autoregressive.router import Router, Times
from ..decide.decide import Calibrated, decide
from ..decide.decision import Decision
from ..decide.options import Options
from ..decide.questions import Question
from ..decide.reader import LoadedModel
from ..diffusion.infill import needed_positions
from ..errors import DiffGemmaError, PromptError, Setting, SettingsError, brief, counted
from ..generation.frame import Frame
from ..generation.prompt import positions_needed, token_budget
from ..generation.settings import SettingFields, Settings, merged
from ..machine.chips import this_chip
from ..machine.choices import Choices, ModeTimes
from ..model.cache import Prefix
from ..model.text import Model, Progress
from ..text.chat import Message, require_no_template
from ..text.holes import read_template
from ..text.placeholders import Medium
from ..text.tokenizer import Tokenizer
from .conversation import Conversation, last_question
from .deciding import DecideOptions, loaded_model, request_of
from .fill import FillOptions, FillTurn, prompt_before, require_fillable, token_template
from .form import ANY_TOOL, Forms, Tool, Wanted
from .media import Given, require_sight
from .options import Asking, MoreOptions, TurnOptions
from .prompt import Prompt, as_it_is, messages_for, rendered, require_text
from .puzzle import read_puzzle
from .reply import Filled, ModelInfo, Reply, SamplerInfo, describe_sampler
from .times import Clock, estimate, measure
from .turn import Turn, seeded


def any_context(context: int) -> None:
    """Checks nothing: the user takes the risk."""


@dataclass
class Session:
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
    require_room: Callable[[int], None] = any_context
    name: str = "this checkpoint"
    adapter: str | None = None
    clock: Clock = field(default_factory=Clock)
    conversation: Conversation = field(default_factory=Conversation)

    def __repr__(self) -> str:
        used = f"{self.context_used:,} of {self.context_length:,} positions"
        return f"Session({brief(self.name)}, {counted(len(self.history), 'message')}, {used})"

    def ask(self, prompt: str, **options: Unpack[TurnOptions]) -> Reply:
        """The whole answer to `prompt`; asking again continues the conversation."""
        turn = self.turn(prompt, **options)
        for _ in turn:
            pass
        return turn.reply()

    def stream(self, prompt: str, **options: Unpack[TurnOptions]) -> Iterator[Frame]:
        """The answer to `prompt` as frames, each when it is done."""
        return iter(self.turn(prompt, **options))

    def more(self, **options: Unpack[MoreOptions]) -> Reply:
        """The last answer, which was cut, gone on with: one message, in the conversation too."""
        turn = self.more_turn(**options)
        for _ in turn:
            pass
        return turn.reply()

    def fill(self, template: str, **options: Unpack[FillOptions]) -> Filled:
        """`template` with its holes, `[[...]]`, `[[12]]` or `[[name:regex]]`, filled.

        All else stays as it is. It stands alone: the conversation is neither seen nor continued.
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
        images: Any = (),
        video: Any = None,
        image_tokens: int | None = None,
        instead: bool = False,
        schema: Mapping[str, Any] | bool | None = None,
        pattern: str | None = None,
        choices: Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str = ANY_TOOL,
        **fields: Unpack[SettingFields],
    ) -> Turn:
        """A question about to be answered, checked; nothing is computed before it is iterated.

        It takes the conversation over: a turn that is still on its way ends here. For the options
        see TurnOptions. PromptError when prompt and answer do not fit into the context, FitError
        when their cache does not fit into memory, SettingsError for a mode that the checkpoint was
        not trained for, a setting given twice, or system, think or tools beside raw; for what may
        be wrong with images see `Given.prepared`, with a form `Wanted.form` and
        `AnswerForm.constraint`. PromptError, too, for instead where nothing was asked.
        """
        require_text(prompt)
        settings = seeded(merged(settings, fields))
        settings.require_trained(self.model.config, self.name)
        given = Given(images, video, image_tokens)
        if not prompt.strip() and not given:
            raise PromptError("the prompt is empty, expected some text.")
        if raw:
            require_no_template(system=system, think=think, tools=tools)
        form = Wanted(schema, pattern, choices, tools, tool_choice).form()
        question, puzzle = self._question(prompt, given, raw=raw)
        how = Asking(form, tools, system, think, raw, instead, progress)
        return self.conversation.begin(partial(self._turn, question, puzzle, settings, how))

    def _turn(
        self,
        question: Message,
        puzzle: str | None,
        settings: Settings,
        how: Asking,
        earlier: list[Message],
    ) -> Turn:
        """The turn of a question behind earlier messages."""
        over = self._system_text(how.system)
        replaced = last_question(earlier) if how.instead else None
        earlier = earlier[:-2] if how.instead else earlier
        messages = messages_for(question, over, [] if puzzle else earlier)
        asked = self._asked(messages, think=how.think, raw=how.raw, tools=how.tools)
        limited, sampler = self._limited(asked, settings)
        form = self.forms.answer_form(how.form, asked, think=how.think, raw=how.raw)
        constraint = form.constraint((), limited, settings) if form else None
        self.system = over
        return Turn(
            *(self, question, asked, limited, sampler, how.raw, how.progress, puzzle),
            thinking=how.think,
            replaced=replaced,
            lookup=lookup_of(limited, self.mode_times),
            form=form,
            constraint=constraint,
        )

    def more_turn(
        self,
        *,
        settings: Settings | None = None,
        progress: Progress | None = None,
        **fields: Unpack[SettingFields],
    ) -> Turn:
        """The last answer about to go on, checked: one that was cut, or interrupted.

        Its form, if it has one, holds to its end. It takes the conversation over, as a question
        does, and may be of another mode. TurnError where no answer can go on, SettingsError where a
        stop text stands in it already; the others are those of `turn`.
        """
        settings = seeded(merged(settings, fields))
        settings.require_trained(self.model.config, self.name)

        def made(_: list[Message]) -> Turn:
            cut = self.conversation.require_cut()
            limited, sampler = self._limited(cut.prompt, settings)
            constraint = cut.form.constraint(cut.begun, limited, settings) if cut.form else None
            turn = Turn(
                *(self, cut.question, cut.prompt, limited, sampler, False, progress, None),
                thinking=cut.thinking,
                replaced=cut.question,
                begun=cut.begun,
                lookup=lookup_of(limited, self.mode_times),
                form=cut.form,
                constraint=constraint,
            )
            if turn.reader.stopped is not None:
                raise SettingsError(
                    Setting("stop"),
                    " names a text that stands in the answer already; leave it out.",
                )
            return turn

        return self.conversation.begin(made)

    def _asked(
        self,
        messages: Sequence[Message],
        *,
        think: bool = False,
        raw: bool = False,
        tools: Sequence[Tool] = (),
    ) -> Prompt:
        """The prompt of the last message: behind the others, or raw as it is."""
        tokenizer, ids = self.tokenizer, self.model.config.image_ids
        if raw:
            return as_it_is(tokenizer, messages[-1], ids)
        return rendered(tokenizer, messages, self.task, think=think, tools=tools, image_ids=ids)

    @cached_property
    def forms(self) -> Forms:
        """The forms that answers of this session can have."""
        return Forms(self.tokenizer, self.model.config)

    def prepared(
        self, images: Any = (), video: Any = None, image_tokens: int | None = None
    ) -> tuple[Medium, ...]:
        """Images and a video as the network takes them, checked; see TurnOptions for the options.

        A turn takes them as they are, and decodes nothing again.
        """
        return Given(images, video, image_tokens).prepared(self.model, self.tokenizer, self.task)

    def _question(self, prompt: str, given: Given, *, raw: bool) -> tuple[Message, str | None]:
        """The user's message, and the problem in it that the session's task can check answers to.

        Images are decoded here, before the turn takes the conversation over.
        """
        if self.task is None or raw:
            return Message("user", prompt, given.prepared(self.model, self.tokenizer)), None
        if given:
            pixels, puzzle = read_puzzle(self.model, self.tokenizer, self.task, prompt, given)
            return Message("user", "", (pixels,)), puzzle
        puzzle = self.task.prepare(prompt)
        return Message("user", puzzle), puzzle

    def _limited(self, asked: Prompt, settings: Settings) -> tuple[Settings, SamplerInfo]:
        """The settings with as many tokens as may be returned, and the sampler with them."""
        config, prompt_length = self.model.config, len(asked.ids)
        mode = settings.certain_mode
        budget = token_budget(
            config, prompt_length, settings.max_tokens, asked.soft_tokens, mode=mode
        )
        self.require_room(positions_needed(config, prompt_length, budget, mode))
        sampler = describe_sampler(settings, config, budget)
        return replace(settings, max_tokens=budget), sampler

    def router(self, settings: Settings, thinking: bool) -> Router:
        """The router of an answer in mode auto; times are measured now where nothing tells them."""
        times = self.clock.times(settings.auto_times, self.mode_times, self._unknown_times)
        return Router(times, self.model.config.canvas_length, thinking)

    def _unknown_times(self) -> Times:
        """The times of both modes where nothing on this machine knows them."""
        if (chip := this_chip()) is None:
            return measure(self.model)
        return estimate(self.model, Path(self.info.path), self.tuned, chip)

    def _system_text(self, given: str | None) -> str | None:
        """The system text of a question that is given one, or none and keeps the session's."""
        return self.system if given is None else given or None

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
        images: Any = (),
        video: Any = None,
        image_tokens: int | None = None,
        **fields: Unpack[SettingFields],
    ) -> FillTurn:
        """A template about to be filled, checked; nothing is computed before it is iterated.

        It takes the conversation over, as a question does. For the options see FillOptions.
        PromptError when it is no template, or does not fit into the context; FitError when it does
        not fit into memory; SettingsError for system beside raw; ConstraintError for the form of a
        hole; with images as for a question.
        """
        require_text(template, "template")
        require_text(prompt)
        settings = seeded(merged(settings, fields))
        require_fillable(settings)
        given = Given(images, video, image_tokens)
        if raw:
            require_no_template(system=system)
        task, puzzle = None if raw else self.task, None
        if task:
            template, puzzle = _problem_template(task, template, given)
            prompt = prompt if prompt.strip() else puzzle
        question, _ = self._question(prompt, given, raw=raw)
        config = self.model.config
        written = read_template(template, gaps)
        form = token_template(written, self.tokenizer, config.stop_ids)
        machines = self.forms.holes(written)
        sampler = describe_sampler(settings, config, sum(form.lengths))

        def made(earlier: list[Message]) -> FillTurn:
            over, ids = self._system_text(system), config.image_ids
            before = prompt_before(self.tokenizer, question, over, task, raw, ids)
            self.require_room(needed_positions(config, len(before.ids), form, before.soft_tokens))
            return FillTurn(
                *(self, question, before, settings, sampler, raw, progress, puzzle),
                template=form,
                fields=written.fields,
                machines=machines,
            )

        return self.conversation.begin(made)

    def decide(
        self,
        state: object,
        questions: Mapping[str, Question | Mapping[str, Any]],
        *,
        instructions: str | None = None,
        images: Any = (),
        calibration: Calibrated | None = None,
        **settings: Unpack[DecideOptions],
    ) -> Decision:
        """The answers to `questions` about `state` with their probabilities.

        state: a text, or what JSON can hold; questions: by ids of your own, a Noul, Choice or Score
        each, or a mapping in the form of a request. instructions: context for all of them; images:
        one or a list, in front of the state. For the settings see DecideOptions. It stands alone:
        the conversation is neither seen nor continued. RequestError for what cannot be asked,
        SettingsError for a setting out of its range, FitError for what does not fit into memory.
        """
        request = request_of(state, questions, instructions, images)
        return decide(request, self.decider, Options(**settings), calibration)

    @cached_property
    def decider(self) -> LoadedModel:
        """The model as decisions see it, with the prefixes of the last states."""
        return loaded_model(self)

    def reset(self) -> None:
        """Forgets the conversation and its cache; the model and the system text stay."""
        self.conversation.reset()

    def undo(self) -> Message:
        """The last question, taken back with its answer; the cache goes back, too.

        PromptError where nothing was asked.
        """
        return self.conversation.undo(self._shared)

    def _shared(self, prefix: Prefix, messages: list[Message]) -> int:
        """The positions of a prefix that a conversation of these messages begins with.

        0 where the template wants a question behind them.
        """
        try:
            asked = self._asked(messages_for(messages[-1], self.system, messages[:-1]))
        except DiffGemmaError:
            return 0
        return prefix.shared(asked.ids, asked.runs(self.model.config.image_ids))

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text.

        CheckpointError where it has images, and this checkpoint sees none.
        """
        if any(message.media for message in messages):
            require_sight(self.model, self.tokenizer)
        self.conversation.restore(messages, system)

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


def _problem_template(task: Task, template: str, given: Given) -> tuple[str, str]:
    """A task's problem as a template and as a prompt; PromptError where images are given too."""
    if given:
        raise PromptError(
            "the template is the problem already, expected no image or video beside it; leave it "
            "out, or ask about the picture without a template."
        )
    return task.template(template)
