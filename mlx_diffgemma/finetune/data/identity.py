"""The content of examples in one hash: whether two runs learn from the same data."""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np

from ...model.images import Placed
from .examples import Example


def data_identity(examples: Iterable[Example]) -> str:
    """A hash of all that is learned from: ids, prompts, holes and images, in order."""
    digest = sha256()
    for example in examples:
        digest.update(f"{len(example.ids)} {example.prompt} {len(example.images)};".encode())
        digest.update(np.ascontiguousarray(example.ids, "<i4").tobytes())
        if example.holes is not None:
            digest.update(np.packbits(example.holes).tobytes())
        for image in example.images:
            pixels = image.pixels.digest if isinstance(image, Placed) else image.digest
            digest.update(f"{image.span} {pixels};".encode())
    return digest.hexdigest()[:16]
