"""Questions of requests, whatever dialect they came in, in the core's own words.

Nothing here has been rendered, encoded or looked up in a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..conversation.form import Wanted
from ..generation.settings import Settings
from ..text.holes import Template
from ..text.results import Turn as Said


@dataclass(frozen=True)
class Common:
    """The part that every question has.

    settings: as given, None where nothing is (max_tokens too, which is cut to what fits); warnings:
    a line for each thing that was asked for and is not done; drafts: canvases are sent as they
    settle. stream: the answer is sent as it comes.
    """

    settings: Settings = field(default_factory=Settings)
    warnings: tuple[str, ...] = ()
    drafts: bool = False
    stream: bool = False


@dataclass(frozen=True)
class Chat(Common):
    """The next answer of a conversation.

    messages: of system, user, assistant and tool, in the order in which they came. A content
    is a string, or a list of {"type": "text", "text"} and {"type": "image"}; images: the files of
    all the latter, in order. An assistant's `tool_calls` are [{"id", "type": "function",
    "function": {"name", "arguments": an object}}]; a tool's message has `tool_call_id`, `name`
    where it is known, and `content`. `reasoning_content` is an earlier thought. wanted: the form of
    the answer, and the tools with their choice. think: None leaves it to the server's default.
    one_call: only the first call is wanted.
    """

    messages: tuple[Said, ...] = ()
    images: tuple[bytes, ...] = ()
    image_tokens: int | None = None
    wanted: Wanted = field(default_factory=Wanted)
    think: bool | None = None
    one_call: bool = False


@dataclass(frozen=True)
class Completion(Common):
    """A text that goes on behind `prompt`, as it is, without a chat template."""

    prompt: str = ""


@dataclass(frozen=True)
class Infill(Common):
    """The holes of a template, filled; prompt: what to write, "" for nothing said of it.

    hole_only: the answer is the text of the first hole alone (`suffix`), else the whole template.
    """

    template: Template | None = None
    prompt: str = ""
    images: tuple[bytes, ...] = ()
    image_tokens: int | None = None
    hole_only: bool = False


Asked = Chat | Completion | Infill
