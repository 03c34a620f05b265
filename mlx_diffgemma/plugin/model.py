"""The plugin itself: llm imports it at every start, so MLX is imported with the first question.

One Session is kept a process. llm sends the whole conversation with each question; what the cache
holds of it is not encoded again. Nothing is downloaded here: llm asks nobody.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click
import llm
from llm.parts import StreamEvent

from ..errors import DiffGemmaError, is_out_of_memory, one_line
from .chain import Chain, read_chain
from .media import readable_types, require_readable
from .options import OPTION_OF, Options
from .stream import answered

if TYPE_CHECKING:
    from ..conversation.session import Session
    from ..conversation.turn import Turn

MODEL_ID = "diffgemma"
LOGGED_BY_LLM = ("text", "thinking", "token_ids")
INSTEAD = "$MLX_DIFFGEMMA_MODEL names another, and tiny-chat needs no download"


class Refusal(llm.ModelError, click.ClickException):
    """A known error. `llm chat`, unlike `llm prompt`, shows only click's own errors as one line."""


@contextmanager
def known_errors() -> Iterator[None]:
    """A stretch whose known errors are llm's, with options under the names they have there."""
    try:
        yield
    except DiffGemmaError as error:
        raise Refusal(error.told(OPTION_OF)) from error
    except OSError as error:
        raise Refusal(one_line(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Refusal(
            f"out of memory ({one_line(error)[:120]}); take a smaller quantisation, a shorter "
            "prompt or a lower max_tokens."
        ) from error


@dataclass
class Kept:
    """The session of this process: llm makes a new model whenever it is asked for one."""

    loaded: "tuple[str, Session] | None" = None

    def session(self) -> "Session":
        """That of the default model, loaded with the first question."""
        from ..checkpoint.default import default_model

        name = default_model()
        if self.loaded is None or self.loaded[0] != name:
            self.loaded = None  # its memory first
            self.loaded = name, _load(name)
        return self.loaded[1]


KEPT = Kept()


class DiffGemma(llm.Model):
    """The checkpoint that $MLX_DIFFGEMMA_MODEL or the config file names, as a model of llm's."""

    model_id = MODEL_ID
    can_stream = True
    supports_schema = True
    Options = Options

    @property
    def attachment_types(self) -> frozenset[str]:  # type: ignore[override]
        """MIME types that can be read with what is installed."""
        return readable_types()

    def _validate_attachments(self, attachments: list[llm.Attachment] | None = None) -> None:
        """Say which extra is missing, where llm would only say that a type is not supported."""
        with known_errors():
            for attachment in attachments or ():
                require_readable(str(attachment.resolve_type()))
        super()._validate_attachments(attachments)

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str | StreamEvent]:
        """The answer: of a canvas when it is finished, in mode ar token by token."""
        with known_errors():
            options, chain = cast(Options, prompt.options), read_chain(prompt)
            options.settings()  # refused before anything is loaded
            encoded = Encoded()
            schema = cast("dict[str, Any] | None", prompt.schema)  # llm has made one of a class
            turn = _ask(KEPT.session(), chain, options, encoded, schema)
            yield from answered(turn)
            _describe(response, turn, encoded.positions)


def _load(name: str) -> "Session":
    """The model from this disk, as it was tuned for this machine."""
    from ..checkpoint.hub import find_model
    from ..conversation.loading import load_source, place_of
    from ..kernels.dispatch import require_usable
    from ..machine.tuning import recall

    require_usable()
    source = find_model(name, instead=INSTEAD)
    choices = recall(lambda: place_of(source.folder, source.revision, None))
    return load_source(source, choices=choices)


@dataclass
class Encoded:
    """The number of prompt positions that were computed; the others are the cache's."""

    positions: int = 0

    def __call__(self, done: int, total: int) -> None:
        """Take note of progress: of `total` positions, `done` are encoded."""
        self.positions = total


def _ask(
    session: "Session",
    chain: Chain,
    options: Options,
    told: Encoded,
    schema: "dict[str, Any] | None" = None,
) -> "Turn":
    """The question behind its conversation; a checkpoint with a task sees the question alone.

    schema: the JSON schema that the answer is held to.
    """
    from ..text.chat import Message

    messages = list[Message]()
    for said in () if session.task else chain.earlier:
        seen = said.seen(options.image_tokens)
        media = session.prepared(seen.images, seen.video, seen.image_tokens)
        messages.append(Message(said.role, said.text, media))
    asked = chain.question.seen(options.image_tokens)
    settings = options.settings()
    session.restore(messages, chain.system)
    return session.turn(
        chain.question.text,
        settings=settings,
        think=bool(options.think),
        images=asked.images,
        video=asked.video,
        image_tokens=asked.image_tokens,
        progress=told,
        schema=schema,
    )


def _describe(response: llm.Response, turn: "Turn", encoded: int) -> None:
    """Hand over what llm logs beside the text: tokens, seed, times and all else of the reply."""
    reply = turn.reply()
    cached = reply.prompt_tokens - encoded
    details = {"cached_tokens": cached} if cached else None
    response.set_usage(input=reply.prompt_tokens, output=reply.generated_tokens, details=details)
    response.set_resolved_model(turn.session.name)
    notes = [*turn.notes, *turn.remarks]
    told = {key: value for key, value in reply.to_json().items() if key not in LOGGED_BY_LLM}
    response.response_json = {**told, "notes": notes}
    for note in notes:
        warnings.warn(note, stacklevel=2)


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Name the model to llm."""
    register(DiffGemma())
