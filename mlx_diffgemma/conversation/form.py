"""The form of an answer: what a question asks of it, as an automaton over the tokenizer's tokens.

A form is checked before a turn takes the conversation over, so that one that cannot be enforced, or
that does not fit into the tokens of the answer, changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ..checkpoint.config import ModelConfig
from ..constrain.calls import ANY_TOOL, MARKS, REQUIRED, declared
from ..constrain.constraint import Constraint
from ..constrain.form import Form, beside, compiled, ending, form_of, tools_form
from ..constrain.machine import Channel, Machine
from ..constrain.tables import vocabulary_of
from ..constrain.vocabulary import Vocabulary
from ..errors import ConstraintError, Setting, SettingsError, counted
from ..generation.frame import Frame
from ..generation.settings import Settings
from ..text.exchange import CLOSING, OPENING
from ..text.holes import Field, Template
from ..text.token_bytes import token_bytes
from ..text.tokenizer import Tokenizer
from .prompt import IGNORED, Prompt
from .reply import ConstraintInfo

STRAINED = 10.0  # nats; forms that fit a model's text were seen below 1e-5, others above 300
KEPT = 4  # forms of a session whose machines stay: chats ask again in the same one
KEPT_OF_HOLES = 16  # and of holes, which a template may have many of

Tool = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a question asks of its answer's form; for the fields see TurnOptions."""

    schema: Any = None
    pattern: str | None = None
    choices: Sequence[str] | None = None
    tools: Sequence[Tool] = ()
    tool_choice: str = ANY_TOOL

    def form(self) -> Form | None:
        """The form asked for, None for free text.

        ConstraintError for one that cannot be enforced, SettingsError for settings that do not go
        together.
        """
        return self.joined(self.text_form(), self.calls_form())

    def text_form(self) -> Form | None:
        """The form of a text, None for any; errors as of `form`."""
        if len(given := self._texts) > 1:
            raise _not_both(*[*given][:2])
        return form_of(**given)

    def calls_form(self) -> Form | None:
        """The form of calls, None where nothing holds them; errors as of `form`.

        Calls that may come in place of a text are held where the text is.
        """
        if self.tool_choice != ANY_TOOL:
            self._require_tools()
            return tools_form(self.tools, self.tool_choice)
        if not self.tools:
            return None
        declared(self.tools)
        return tools_form(self.tools, REQUIRED) if self._texts else None

    def joined(self, text: Form | None, calls: Form | None) -> Form | None:
        """The form of an answer: either where calls may be made, the calls' where they must."""
        if text is None or calls is None or self.tool_choice != ANY_TOOL:
            return calls or text
        return beside(text, calls)

    def _require_tools(self) -> None:
        """SettingsError where there are none to choose from."""
        if not self.tools:
            raise SettingsError(
                *(Setting("tool_choice"), f" is {self.tool_choice!r} and there are no tools, "),
                *("expected them beside it; give ", Setting("tools"), "."),
            )

    @property
    def _texts(self) -> dict[str, Any]:
        """The fields given that say what a text has to look like."""
        asked = {"schema": self.schema, "pattern": self.pattern, "choices": self.choices}
        return {name: value for name, value in asked.items() if value is not None}


def _not_both(one: str, other: str) -> SettingsError:
    return SettingsError(
        *(Setting(one), " and ", Setting(other), " are given, expected one of both, as each says "),
        "what the answer is; leave one out.",
    )


@dataclass(frozen=True)
class AnswerForm:
    """A form with its automaton; channel: that of a thought before the text, where one may come."""

    form: Form
    machine: Machine
    vocabulary: Vocabulary
    channel: Channel | None

    def constraint(self, begun: Sequence[int], limited: Settings, settings: Settings) -> Constraint:
        """A constraint behind the tokens `begun`, with max_tokens of `limited` to come.

        settings: the caller's, without what the context leaves. ConstraintError where the shortest
        answer takes more, SettingsError for stop texts, which could cut it where it is not whole.
        """
        if settings.stop:
            raise SettingsError(
                *(
                    Setting("stop"),
                    " cannot go with ",
                    Setting(self.form.kind),
                    ": a stop text could ",
                ),
                *("cut the answer where it is not whole; leave ", Setting("stop"), " out."),
            )
        left, state = limited.max_tokens or 0, self.machine.advance(self.machine.start, begun)
        if (needed := int(self.machine.distance[state])) > left:
            raise ConstraintError(*_too_long(needed, left, settings.max_tokens, bool(begun)))
        return Constraint(self.machine, left, state)


def info_of(kind: str, kept: Sequence[Frame], mode: str) -> ConstraintInfo:
    """What a Reply tells of a form; kept: the answer's segments."""
    strains = [frame.strain for frame in kept if frame.strain is not None]
    denoised = [frame for frame in kept if frame.mode == "diffusion"]
    settled = sum(frame.settled is True for frame in denoised)
    counts = (None, None) if mode == "ar" else (settled, len(denoised))
    return ConstraintInfo(kind, max(strains, default=None), *counts)


