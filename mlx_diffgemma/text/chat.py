"""Chat: messages to a prompt.

Three template versions are in circulation. With thinking off the launch version ends the prompt
with an empty thought, `<|turn>model\\n<|channel>thought\\n<channel|>`, the later two with
`<|turn>model\\n`; with thinking on all end `<|turn>model\\n`. A thought may come either way, so
answers are always parsed for channels, by token ids: text that merely looks like a marker stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..checkpoint.vision import ImageIds
from ..errors import CheckpointError, PromptError, Setting, SettingsError, shown
from ..images.video import Clip
from .literal import Written, written
from .placeholders import Encoded, Medium, find_spelling, require_spelling
from .template import render
from .tokenizer import Tokenizer

RAW = "use --raw"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; its images and videos come before its text, in this order."""

    role: Literal["system", "user", "assistant"]
    content: str
    media: tuple[Medium, ...] = ()


def require_no_template(
    *, system: str | None = None, think: bool = False, tools: Sequence[object] = ()
) -> None:
    """SettingsError where a raw prompt comes with what only a template could write into it."""
    values = {"system": system, "think": think, "tools": tools}
    given = [Setting(name) for name, value in values.items() if value]
    if given:
        both = [part for name in given[1:] for part in (" and ", name)]
        raise SettingsError(
            *(given[0], *both),
            *(" cannot go with ", Setting("raw")),
            ", which gives the model the prompt as it is, without a template; leave out ",
            *(Setting("raw"), ", or write them into the prompt."),
        )


def render_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    think: bool = False,
    tools: Sequence[Mapping[str, object]] = (),
    image_ids: ImageIds | None = None,
) -> Encoded:
    """The ids that ask for the next answer to `messages`, and the images among them.

    The template writes bos. One that does not gets none, as in the reference. tools: declarations
    that the model may call; image_ids: those of config.json. A control text in a message or a tool
    stays text: PromptError where the template cannot have it so. CheckpointError for a template
    that writes no placeholder for what is given, or leaves out a tool.
    """
    media = [medium for message in messages for medium in message.media]
    turns = [_as_turn(message) for message in messages]
    return render_turns(tokenizer, turns, media, think=think, tools=tools, image_ids=image_ids)


def render_turns(
    tokenizer: Tokenizer,
    turns: Sequence[Mapping[str, object]],
    media: Sequence[Medium] = (),
    *,
    think: bool = False,
    tools: Sequence[Mapping[str, object]] = (),
    image_ids: ImageIds | None = None,
    instead: str = RAW,
) -> Encoded:
    """The ids that ask for the next answer to `turns`, messages as chat templates take them.

    media: the images and videos of all turns, in order; the turns have a part for each. instead:
    see `render_text`. Errors are those of `render_prompt`.
    """
    text = write_turns(tokenizer, turns, tools=tools, think=think, instead=instead)
    require_tools(tokenizer, tools, text.text)
    return encode_written(tokenizer, text, media, image_ids)


def encode_text(tokenizer: Tokenizer, text: str) -> Encoded:
    """The ids of a text without a template, the bos token in front if the tokenizer has one."""
    bos = tokenizer.id_of(tokenizer.special_tokens.get("bos_token", ""))
    return Encoded([*(() if bos is None else (bos,)), *tokenizer.encode_text(text)])


def _as_function(tool: Mapping[str, object]) -> Mapping[str, object]:
    """A declaration as OpenAI's API has it: some templates take no other."""
    return tool if "function" in tool else {"type": "function", "function": tool}


def require_tools(
    tokenizer: Tokenizer, tools: Sequence[Mapping[str, object]], rendered: str
) -> None:
    """CheckpointError where the template leaves out a tool."""
    for tool in tools:
        if (name := name_of_tool(tool)) not in rendered:
            raise CheckpointError(
                f"{tokenizer.folder}: the chat template leaves out the tool {shown(name)}; put one "
                "that knows tools into chat_template.jinja, or leave tools out."
            )


def name_of_tool(tool: Mapping[str, object]) -> str:
    """The name of a tool's declaration, bare or inside its `function`; "" where it has none."""
    about = tool.get("function", tool)
    name = about.get("name") if isinstance(about, Mapping) else None
    return name if isinstance(name, str) else ""


