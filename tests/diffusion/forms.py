"""Forms over small vocabularies: digits, letters, the bytes of one character, two controls.

Ids from 40 on write two of them, then three, then four.
"""

from functools import cache
from itertools import chain, islice, product
from string import ascii_lowercase, digits

from mlx_diffgemma.constrain import form
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.machine import Machine
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.constrain.vocabulary import Vocabulary

PAD, END = 38, 39
SINGLE = [*(char.encode() for char in digits + ascii_lowercase), b"\xc3", b"\xa9"]  # the last: é


@cache
def texts(size: int) -> Vocabulary:
    longer = chain.from_iterable(product(digits + ascii_lowercase, repeat=n) for n in (2, 3, 4))
    more = ["".join(text).encode() for text in islice(longer, max(0, size - 40))]
    return vocabulary_of([*SINGLE, None, None, *more])


@cache
def form_of(size: int, pattern: str, stops: tuple[int, ...] = (END,)) -> Machine:
    """A form over the first ids of the vocabulary; without stops it ends with its place."""
    asked = form.form_of(pattern=pattern)
    assert asked is not None
    return form.compiled(asked, texts(size), stops, (*stops, PAD))


def held_to(pattern: str, left: int) -> Constraint:
    """An answer over 40 ids."""
    return Constraint(form_of(40, pattern), left)


def id_of(text: str) -> list[int]:
    """The ids of a text, a byte each."""
    return [SINGLE.index(bytes([byte])) for byte in text.encode()]


def text_of(tokens: list[int], size: int = 40) -> str:
    """What tokens write; controls write nothing."""
    return b"".join(texts(size).texts[token] or b"" for token in tokens).decode()