def _too_long(needed: int, left: int, given: int | None, begun: bool) -> tuple[str, ...]:
    """The words for an answer that cannot be short enough."""
    rest = "shortest rest of the answer" if begun else "shortest answer"
    shortest = f"the {rest} takes {counted(needed, 'token')}"
    if given is not None:
        return (f"{shortest}, ", Setting("max_tokens"), f" is {left:,}; raise it.")
    return (
        f"{shortest}, there is room for {left:,}; give more as ",
        Setting("max_tokens"),
        ", or shorten the prompt.",
    )


@dataclass
class Forms:
    """The forms of answers that a tokenizer writes for a model."""

    tokenizer: Tokenizer
    config: ModelConfig

    def answer_form(
        self, form: Form | None, asked: Prompt, *, think: bool, raw: bool
    ) -> AnswerForm | None:
        """A form as an automaton of a whole answer to the prompt; None for none.

        A thought comes first where the model is told to think, and may come elsewhere; none where
        the prompt ends with an empty one, or in an answer to a raw prompt, whose channels nobody
        reads.
        ConstraintError where no control token ends the answer, or no tokens write the form.
        """
        if form is None:
            return None
        told = think and IGNORED["think"] not in asked.notes
        channel = None if raw else self._channel(told)
        if channel and asked.ids[-1] == channel.closing:
            channel = None
        return AnswerForm(form, self._machine(form, channel), self.vocabulary, channel)

    @cached_property
    def _machine(self) -> Callable[[Form, Channel | None], Machine]:
        """The machine of a form and a channel; those of the last few forms are kept."""

        @lru_cache(maxsize=KEPT)
        def machine(form: Form, channel: Channel | None) -> Machine:
            stops = ending(self.config.stop_ids, self._whole)
            return compiled(form, self.vocabulary, stops, self.fillers, channel, self._marks)

        return machine

    def holes(self, written: Template) -> tuple[Machine | None, ...]:
        """The automaton of each hole that has a regular expression: its text, then fillers.

        ConstraintError for one that cannot be enforced, or whose hole is too short for any text.
        """
        pairs = zip(written.fields, written.lengths, strict=True)
        return tuple(self._hole(field, length) if field else None for field, length in pairs)

    def _hole(self, field: Field, length: int) -> Machine:
        place = f"the hole {field.name} in line {field.line}"
        try:
            form = Wanted(pattern=field.regex).form()
            assert form is not None
            machine = self._hole_machine(form)
        except ConstraintError as error:
            raise ConstraintError(f"{place}: ", *error.args) from error
        if (needed := int(machine.distance[machine.start])) > length:
            raise ConstraintError(
                f"{place} has {counted(length, 'token')}, its shortest text takes {needed}; give "
                "it more with ",
                *(Setting("gaps"), "."),
            )
        return machine

    @cached_property
    def _hole_machine(self) -> Callable[[Form], Machine]:
        """The machine of a hole's form: holes of one form share it; the last few are kept."""

        @lru_cache(maxsize=KEPT_OF_HOLES)
        def machine(form: Form) -> Machine:
            return compiled(form, self.vocabulary, (), self.fillers)

        return machine

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token that a form may be written with: stop ids are none of them."""
        texts, writing = list(self._whole.texts), self._whole.writes
        if not any(writing[token] for token in self.config.stop_ids):
            return self._whole
        for token in self.config.stop_ids:
            texts[token] = None
        return vocabulary_of(texts)

    @cached_property
    def fillers(self) -> tuple[int, ...]:
        """Ids that may stand behind the end of a text: stop ids, the end of text and padding."""
        named = map(self.tokenizer.special_tokens.get, ("eos_token", "pad_token"))
        known = {self.tokenizer.id_of(token) for token in named if token is not None}
        ids = {*self.config.stop_ids, *(token for token in known if token is not None)}
        return tuple(sorted(token for token in ids if not self._whole.writes[token]))

    @cached_property
    def _whole(self) -> Vocabulary:
        """The bytes of every token."""
        return vocabulary_of(token_bytes(self.tokenizer, self.config.text.vocab_size))

    @cached_property
    def _marks(self) -> dict[str, int]:
        """The ids of the control tokens that tool calls are written with, as far as they exist."""
        known = {name: self.tokenizer.id_of(name) for name in MARKS}
        return {name: token for name, token in known.items() if token is not None}

    def _channel(self, needed: bool) -> Channel | None:
        opening, closing = map(self.tokenizer.id_of, (OPENING, CLOSING))
        return None if opening is None or closing is None else Channel(opening, closing, needed)


def strain_of(constraint: ConstraintInfo | None) -> str | None:
    """A line for a form that the model would not write; None where it fits."""
    if constraint is None or constraint.strain is None or constraint.strain <= STRAINED:
        return None
    return (
        f"the form fights the model's own text: the strain is {constraint.strain:,.0f} nats; does "
        "the prompt ask for it?"
    )


def remarks_of(constraint: ConstraintInfo | None) -> tuple[str, ...]:
    """A line for a form that the model would not write, and for canvases that did not settle."""
    if constraint is None:
        return ()
    lines = [line] if (line := strain_of(constraint)) else []
    canvases, settled = constraint.canvases, constraint.settled
    if canvases is not None and settled is not None and settled < canvases:
        lines.append(f"{canvases - settled} of {counted(canvases, 'canvas')} did not settle.")
    return tuple(lines)