def encode_written(
    tokenizer: Tokenizer,
    text: Written,
    media: Sequence[Medium] = (),
    image_ids: ImageIds | None = None,
) -> Encoded:
    """The ids of a rendered text; CheckpointError where it lacks placeholders of the media."""
    find = require_spelling if media else find_spelling
    if (spelling := find(tokenizer, image_ids)) is None:
        return Encoded(tokenizer.encode_pieces(text.pieces))
    if wrong := spelling.differing(text.pieces, media):
        raise CheckpointError(
            f"{tokenizer.folder}: the chat template writes {wrong}, expected one each; put a "
            "template that writes them into chat_template.jinja, or leave them out."
        )
    return spelling.encoded(tokenizer, text.pieces, media)


def encode_raw(
    tokenizer: Tokenizer, text: str, media: Sequence[Medium], image_ids: ImageIds | None
) -> Encoded:
    """The ids of a text as it is, which holds a placeholder where each of the media stands."""
    find = require_spelling if media else find_spelling
    if (spelling := find(tokenizer, image_ids)) is None:
        return Encoded(tokenizer.encode(text))
    if wrong := spelling.differing([text], media):
        raise PromptError(
            f"the prompt has {wrong}, expected one where each stands, since no template writes "
            "them into a prompt that is taken as it is; write as many as there are."
        )
    return spelling.encoded(tokenizer, [text], media)


def ignored(
    tokenizer: Tokenizer, messages: Sequence[Message], *, think: bool = False
) -> tuple[str, ...]:
    """The names of what the template is given and does not use: "system" and "think"."""
    return ignored_of_turns(tokenizer, [_as_turn(message) for message in messages], think=think)


def ignored_of_turns(
    tokenizer: Tokenizer,
    turns: Sequence[Mapping[str, object]],
    *,
    think: bool = False,
    tools: Sequence[Mapping[str, object]] = (),
) -> tuple[str, ...]:
    """As `ignored`, of messages as chat templates take them."""
    others = [turn for turn in turns if turn["role"] != "system"]
    if len(others) == len(turns) and not think:
        return ()
    render = partial(render_text, tokenizer, tools=tools)
    rendered, names = render(turns, think=think), list[str]()
    if len(others) < len(turns) and _gives(rendered, partial(render, others, think=think)):
        names.append("system")
    if think and _gives(rendered, partial(render, turns, think=False)):
        names.append("think")
    return tuple(names)


def _gives(text: str, render: Callable[[], str]) -> bool:
    """True where other messages, or another `think`, give the same text."""
    try:
        return render() == text
    except PromptError:  # the template cannot do without them
        return False


def render_text(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, object]],
    *,
    tools: Sequence[Mapping[str, object]] = (),
    think: bool = False,
    answering: bool = True,
    instead: str = RAW,
) -> str:
    """The text that the template makes of messages as it takes them.

    answering: it ends where the next answer begins. instead: what an error says of doing without a
    template. CheckpointError where there is none; PromptError where it refuses the messages.
    """
    if tokenizer.chat_template is None:
        raise CheckpointError(
            f"{tokenizer.folder} has no chat template: {instead}, or add chat_template.jinja."
        )
    if not messages:
        raise PromptError("no messages, expected at least one; write a prompt.")
    variables: dict[str, object] = {
        **tokenizer.special_tokens,
        "messages": list(messages),
        "tools": [*map(_as_function, tools)] or None,  # the reference always defines both
        "documents": None,
        "add_generation_prompt": answering,
        "enable_thinking": think,
    }
    return render(tokenizer.chat_template, variables, tokenizer.folder, instead)


def write_turns(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, object]],
    *,
    tools: Sequence[Mapping[str, object]] = (),
    think: bool = False,
    answering: bool = True,
    instead: str = RAW,
    trusted: Collection[str] = (),
) -> Written:
    """The text that `render_text` gives, with control texts of the template's own alone.

    trusted: roles whose contents may hold control texts, as those of answers to learn do.
    PromptError where the template cannot render a control text as text.
    """

    def render(
        messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]]
    ) -> str:
        return render_text(
            tokenizer, messages, tools=tools, think=think, answering=answering, instead=instead
        )

    template = tokenizer.chat_template or ""
    return written(tokenizer.control, render, messages, tools, template=template, trusted=trusted)


def _as_turn(message: Message) -> dict[str, object]:
    return {"role": message.role, "content": _content(message)}


def _content(message: Message) -> str | list[dict[str, str]]:
    """A message's content as templates expect it: parts where it has images or videos."""
    if not message.media:
        return message.content
    kinds = ["video" if isinstance(medium, Clip) else "image" for medium in message.media]
    text = [{"type": "text", "text": message.content}] if message.content else []
    return [*({"type": kind} for kind in kinds), *text]
