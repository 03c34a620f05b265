"""A session: a loaded model and one conversation with it, prompts in, frames and replies out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

from ..assets import Task
from ..autoregressive.router import Router, Times
from ..constrain.calls import ANY_TOOL
from ..decide.decide import Calibrated, decide
from ..decide.decision import Decision
from ..decide.options import Options
from ..decide.questions import Question
from ..decide.reader import LoadedModel
from ..errors import DiffGemmaError, PromptError, brief, counted
from ..generation.agreement import seeded
from ..generation.frame import Frame
from ..generation.settings import SettingFields, Settings, merged
from ..machine.chips import this_chip
from ..machine.choices import Choices, ModeTimes
from ..model.memory import RoomCheck
from ..model.prefix import Prefix
from ..model.text import Model, Progress
from ..text.chat import Message, require_no_template
from ..text.holes import read_template
from ..text.placeholders import Medium
from ..text.tokenizer import Tokenizer
from .conversation import Conversation
from .deciding import DecideOptions, loaded_model, request_of
from .fill import FillOptions, FillTurn, require_fillable
from .form import Forms, Wanted
from .front import Front, config_of
from .media import Given, require_sight
from .options import Asking, MoreOptions, TurnOptions
from .prompt import messages_for, require_text
from .reply import Filled, ModelInfo, Reply
from .times import Clock, estimate, measure, shared_times
from .turn import Turn
from .turns import (
    Filling,
    asked_of,
    problem_template,
    question_of,
    question_turn,
    rest_turn,
    template_turn,
)


def any_context(context: int, beside: int = 0) -> None:
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
    require_room: RoomCheck = any_context
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
        tools: Sequence[Mapping[str, Any]] | None = None,
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
        settings = seeded(merged(settings, fields), self.model.part.share)
        settings.require_trained(self.model.config, self.name)
        given = Given(images, video, image_tokens)
        if not prompt.strip() and not given:
            raise PromptError("the prompt is empty, expected some text.")
        tools = () if tools is None else tools
        if raw:
            require_no_template(system=system, think=think, tools=tools)
        form = Wanted(schema, pattern, choices, tools, tool_choice).form()
        question, puzzle = question_of(self, prompt, given, raw=raw)
        how = Asking(form, tools, system, think, raw, instead, progress)
        return self.conversation.begin(
            partial(question_turn, self, question, puzzle, settings, how)
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
        settings = seeded(merged(settings, fields), self.model.part.share)
        settings.require_trained(self.model.config, self.name)
        return self.conversation.begin(lambda _: rest_turn(self, settings, progress))

    @cached_property
    def forms(self) -> Forms:
        """The forms that answers of this session can have."""
        return Forms(self.tokenizer, self.model.config)

    @property
    def front(self) -> Front:
        """The session's checkpoint, as questions are prepared with it."""
        config = config_of(self.model)
        return Front(self.tokenizer, config, self.forms, self.name, self.task, self.mode_times)

    def prepared(
        self, images: Any = (), video: Any = None, image_tokens: int | None = None
    ) -> tuple[Medium, ...]:
        """Images and a video as the network takes them, checked; see TurnOptions for the options.

        A turn takes them as they are, and decodes nothing again.
        """
        given = Given(images, video, image_tokens)
        return given.prepared(config_of(self.model), self.tokenizer, self.task)

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
        settings = seeded(merged(settings, fields), self.model.part.share)
        require_fillable(settings)
        given = Given(images, video, image_tokens)
        if raw:
            require_no_template(system=system)
        task, puzzle = None if raw else self.task, None
        if task:
            template, puzzle = problem_template(task, template, given)
            prompt = prompt if prompt.strip() else puzzle
        question, _ = question_of(self, prompt, given, raw=raw)
        written = read_template(template, gaps)
        how = Filling(written, self.forms.holes(written), system, raw, progress)
        return self.conversation.begin(
            lambda _: template_turn(self, question, puzzle, settings, how)
        )

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
            asked = asked_of(self.front, messages_for(messages[-1], self.system, messages[:-1]))
        except DiffGemmaError:
            return 0
        return prefix.shared(asked.ids, asked.runs(self.model.config.image_ids))

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text.

        CheckpointError where it has images, and this checkpoint sees none.
        """
        if any(message.media for message in messages):
            require_sight(config_of(self.model), self.tokenizer)
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
