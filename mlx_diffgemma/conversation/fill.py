"""A template being filled: holes are denoised, every other character stays as it was.

A template stands alone: the conversation is neither seen nor continued. The prompt is rendered like
a question; what the conversation has encoded of that prompt's beginning is used again.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

from ..assets import Task
from ..checkpoint.vision import ImageIds
from ..constrain.machine import Machine
from ..diffusion.infill import fill
from ..diffusion.pinned import TEXT, FillFrame
from ..diffusion.template import TokenTemplate
from ..errors import CheckpointError, DiffGemmaError, PromptError, Setting, SettingsError
from ..generation.frame import Frame
from ..generation.settings import SettingFields, Settings
from ..model.prefix import Prefix
from ..model.text import Progress
from ..text.answer import Answer
from ..text.chat import Message
from ..text.holes import Field, Template, encode_texts
from ..text.tokenizer import Tokenizer
from .form import info_of
from .prompt import Prompt, as_it_is, messages_for, rendered
from .reply import ConstraintInfo, Filled, Fresh
from .segments import Begun
from .turn import Turn

TURN_END, END = "<turn|>", "<eos>"


class FillOptions(SettingFields, total=False):
    """Options of a template: the fields of Settings, and these.

    prompt: what to write, free and by default empty; gaps: tokens of the holes that do not say it,
    one number for all or one each, by default 32; system: in place of the session's system text;
    raw: the prompt's tokens as they are, no template around them; progress: told of encoded
    positions; images, video and image_tokens: as for a question (see TurnOptions), in front of the
    prompt.
    """

    prompt: str
    gaps: int | Sequence[int] | None
    settings: Settings | None
    system: str | None
    raw: bool
    progress: Progress | None
    images: Any
    video: Any
    image_tokens: int | None


def token_template(
    written: Template, tokenizer: Tokenizer, stop_ids: Collection[int], *, raw: bool = False
) -> TokenTemplate:
    """A template in ids, with what stands behind it and what ends a hole.

    As in training: the end of the turn where it is a stop id, then the end of text up to the end
    of the canvas. Any control token ends a hole. raw: control texts in the template are no text,
    which encode_texts refuses.
    """
    texts = encode_texts(tokenizer, written, raw=raw)
    named = (END, tokenizer.special_tokens.get("eos_token", END))
    known = [index for token in named if (index := tokenizer.id_of(token)) is not None]
    if not (ends := [*known, *stop_ids]):
        raise CheckpointError(
            f"{tokenizer.folder} names no end of text, expected an eos_token to stand behind a "
            "template; add one to tokenizer_config.json."
        )
    turn_end = tokenizer.id_of(TURN_END)
    closing = turn_end if turn_end is not None and turn_end in stop_ids else ends[0]
    fillers = tokenizer.control_ids | frozenset(ends)
    return TokenTemplate(texts, written.lengths, (closing,), ends[0], fillers)


def prompt_before(
    tokenizer: Tokenizer,
    question: Message,
    system: str | None,
    task: Task | None,
    raw: bool,
    image_ids: ImageIds | None,
) -> Prompt:
    """The prompt of a template; without one given an empty question, or bos alone."""
    asked = question.content or question.media
    if not raw and (asked or system or tokenizer.chat_template is not None):
        return rendered(tokenizer, messages_for(question, system), task, image_ids=image_ids)
    if not asked:
        question = Message("user", tokenizer.special_tokens.get("bos_token", ""))
    prompt = as_it_is(tokenizer, question, image_ids)
    if not prompt.ids:
        raise PromptError("the prompt is empty and the tokenizer has no bos; give a prompt.")
    return prompt


def require_fillable(settings: Settings) -> None:
    """SettingsError for what a template settles: that it is denoised, and where it ends."""
    if settings.mode != "diffusion":
        raise SettingsError(
            Setting("mode"), f" is {settings.mode}, a template is always denoised; leave it out."
        )
    for name, value in (("max_tokens", settings.max_tokens), ("stop", settings.stop)):
        if value:
            raise SettingsError(
                Setting(name), f" is {value!r}, a template says where it ends; leave it out."
            )


@dataclass(kw_only=True, repr=False)
class FillTurn(Turn):
    """A template being filled. Iterate it once for its frames; ask for what it is any time.

    An iteration given up early leaves the template up to where canvases are finished. fields,
    machines: the name and the form of each hole that has one.
    """

    template: TokenTemplate
    fields: tuple[Field | None, ...]
    machines: tuple[Machine | None, ...]
    _given: int = field(default=0, init=False)  # characters of the text that were handed out

    @property
    def stop_ids(self) -> Collection[int]:
        """None: one in a hole ends that hole only."""
        return ()

    def reply(self) -> Filled:
        """The template as far as it is filled."""
        holes = tuple(map(self.session.tokenizer.decode, self._holes()))
        named = zip(self.fields, holes, strict=True)
        fields = {field.name: text for field, text in named if field}
        return Filled(**vars(super().reply()), holes=holes, fields=fields)

    def fresh(self, *, rest: bool = False) -> Fresh:
        """The template's text that came since the last call; all that is finished stays."""
        text = self._answer([]).text
        first, self._given = self._given, len(text)
        return Fresh(text[first:])

    @property
    def constraint_info(self) -> ConstraintInfo | None:
        """The strain of the holes with a form so far; None where none has one."""
        return info_of("pattern", self.kept, self.settings.mode) if any(self.machines) else None

    def _timed(self) -> Sequence[Begun]:
        """None: a step that denoises a few positions takes less than others."""
        return ()

    def _count(self, ids: list[int]) -> int:
        """The number of tokens in the holes."""
        return sum(map(len, self._holes()))

    def _frames(self, prefix: Prefix) -> Iterator[Frame]:
        return fill(
            self.session.model,
            self.prompt_ids,
            self.template,
            self.settings,
            images=self.asked.images,
            prefix=prefix,
            progress=self.progress,
            forms=self.machines,
        )

    def _answer(self, ids: list[int]) -> Answer:
        """The template's own text and the holes between, as far as whole texts are finished."""
        decode, left, text = self.session.tokenizer.decode, self._checked_length(), ""
        for own, hole in zip_longest(self.template.texts, self._holes(), fillvalue=()):
            left -= len(own)
            if left < 0:
                break
            text += decode(own) + decode(hole)
        return Answer(text, None, ())

    def said(self) -> Sequence[Message]:
        """None: the conversation goes on without it."""
        return ()

    def _placed(self) -> Iterator[tuple[int, int]]:
        """Every finished token, and the hole it stands in."""
        for frame in self.committed:
            if isinstance(frame, FillFrame):
                yield from zip(frame.tokens.tolist(), frame.holes.tolist(), strict=True)

    def _holes(self) -> list[list[int]]:
        """The ids of each hole, as far as it is filled."""
        holes: list[list[int]] = [[] for _ in self.template.lengths]
        for token, hole in self._placed():
            if hole != TEXT:
                holes[hole].append(token)
        return holes

    def _checked_length(self) -> int:
        """The number of finished tokens of the template's own; an error if one has changed."""
        own = [token for token, hole in self._placed() if hole == TEXT]
        given = list(chain.from_iterable(self.template.texts))
        if own != given[: len(own)] or (self.finished and len(own) != len(given)):
            raise DiffGemmaError(
                "the template's own text changed while its holes were filled, expected to find it "
                "as it was; this is a defect of mlx-diffgemma, please report it."
            )
        return len(own)
