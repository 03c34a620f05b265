"""A session's model as decisions see it: its prompts, its reader, and what answers call it.

A decision stands alone: the conversation is neither seen nor continued, and its cache stays as it
is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypedDict

from ..decide.options import Layout
from ..decide.reader import Content, LoadedModel, Prompt
from ..decide.request import Request, read_request
from ..diffusion.kept import KeptPrefixes
from ..diffusion.reading import ModelReader
from ..errors import CheckpointError
from ..images.pixels import Pixels
from ..model.memory import RoomCheck
from ..model.text import Model
from ..text.answer import THOUGHT
from ..text.chat import encode_written, write_turns
from ..text.exchange import CLOSING, OPENING, TURN_END
from ..text.tokenizer import GEMMA_TOKENS, Tokenizer
from .conversation import Conversation
from .front import config_of, within_context
from .media import Given
from .state import SessionState

NO_TEMPLATE = "take a checkpoint that has one"


class DecideOptions(TypedDict, total=False):
    """The settings of a decision; see decide.options."""

    samples: int | Literal["auto"]
    auto_max: int
    auto_threshold: float
    steps: int
    think: int
    seed: int
    layout: Layout
    orders: int
    label_mass: bool


@dataclass(frozen=True)
class ChatTexts:
    """The tokenizer and the chat template of a checkpoint, as decisions use them."""

    model: Model
    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        """The ids of a text of the program's own; no bos is added."""
        return self.tokenizer.encode(text)

    def prompt(self, system: Content, user: Content, *, think: bool) -> Prompt:
        """The prompt of a system's and a user's text, with images in their places.

        Control texts in them stay text. CheckpointError for a template that leaves some of it out.
        """
        given = (*system, *user)
        texts = [part for part in given if isinstance(part, str)]
        images = [part for part in given if isinstance(part, Pixels)]
        turns = [{"role": "system", "content": _parts(system)}]
        turns.append({"role": "user", "content": _parts(user)})
        text = write_turns(self.tokenizer, turns, think=think, instead=NO_TEMPLATE)
        self._require_whole(texts, text.text)
        image_ids = self.model.config.image_ids
        encoded = encode_written(self.tokenizer, text, images, image_ids)
        return Prompt(tuple(encoded.ids), encoded.images)

    def image(self, given: object) -> object:
        """An image as the network takes it, of what `prepare_image` takes; ImageError for others.

        CheckpointError where the checkpoint sees none.
        """
        return Given([given]).prepared(config_of(self.model), self.tokenizer)[0]

    def _require_whole(self, texts: list[str], rendered: str) -> None:
        """CheckpointError where the template dropped a text, such as a system's."""
        if any(text.strip() not in rendered for text in texts):
            raise CheckpointError(
                f"{self.tokenizer.folder}: the chat template leaves out a part of the system text "
                "or of the user's, expected both, which say what is asked; put a template that "
                "writes them into chat_template.jinja."
            )


def _parts(content: Content) -> str | list[dict[str, object]]:
    """A content as templates take it: one text, or parts where it has images."""
    if all(isinstance(part, str) for part in content):
        return "".join(map(str, content))
    return [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
        for part in content
    ]


def loaded_model(session: SessionState, held: Callable[[], int] | None = None) -> LoadedModel:
    """The model of a session, with a reader that keeps the prefixes of the last states.

    held: bytes of other caches that stay beside theirs, None for the conversation's.
    """
    beside = _beside(session.require_room, held or partial(_held, session.conversation))
    model, config = session.model, session.model.config
    tokenizer = within_context(session.tokenizer, config)
    ends = [*_ids(tokenizer, "eos_token"), *config.stop_ids]
    turn_end, pad = tokenizer.id_of(TURN_END), _ids(tokenizer, "pad_token")
    if not ends:
        raise CheckpointError(
            f"{tokenizer.folder} names no end of text, expected an eos_token to stand behind "
            "answers; add one to tokenizer_config.json."
        )
    closing = tokenizer.id_of(CLOSING)
    thinks = closing is not None and tokenizer.id_of(OPENING) is not None
    return LoadedModel(
        reader=ModelReader(model, KeptPrefixes(model, beside), closing),
        texts=ChatTexts(model, tokenizer),
        name=session.name,
        canvas_length=config.canvas_length,
        context_length=session.context_length,
        turn_end=ends[0] if turn_end is None else turn_end,
        pad=[*pad, ends[0]][0],
        thought=(f"{OPENING}{THOUGHT}\n", CLOSING) if thinks else None,
        sees=model.vision is not None,
        revision=session.info.revision,
        quantization=session.info.quantization,
    )


def _beside(require_room: RoomCheck, held: Callable[[], int]) -> RoomCheck:
    """A check of memory with other caches beside a decision's.

    It holds no session: one that is let go takes its model along at once.
    """

    def check(context: int, beside: int = 0) -> None:
        require_room(context, beside + held())

    return check


def _held(chat: Conversation) -> int:
    """Bytes of a conversation's cache."""
    return 0 if chat.prefix is None else chat.prefix.num_bytes


def request_of(
    state: object, questions: Mapping[str, Any], instructions: str | None, images: Any
) -> Request:
    """The request of a caller in Python; RequestError for the first thing that is wrong in it."""
    given = {} if instructions is None else {"instructions": instructions}
    request = read_request({"state": state, "questions": questions, **given})
    return replace(request, images=tuple(Given(images).each_image))


def _ids(tokenizer: Tokenizer, name: str) -> list[int]:
    """The id of a special token by its name, none where the vocabulary lacks it."""
    found = tokenizer.id_of(tokenizer.special_tokens.get(name, GEMMA_TOKENS[name]))
    return [] if found is None else [found]
