"""Errors that this package raises on purpose.

    DiffGemmaError
    ├── CheckpointError    a folder cannot be loaded: incomplete, broken or of another model
    ├── ConfigFileError    the user's config file, or a value in it, cannot be used
    ├── HubError           a repository cannot be fetched: no network, no such repository, offline
    ├── SettingsError      a sampler setting is out of range
    ├── ConstraintError    a form that cannot be enforced: a schema, a pattern, choices, a length
    ├── RequestError       a request for decisions is wrong in shape or value, or too long
    ├── PromptError        the prompt cannot be answered: empty, too long, not a puzzle
    ├── ImageError         an image or a video cannot be read: broken, empty, too large
    ├── TurnError          an answer cannot go on: something else was asked of its session meanwhile
    ├── FitError           the model or the context does not fit into this machine's memory
    ├── NumericsError      the weights produce numbers that are not finite
    ├── KernelError        arrays a Metal kernel was not made for
    ├── ConvertError       a conversion cannot begin, go on or be trusted: its target, its disk
    ├── DataError          a line or a file of training data that cannot be used
    ├── ShareError         Macs that cannot, or no longer, work on one answer together
    ├── ServeError         a server that cannot begin: its address, its key, a library it lacks
    ├── ProfileError       a measurement that cannot be read, or not be compared with another
    └── TrainingError      a training run that cannot begin, go on or be resumed

A message is one line: what, what was found, what was expected, and what to do next. It names a
setting as a Setting, a part of its own: Python shows the field's name, the command line the option.
What goes on all the same is a KernelWarning: MLX's own operations run where a Metal kernel does
not.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# What MLX says when Metal, or the system, has no more memory to give (0.32; all RuntimeErrors).
OUT_OF_MEMORY = re.compile(r"allocat|insufficient memory|out ?of ?memory", re.IGNORECASE)


SHOWN_CHARACTERS = 40  # of a value in a message


class Setting(str):
    """The name of a setting in a message, never a word or a key of a file that is spelled alike."""

    __slots__ = ()


class DiffGemmaError(Exception):
    """Base of all known errors; the command line prints it as one line and exits with 1.

    Its arguments are the parts of the message, in order.
    """

    def __str__(self) -> str:
        return self.told({})

    def told(self, names: Mapping[str, str]) -> str:
        """The message with each Setting under the name that its reader knows it by."""
        parts = (names.get(part, part) if isinstance(part, Setting) else part for part in self.args)
        return "".join(map(str, parts))


class CheckpointError(DiffGemmaError):
    """A checkpoint folder that cannot be loaded."""


class ConfigFileError(DiffGemmaError):
    """A config file of the user's that cannot be read, or a value in it that cannot be used."""


class HubError(DiffGemmaError):
    """A repository that cannot be fetched."""


class SettingsError(DiffGemmaError, ValueError):
    """A setting out of its range; the command line exits with 2."""


class ConstraintError(DiffGemmaError, ValueError):
    """A form of an answer that cannot be enforced, or that nothing satisfies."""


class RequestError(DiffGemmaError, ValueError):
    """A request for decisions that cannot be answered: where it is wrong, and what HTTP says of it.

    location: keys and indices from the request down; kind: a word that programs read; status: the
    HTTP status.
    """

    def __init__(
        self,
        location: Sequence[str | int],
        said: str,
        kind: str = "value_error",
        status: int = 422,
    ) -> None:
        where = ".".join(shown(str(step), SHOWN_CHARACTERS) for step in location)
        super().__init__(where or "request", ": ", said)
        self.location, self.said, self.kind, self.status = tuple(location), said, kind, status

    @property
    def body(self) -> dict[str, Any]:
        """The body of the HTTP answer."""
        if self.status == 422:
            where = ["body", *self.location]
            return {"detail": [{"loc": where, "msg": self.said, "type": self.kind}]}
        return {"detail": {"error_type": self.kind, "message": str(self)}}


class PromptError(DiffGemmaError, ValueError):
    """A prompt that cannot be answered.

    too_long: it does not fit into the context with what is to come behind it.
    """

    def __init__(self, *parts: object, too_long: bool = False) -> None:
        super().__init__(*parts)
        self.too_long = too_long


class ImageError(DiffGemmaError, ValueError):
    """An image or a video that cannot be read."""


class TurnError(DiffGemmaError):
    """An answer that cannot go on: its conversation is another one's, or it was iterated before."""


class FitError(DiffGemmaError):
    """A model or context larger than the memory of this machine."""


class NumericsError(DiffGemmaError, ArithmeticError):
    """Weights that give numbers which are not finite."""


class KernelError(DiffGemmaError, ValueError):
    """Arrays of another dtype, rank, group size or shape than a Metal kernel takes."""


class ConvertError(DiffGemmaError):
    """A conversion whose target cannot be written, or whose result is not what it should be."""


class DataError(DiffGemmaError, ValueError):
    """A file or a line of data to train on or to test with that cannot be used."""


class ProfileError(DiffGemmaError):
    """A measurement that cannot be read, made, or compared with another."""


class ServeError(DiffGemmaError):
    """A server that cannot begin, for its address, its key or a library that is not there."""


class ShareError(DiffGemmaError):
    """Macs that cannot work on one answer together: one differs from the others, or is lost.

    lost: the connection to another one is gone; the command line exits with 5.
    """

    def __init__(self, *parts: object, lost: bool = False) -> None:
        super().__init__(*parts)
        self.lost = lost


class TrainingError(DiffGemmaError):
    """A training run whose folder, saved state or disk does not let it begin or go on."""


class KernelWarning(UserWarning):
    """A Metal kernel that is wrong or fails here, or verdicts that cannot be kept; said once."""


def is_out_of_memory(error: BaseException) -> bool:
    """True where an error means that there was not enough memory, Metal's or the machine's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 canvas", "2 canvases", "1,024 tokens", "2 entries"."""
    if count == 1:
        return f"1 {noun}"
    if re.search("[^aeiou]y$", noun):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if re.search('(s|x|ch|sh)$', noun) else 's'}"


def shown(text: str, most: int = 100) -> str:
    """A text from outside as an error repeats it: in one line, cut in the middle where too long.

    What a terminal would obey or cannot draw is written as its escape.
    """
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[-(most // 2) :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def brief(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """A value as Python writes it, and otherwise as `shown`."""
    try:
        written = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return f"a {type(value).__name__} too long to write"
    return shown(written, most)


def one_line(message: object) -> str:
    """A foreign error's message without line breaks."""
    return " ".join(str(message).split())
