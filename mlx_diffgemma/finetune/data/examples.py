"""Examples to train on, as token ids.

Axes: L positions, C canvas positions.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...checkpoint.config import ModelConfig
from ...errors import DataError, Setting, SettingsError, counted
from ...model.images import Placed, placed
from ...text.exchange import Dialogue, Exchange, render_exchange
from ...text.placeholders import Encoded
from ...text.tokenizer import Tokenizer
from .asking import ImageFile, asking_of
from .forms import read_form
from .lines import Line, Lines, data_file, named

Progress = Callable[[int, int], None]
"""Is told the bytes of a file that have been read, and all it has."""


@dataclass(frozen=True, eq=False)
class Example:
    """ids [L] int32: prompt, response and its fill to whole canvases; prompt: tokens of it.

    images: those of the prompt, with their positions. holes [L - prompt]: the positions of the
    response that are noised, None for all of them; where there are some, the encoder does not learn
    the response.
    """

    ids: NDArray[np.int32]
    prompt: int
    images: tuple[Placed | ImageFile, ...] = ()
    skill: str | None = None
    holes: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.asarray(self.ids, np.int32))


@dataclass(frozen=True)
class Examples:
    """The examples of a file, and a count of what was not taken as it stands there.

    blank: lines; unused: lines with a key that nothing reads; multi_turn: examples of which only
    the last of several answers is learned; cut: examples that lost the end of their response;
    dropped: examples whose prompt alone is too long.
    """

    file: Path
    examples: tuple[Example, ...]
    blank: int = 0
    unused: Mapping[str, int] = field(default_factory=dict)
    multi_turn: int = 0
    cut: int = 0
    dropped: int = 0


def read_examples(
    path: Path,
    tokenizer: Tokenizer,
    config: ModelConfig,
    *,
    max_length: int | None = None,
    truncate: bool = False,
    progress: Progress | None = None,
) -> Examples:
    """The examples of a file of JSON lines, or of train.jsonl in a folder.

    max_length: tokens of an example, its fill included; None for the checkpoint's context. A longer
    one is an error, which counts them all; with `truncate` its response loses whole canvases at the
    end, and it is dropped where not one is left. DataError names the line that is wrong.
    """
    file = data_file(path)
    reader = _Reader(file, tokenizer, config, _limit(config, max_length), truncate)
    size = file.stat().st_size if file.is_file() else 0
    for line in (lines := Lines(file)):
        reader.take(line)
        if progress:
            progress(line.end, size)
    return reader.examples(lines.blank)


def eos_of(tokenizer: Tokenizer, config: ModelConfig) -> int:
    """The id that fills a response to whole canvases."""
    eos = tokenizer.id_of(tokenizer.special_tokens.get("eos_token", ""))
    if eos is not None:
        return eos
    if not config.stop_ids:
        raise DataError(f"{tokenizer.folder}: no eos token, expected one to end answers with.")
    return config.stop_ids[0]


def _limit(config: ModelConfig, max_length: int | None) -> int:
    context, least = config.text.max_position_embeddings, config.canvas_length + 1
    if max_length is None:
        return context
    if not least <= max_length <= context:
        raise SettingsError(
            Setting("max_length"),
            f" is {max_length:,}, expected {least:,}, a canvas behind a prompt of one token, to "
            f"{context:,}, the checkpoint's context.",
        )
    return max_length


@dataclass
class _Reader:
    """The examples read so far."""

    file: Path
    tokenizer: Tokenizer
    config: ModelConfig
    limit: int
    truncate: bool
    taken: list[Example] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    first_long: int = 0  # the number of a line

    def __post_init__(self) -> None:
        self.eos = eos_of(self.tokenizer, self.config)
        self.asking = asking_of(self.file.parent, self.config)

    def take(self, line: Line) -> None:
        """One more line."""
        with line.read():
            form = read_form(line.values, self.asking)
            self.unused.update(form.unused)
            exchange = self._exchange(form.content)
            example = self._example(exchange, form.skill)
        if len(example.ids) > self.limit:
            self._too_long(example, line.number)
        else:
            self.taken.append(example)

    def examples(self, blank: int) -> Examples:
        """All of them; DataError where some are too long, or none is left."""
        if self.counts["long"] and not self.truncate:
            raise self._too_many()
        if not self.taken:
            raise DataError(
                f"{named(self.file)}: the prompt of every example leaves no room for a canvas in "
                f"{self.limit:,} tokens; ",
                *self._remedies(),
            )
        counts = {name: self.counts[name] for name in ("multi_turn", "cut", "dropped")}
        return Examples(self.file, tuple(self.taken), blank, dict(self.unused), **counts)

    def _exchange(self, content: Dialogue | str) -> Exchange:
        if isinstance(content, str):
            return self._text(content)
        answers = sum(message["role"] == "assistant" for message in content.messages)
        self.counts["multi_turn"] += answers > 1
        return render_exchange(
            self.tokenizer, content, self.config.stop_ids, self.eos, self.config.image_ids
        )

    def _text(self, text: str) -> Exchange:
        """A text without a template: bos asks for it, where the tokenizer has one."""
        bos = self.tokenizer.id_of(self.tokenizer.special_tokens.get("bos_token", ""))
        prompt = [] if bos is None else [bos]
        ids = self.tokenizer.encode(text)
        if prompt and ids[:1] == prompt:
            del ids[0]  # written in the text, too
        return Exchange(Encoded(prompt), [*ids, self.eos])

    def _example(self, exchange: Exchange, skill: str | None) -> Example:
        prompt, canvas = exchange.prompt.ids, self.config.canvas_length
        fill = -len(exchange.answer) % canvas
        ids = np.array([*prompt, *exchange.answer, *[self.eos] * fill], np.int64)
        if (vocab := self.config.text.vocab_size) <= ids.max():
            raise DataError(
                f"the token {int(ids.max())}, expected ids below {vocab:,}, the network's "
                "vocabulary; the tokenizer is another checkpoint's."
            )
        images = placed(prompt, exchange.prompt.images, self.config.image_token_id)
        if self.config.image_token_id in exchange.answer:
            raise DataError("an image's placeholder in the text to learn, expected plain text.")
        files = tuple(self._file(image) for image in images)
        return Example(ids.astype(np.int32), len(prompt), files, skill)

    def _file(self, image: Placed) -> ImageFile:
        path = image.pixels.source.path or ""
        return ImageFile(image.span, path, image.pixels.digest, self.asking)

    def _too_long(self, example: Example, number: int) -> None:
        """Count it; cut or drop it where that was asked for."""
        self.counts["long"] += 1
        self.first_long = self.first_long or number
        self.longest = max(self.longest, len(example.ids))
        if not self.truncate:
            return
        canvases = (self.limit - example.prompt) // self.config.canvas_length
        self.counts["cut" if canvases > 0 else "dropped"] += 1
        if canvases > 0:
            end = example.prompt + canvases * self.config.canvas_length
            self.taken.append(replace(example, ids=example.ids[:end].copy()))

    def _too_many(self) -> DataError:
        return DataError(
            f"{named(self.file)}: {counted(self.counts['long'], 'example')} of more than "
            f"{self.limit:,} tokens, prompt, response and fill, the first in line "
            f"{self.first_long:,}, the longest of {self.longest:,}; ",
            *self._remedies(("cut them with ", Setting("truncate"))),
        )

    def _remedies(self, *more: tuple[str, str]) -> Iterator[str]:
        """The parts of a sentence about what can be done."""
        below = self.limit < self.config.text.max_position_embeddings
        others = [*([("raise ", Setting("max_length"))] if below else []), *more]
        yield "shorten them"
        for verb, setting in others:
            yield ", or " if setting is others[-1][1] else ", "
            yield verb
            yield setting
        yield "."
