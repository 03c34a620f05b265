"""The prompts of a decision: written once each, with images in place and thoughts behind."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from ..errors import ImageError, PromptError, RequestError, counted
from .decision import Usage
from .layouts import Opened
from .options import Options
from .placeholders import marked, parted
from .reader import LoadedModel, Prompt
from .request import Request

OTHERS = (".", "!")


@dataclass
class Prompts:
    """The prompts of a decision, each written and thought behind once.

    told: the request with marks where images stand, of which prompts are made.
    """

    request: Request
    model: LoadedModel
    options: Options
    written: dict[tuple[str, str], Prompt] = field(default_factory=dict)
    opened: dict[tuple[str, str], Opened] = field(default_factory=dict)
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        """RequestError for images that the model cannot see, or that are none."""
        given = {"assets": self.request.assets, "images": self.request.images}
        for name, images in given.items():
            if images and not self.model.sees:
                said = f"{counted(len(images), 'image')}, and {self.model.name} sees none."
                raise RequestError((name,), f"{said} Leave them out, or take another model.")
        self.front = [self._image(("images", i), each) for i, each in enumerate(given["images"])]
        self.told, marks = marked(self.request)
        self.placed = {
            marks[each.placeholder]: self._image(("assets", each.placeholder), each.content)
            for each in self.request.assets
        }

    def __call__(self, system: str, user: str, *, shared: str) -> Opened:
        """The prompt of two texts, and behind it a thought where one is wanted.

        shared: the beginning of the user's text that other prompts have as well, "" for none.
        """
        if (system, user) not in self.opened:
            prompt = self._written(system, user)
            prompt = replace(prompt, shared=(self._shared(prompt, system, user, shared),))
            self.written[system, user] = prompt
            opened = self._thought(prompt) if self.options.think else self._plain(prompt)
            self.opened[system, user] = opened
        return self.opened[system, user]

    def usage(self) -> Usage:
        """Tokens of all prompts, what they begin with in common once, and of all thoughts."""
        ids = [prompt.ids for prompt in self.written.values()]
        same = [_common(ids[0], each) for each in ids[1:]]
        return Usage(sum(map(len, ids)) - sum(same), self.thought_tokens)

    def _image(self, at: tuple[str, str | int], given: Any) -> object:
        try:
            return self.model.texts.image(given)
        except ImageError as error:
            raise RequestError(at, str(error), "image_error") from error

    def _text(self, system: str, user: str) -> Prompt:
        """The prompt of two texts, with images in their places.

        RequestError for a text that the checkpoint would take for an image.
        """
        content = (*self.front, *parted(user, self.placed))
        thinks = bool(self.options.think)
        try:
            return self.model.texts.prompt(parted(system, self.placed), content, think=thinks)
        except PromptError as error:
            raise RequestError(("state",), str(error)) from error

    def _written(self, system: str, user: str) -> Prompt:
        """A prompt that leaves room for a thought and a canvas; RequestError where it does not."""
        model, prompt = self.model, self._text(system, user)
        canvases = 1 + -(-self.options.think // model.canvas_length)
        needed = len(prompt.ids) + canvases * model.canvas_length
        if needed > model.context_length:
            think = self.options.think
            thought = f", a thought of {think:,} tokens" if think else ""
            raise RequestError(
                ("state",),
                f"it takes {needed:,} positions with its questions{thought} and a canvas, and this "
                f"model's context has {model.context_length:,}; shorten it, or ask for less.",
                "request_too_large",
                413,
            )
        return prompt

    def _shared(self, prompt: Prompt, system: str, user: str, shared: str) -> int:
        """The number of first ids that a prompt has in common with any other of the same beginning.

        Found with a text that goes on in another way.
        """
        other = next(each for each in OTHERS if not user.startswith(each, len(shared)))
        return _common(prompt.ids, self._text(system, f"{shared}{other}").ids)

    def _plain(self, prompt: Prompt) -> Opened:
        """A canvas opens with an empty thought, where the template has not written one."""
        empty = self.model.empty_thought
        return Opened(prompt, () if prompt.ids[len(prompt.ids) - len(empty) :] == empty else empty)

    def _thought(self, prompt: Prompt) -> Opened:
        if self.model.thought is None:
            said = f"is {self.options.think}, and {self.model.name} has no thoughts; leave it out."
            raise RequestError(("think",), said)
        before, behind = map(self.model.texts.encode, self.model.thought)
        opened = prompt.extended(before)
        thought = self.model.reader.think(opened, self.options.think, self.options.seed)
        self.thought_tokens += len(thought)
        return Opened(prompt.extended([*before, *thought, *behind]), ())


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of ids that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
