"""The arrays that parts of a network hold."""

from collections.abc import Iterator

import mlx.core as mx


def named_arrays(part: object, place: str) -> Iterator[tuple[str, mx.array]]:
    """Every array inside a part of the network, with a dotted name."""
    if isinstance(part, mx.array):
        yield place, part
    elif isinstance(part, list | tuple):
        for number, item in enumerate(part):
            yield from named_arrays(item, f"{place}.{number}")
    elif hasattr(part, "__dict__"):
        for name, item in vars(part).items():
            yield from named_arrays(item, f"{place}.{name}")


def distinct_arrays(part: object) -> list[mx.array]:
    """Every array inside a part of the network, once."""
    return list({id(array): array for _, array in named_arrays(part, "")}.values())
