"""The ids in front of a canvas: a question in the chat template, or a text as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..assets import Task
from ..checkpoint.vision import ImageIds
from ..errors import PromptError, brief
from ..images.pixels import Pixels
from ..model.images import ImageRun, placed
from ..text.chat import Message, encode_raw, ignored, render_prompt
from ..text.placeholders import Encoded
from ..text.tokenizer import Tokenizer
from .media import sampled

IGNORED = {
    "system": "the chat template ignores the system text; the model does not see it.",
    "think": "the chat template ignores think; the model is not told to think.",
}
UNTRAINED = "this checkpoint was trained without a system text; its answer may be wrong with one."


@dataclass(frozen=True)
class Prompt:
    """Token ids, and a line for each thing asked for that does not do what it should.

    images: all of the prompt's, frames of videos among them, in the order of their runs of ids.
    """

    ids: list[int]
    notes: tuple[str, ...] = ()
    images: tuple[Pixels, ...] = ()

    @property
    def soft_tokens(self) -> int:
        """The number of ids that stand for images."""
        return sum(image.soft_tokens for image in self.images)

    def runs(self, image_ids: ImageIds | None) -> list[ImageRun]:
        """The positions of each image."""
        soft = image_ids.soft if image_ids and self.images else None
        return [image.run(0) for image in placed(self.ids, self.images, soft)]


def require_text(given: object, what: str = "prompt") -> None:
    """PromptError for a question or a template that is no text, as None where a file was empty."""
    if not isinstance(given, str):
        raise PromptError(f"the {what} is {brief(given)}, expected a text; give a str.")


def messages_for(
    question: Message, system: str | None, earlier: Sequence[Message] = ()
) -> list[Message]:
    """A question behind the `earlier` messages, under the system text where there is one."""
    first = [Message("system", system)] if system else []
    return [*first, *earlier, question]


def rendered(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    task: Task | None,
    *,
    think: bool = False,
    tools: Sequence[Mapping[str, object]] = (),
    image_ids: ImageIds | None = None,
) -> Prompt:
    """The prompt that the chat template makes of messages; task: the checkpoint's own, if any."""
    encoded = render_prompt(tokenizer, messages, think=think, tools=tools, image_ids=image_ids)
    names = ignored(tokenizer, messages, think=think)
    notes = tuple(IGNORED[name] for name in names)
    if task and messages[0].role == "system" and "system" not in names:
        notes = (*notes, UNTRAINED)
    return _prompt(encoded, messages[-1], notes)


def as_it_is(tokenizer: Tokenizer, question: Message, image_ids: ImageIds | None) -> Prompt:
    """The prompt of a text without a template, with placeholders where its images stand."""
    encoded = encode_raw(tokenizer, question.content, question.media, image_ids)
    return _prompt(encoded, question, ())


def _prompt(encoded: Encoded, question: Message, notes: tuple[str, ...]) -> Prompt:
    return Prompt(encoded.ids, (*notes, *sampled(question.media)), encoded.images)
