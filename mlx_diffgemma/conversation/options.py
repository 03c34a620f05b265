"""The options of a question, and of an answer that goes on, as a session's methods take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..constrain.form import Form
from ..generation.settings import SettingFields, Settings
from ..model.text import Progress


class TurnOptions(SettingFields, total=False):
    """Options of a question: the fields of Settings, and these.

    settings: more of those fields, each given in one of both places; system: replaces the session's
    system text from here on, "" removes it; think: let the model write a thought first; raw: the
    prompt's tokens as they are, no template, no history, channels not parsed; progress: told of
    encoded prompt positions. images: an image or a list of them, as `prepare_image` takes them or
    prepared; video: as `prepare_video` takes it or prepared; both come before the text, which may
    then be empty, and raw stand where the prompt has placeholders. image_tokens: soft tokens of
    each image at most, None for the checkpoint's own number; a frame of a video always has 70 at
    most. instead: in place of the last question, which is not seen, and leaves the conversation
    with its answer once something of the new answer is finished.

    One of these may say what form the answer has. schema: a JSON schema, as a dictionary; the text
    is JSON without the fence around it that a model may write. pattern: a regular expression that
    the whole text matches. choices: texts of which the answer is one. tools: functions that the
    model may call, declared as in OpenAI's API; tool_choice: "auto" leaves it to the model whether
    and how it calls, "required" makes it call, a tool's name makes it call that one. Beside the
    form of a text, "auto" is either: calls as under "required", or such a text. A thought may come
    before the form, and does with think.
    """

    settings: Settings | None
    system: str | None
    think: bool
    raw: bool
    progress: Progress | None
    images: Any
    video: Any
    image_tokens: int | None
    instead: bool
    schema: Mapping[str, Any] | bool | None
    pattern: str | None
    choices: Sequence[str] | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str


@dataclass(frozen=True)
class Asking:
    """The options of a question that stay until its turn is made, checked; form: of its answer."""

    form: Form | None
    tools: Sequence[Mapping[str, Any]]
    system: str | None
    think: bool
    raw: bool
    instead: bool
    progress: Progress | None


class MoreOptions(SettingFields, total=False):
    """Options of an answer that goes on: the fields of Settings, settings and progress.

    They are those of TurnOptions. A form that the answer was begun with holds to its end.
    """

    settings: Settings | None
    progress: Progress | None
