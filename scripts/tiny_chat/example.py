"""A prompt with the answer that counts as right, and the wording of its question."""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_diffgemma.text.answer import THOUGHT
from mlx_diffgemma.text.template import render
from mlx_diffgemma.text.tokenizer import Tokenizer
from mlx_diffgemma.text.tools import CALL_CLOSING, CALL_OPENING, QUOTE

HELD_OUT = 12  # one content of so many was kept out of training
TURN_END, CALL_END = "<turn|>", "<|tool_response>"

Maker = Callable[[random.Random], "Example"]
Message = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A conversation that waits for an answer.

    key: its content without the wording, None where nothing was held out; thought: what the model
    thinks of it where `think` asks for it; end: the token that ends the answer.
    """

    skill: str
    messages: tuple[Message, ...]
    answer: str
    key: str | None
    thought: str
    system: str = ""
    think: bool = False
    tools: tuple[Message, ...] = ()
    end: str = TURN_END

    @property
    def held_out(self) -> bool:
        """True where training never saw this content."""
        return self.key is None or zlib.crc32(f"{self.skill}|{self.key}".encode()) % HELD_OUT == 0

    @property
    def expected(self) -> str:
        """The whole answer up to its end, with the markers of thoughts and calls."""
        return self.thinking + self.answer

    @property
    def thinking(self) -> str:
        """The thought as the model writes it; empty where none is asked for."""
        return f"<|channel>{THOUGHT}\n{self.thought}\n<channel|>" if self.think else ""

    def prompt(self, tokenizer: Tokenizer) -> str:
        """The text that the checkpoint's chat template makes of it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        variables = {
            **tokenizer.special_tokens,
            "messages": [*system, *self.messages],
            "tools": list(self.tools) or None,
            "add_generation_prompt": True,
            "enable_thinking": self.think,
        }
        assert tokenizer.chat_template is not None
        return render(tokenizer.chat_template, variables, tokenizer.folder)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def asked(rng: random.Random, wordings: Sequence[str], **values: object) -> str:
    """A question in one of its wordings, now and then typed carelessly or with a "Please"."""
    text = rng.choice(wordings).format(**values)
    if rng.random() < 0.12:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.12 and text[-1] in ".?":
        text = text[:-1].rstrip()
    if rng.random() < 0.05:
        text = "Please " + text[:1].lower() + text[1:]
    return text


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def call(name: str, arguments: dict[str, str | int]) -> str:
    """A tool call as the model writes it."""
    said = (
        f"{key}:{QUOTE}{value}{QUOTE}" if isinstance(value, str) else f"{key}:{value}"
        for key, value in sorted(arguments.items())
    )
    return f"{CALL_OPENING}call:{name}{{{','.join(said)}}}{CALL_CLOSING}"
