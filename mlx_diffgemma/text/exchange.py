"""A conversation that ends in an answer, as token ids: what asks for it, and the answer itself.

The ids are those that a conversation with the model would hold: the prompt as `render_prompt` asks,
the tag that begins an answer included, and behind it the answer up to its stop id. Templates leave
thoughts out of what they write, so that the answer's thought is written here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from ..checkpoint.vision import ImageIds
from ..errors import CheckpointError, PromptError, brief, counted
from .answer import THOUGHT
from .chat import encode_written, require_tools, write_turns
from .literal import WRITTEN_THOUGHT, Written
from .masks import ASSISTANT, Turn
from .placeholders import Encoded, Medium, find_spelling
from .tokenizer import Tokenizer
from .tools import CALL_OPENING

OPENING, CLOSING = "<|channel>", "<channel|>"
EMPTY_THOUGHT = f"{OPENING}{THOUGHT}\n{CLOSING}"  # a template's way to ask for none
TURN_END = "<turn|>"
TEXT = 'write the example as {"text": ...}'
THOUGHT_KEYS = ("thinking", "reasoning_content", "reasoning")


@dataclass(frozen=True)
class Dialogue:
    """Messages, the last one an assistant's, and what they are rendered with.

    media: the images of all messages, in order. think: ask for a thought; None: where the last
    message has one.
    """

    messages: Sequence[Turn]
    tools: Sequence[Turn] = ()
    media: tuple[Medium, ...] = ()
    think: bool | None = None


@dataclass(frozen=True)
class Exchange:
    """The ids that ask, with the images among them, and those of the answer, its stop id last."""

    prompt: Encoded
    answer: list[int]


def render_exchange(
    tokenizer: Tokenizer,
    dialogue: Dialogue,
    stop_ids: Collection[int],
    eos: int,
    image_ids: ImageIds | None = None,
) -> Exchange:
    """The Exchange of a dialogue.

    eos: ends the answer where the template's own ending is no stop id. PromptError for an answer
    that the template changes, or that would end early; CheckpointError for a template that leaves
    out a tool, a call, or an image.
    """
    thought, last = without_thought(dialogue.messages[-1])
    think = bool(thought) if dialogue.think is None else dialogue.think
    earlier, tools = dialogue.messages[:-1], dialogue.tools
    render = partial(
        write_turns, tokenizer, tools=tools, think=think, instead=TEXT, trusted=ASSISTANT
    )
    asked, whole = render(earlier), render([*earlier, last], answering=False)
    written = _behind(asked.text, whole, tokenizer)
    _require_all(tokenizer, dialogue, last, asked.text, written)
    _refuse_placeholders(tokenizer, dialogue, image_ids)
    prompt = encode_written(tokenizer, asked, dialogue.media, image_ids)
    ids = tokenizer.encode_pieces([thought, *written.pieces])
    return Exchange(prompt, _answer(tokenizer, ids, stop_ids, eos))


def _refuse_placeholders(
    tokenizer: Tokenizer, dialogue: Dialogue, image_ids: ImageIds | None
) -> None:
    """PromptError for an answer that has the placeholder of an image: its markers are control."""
    spelling = find_spelling(tokenizer, image_ids)
    answers = [turn for turn in dialogue.messages if turn["role"] in ASSISTANT]
    for text in (text for answer in answers for text in texts_of(answer)):
        if spelling and (marker := spelling.found(text)):
            raise PromptError(
                f"an answer has the text {marker}, which this checkpoint takes for an image or a "
                "video, expected plain text; write it in another way."
            )


def texts_of(message: Turn) -> list[str]:
    """The texts of a message's content."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, Sequence) else ()
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


def without_thought(message: Turn) -> tuple[str, Turn]:
    """The text of an answer's thought, "" for none, and the message without it."""
    rest = {key: value for key, value in message.items() if key not in THOUGHT_KEYS}
    for key in THOUGHT_KEYS:
        if isinstance(thought := message.get(key), str) and thought.strip():
            return f"{OPENING}{THOUGHT}\n{thought.strip()}\n{CLOSING}", rest
    content = rest.get("content")
    if isinstance(content, str) and (found := WRITTEN_THOUGHT.match(content)):
        return found[1], {**rest, "content": content[found.end() :]}
    return "", rest


def _behind(asked: str, written: Written, tokenizer: Tokenizer) -> Written:
    """The part of a text that answers `asked`, whose empty thought an answer does not repeat."""
    whole = written.text
    for beginning in (asked, asked.removesuffix(EMPTY_THOUGHT)):
        if whole.startswith(beginning):
            return written.behind(len(beginning))
    pairs = enumerate(zip(asked, whole, strict=False))
    at = next((n for n, (one, other) in pairs if one != other), min(len(asked), len(whole)))
    raise CheckpointError(
        f"{tokenizer.folder}: the chat template writes {brief(whole[at : at + 40])} in front of an "
        f"answer where it asks with {brief(asked[at : at + 40])}, expected the same; put another "
        f"template into chat_template.jinja, or {TEXT}."
    )


def _require_all(
    tokenizer: Tokenizer, dialogue: Dialogue, last: Turn, asked: str, written: Written
) -> None:
    """Errors for what the template was given and left out."""
    for number, message in enumerate(dialogue.messages[:-1], 1):
        if message["role"] in ("system", "user"):
            _require_texts(message, asked, f"the text of message {number}")
    _require_texts(last, written.text, "the answer")
    calls = last.get("tool_calls") or ()
    wanted, got = len(calls) if isinstance(calls, Sequence) else 0, written.count(CALL_OPENING)
    if got < wanted:
        raise CheckpointError(
            f"{tokenizer.folder}: the chat template writes {got} of "
            f"{counted(wanted, 'tool call')}; put one that knows tools into chat_template.jinja."
        )
    require_tools(tokenizer, dialogue.tools, asked)


def _require_texts(message: Turn, rendered: str, place: str) -> None:
    for text in texts_of(message):
        if text.strip() not in rendered:
            raise PromptError(
                f"the chat template changes or leaves out {place}, {brief(text.strip())}; write it "
                f"in another way, or {TEXT}."
            )


def _answer(tokenizer: Tokenizer, ids: list[int], stop_ids: Collection[int], eos: int) -> list[int]:
    """The ids of an answer up to the first that ends it, and a stop id behind them."""
    ends = {*stop_ids, tokenizer.id_of(TURN_END)}
    end = next((n for n, token in enumerate(ids) if token in ends), len(ids))
    behind = ids[end + 1 :]
    if tokenizer.decode([token for token in behind if token not in stop_ids], special=True).strip():
        raise PromptError(
            f"the answer has the text {tokenizer.token_of(ids[end])} in it, which ends an answer, "
            "expected it nowhere; write it in another way."
        )
    stop = ids[end] if end < len(ids) and ids[end] in stop_ids else eos
    return [*ids[:end], stop]
