"""A model for decisions without a network: a tokenizer of words, and probabilities of hashes."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlx_diffgemma.decide.reader import (
    Content,
    LoadedModel,
    Prompt,
    Reading,
    ReadOptions,
    Sheet,
)
from mlx_diffgemma.errors import ImageError

# As in Gemma's vocabulary: a word with the blank before it is one token, a digit stands alone.
WORDS = re.compile(r"<\|?\w+\|?>| ?[A-Za-z]+|\d|\n|.", re.DOTALL)
CHARACTERS = re.compile(r"<\|?\w+\|?>|.", re.DOTALL)
THOUGHT = ("<|channel>thought\n", "<channel|>")
PAD, TURN_END = 0, 1


@dataclass
class FakeTexts:
    """Ids of words in the order in which they are met, or of characters."""

    pattern: re.Pattern[str] = WORDS
    ids: dict[str, int] = field(default_factory=lambda: {"<pad>": PAD, "<turn|>": TURN_END})

    def encode(self, text: str) -> list[int]:
        return [self.ids.setdefault(piece, len(self.ids)) for piece in self.pattern.findall(text)]

    def prompt(self, system: Content, user: Content, *, think: bool) -> Prompt:
        images: list[object] = []
        text = f"<|turn>system\n{'<|think|>' if think else ''}"
        text += self._text(system, images) + "<turn|>\n<|turn>user\n"
        text += self._text(user, images) + "<turn|>\n<|turn>model\n"
        return Prompt(tuple(self.encode(text)), tuple(images))

    def image(self, given: object) -> object:
        if not isinstance(given, bytes) or b"broken" in given:
            raise ImageError("this image is broken.")
        return ("image", given)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        known = {index: piece for piece, index in self.ids.items()}
        return "".join(known[index] for index in ids)

    def _text(self, content: Content, images: list[object]) -> str:
        images += [part for part in content if not isinstance(part, str)]
        return "".join(part if isinstance(part, str) else "<|image|>" for part in content)


@dataclass
class FakeReader:
    """Log-probabilities that depend on every text in front of a slot, the labels and the seed."""

    texts: FakeTexts
    prompts: list[Prompt] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    options: list[ReadOptions] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    sharp: float = 3.0

    def read(
        self, prompt: Prompt, sheets: Sequence[Sheet], options: ReadOptions
    ) -> Sequence[Reading]:
        self.prompts.append(prompt)
        self.sheets += sheets
        self.options.append(options)
        return [self._reading(prompt, sheet, options) for sheet in sheets]

    def encoded(self) -> int:
        return sum(len(prompt.ids) for prompt in self.prompts)

    def think(self, prompt: Prompt, limit: int, seed: int) -> list[int]:
        self.thoughts.append(self.texts.text(prompt.ids))
        return self.texts.encode("well so it is")[:limit]

    def _reading(self, prompt: Prompt, sheet: Sheet, options: ReadOptions) -> Reading:
        tables = [
            np.array([self._row(prompt, sheet, at, seed) for seed in options.seeds])
            for at in range(len(sheet.slots))
        ]
        mass = tuple(np.full(len(options.seeds), 0.5) for _ in tables) if options.mass else None
        return Reading(tuple(tables), mass)

    def _row(self, prompt: Prompt, sheet: Sheet, at: int, seed: int) -> np.ndarray[Any, Any]:
        slots = {slot.position for slot in sheet.slots}
        fixed = [token for i, token in enumerate(sheet.tokens) if i not in slots]
        seen = repr((self.texts.text([*prompt.ids, *fixed]), prompt.images, at))
        base = np.array([self._logit(seen, label) for label in sheet.slots[at].labels])
        noise = np.array([self._logit(str(seed), label) for label in sheet.slots[at].labels])
        logits = self.sharp * (base + 0.1 * noise)
        return logits - np.log(np.exp(logits).sum())

    def _logit(self, seen: str, label: int) -> float:
        digest = hashlib.sha256(f"{seen}{self.texts.text([label])}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**63 - 1


def fake_model(pattern: re.Pattern[str] = WORDS, **fields: Any) -> LoadedModel:
    """A loaded model of fakes; its reader keeps what it was asked."""
    texts = FakeTexts(pattern)
    given: dict[str, Any] = {
        "reader": FakeReader(texts),
        "texts": texts,
        "name": "fake-1",
        "canvas_length": 256,
        "context_length": 32768,
        "turn_end": TURN_END,
        "pad": PAD,
        "thought": THOUGHT,
    }
    return LoadedModel(**{**given, **fields})
