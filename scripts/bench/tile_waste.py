"""What the height of the experts' tiles makes of few rows: arithmetic, nothing is timed.

    python scripts/bench/tile_waste.py

8 of 128 experts are drawn for each row, some far more popular than others: log-popularities are
normal, spread so that 256 rows touch about 90 experts: on real text about 84 were published.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXPERTS, TOP_K = 128, 8
SPREAD = 2.25  # standard deviation of the log-popularities
DRAWS = 200
ROWS = (256, 128, 64)  # a canvas, and what each of two and of four Macs has of it


@dataclass(frozen=True)
class Waste:
    """Means over draws; computed: rows of whole tiles over rows needed, by height of the tiles.

    touched: experts with rows. unpacked: tiles of an expert with rows, by height: each unpacks that
    expert's weights once.
    """

    touched: float
    computed: dict[int, float]
    unpacked: dict[int, float]


def counts(rows: int) -> NDArray[np.int64]:
    """Rows of each expert [DRAWS, EXPERTS]."""
    random = np.random.default_rng(rows)
    popular = SPREAD * random.standard_normal((DRAWS, 1, EXPERTS))
    scores = popular + random.gumbel(size=(DRAWS, rows, EXPERTS))
    chosen = np.argpartition(-scores, TOP_K, axis=2)[..., :TOP_K]
    experts = np.arange(EXPERTS)[:, None]
    return np.array([(one.ravel() == experts).sum(axis=1) for one in chosen])


def waste(rows: int, heights: tuple[int, ...] = (8, 16, 32)) -> Waste:
    """The figures of so many rows."""
    of_expert = counts(rows)
    touched = (of_expert > 0).sum(axis=1)
    tiles = {height: -(-of_expert // height).sum(axis=1) for height in heights}
    needed = rows * TOP_K
    return Waste(
        touched=float(touched.mean()),
        computed={h: float((h * count / needed).mean()) for h, count in tiles.items()},
        unpacked={h: float((count / touched).mean()) for h, count in tiles.items()},
    )


def busiest(macs: int, rows: int = ROWS[0]) -> float:
    """Experts' rows of the Mac that has most of them, over the mean: each has experts side by side.

    The mean over draws.
    """
    ends = np.cumsum([len(part) for part in np.array_split(np.arange(EXPERTS), macs)])[:-1]
    loads = np.stack([part.sum(axis=1) for part in np.split(counts(rows), ends, axis=1)])
    return float((loads.max(axis=0) / loads.mean(axis=0)).mean())


def table() -> Iterator[str]:
    """A line of Markdown for each number of rows, and two for the head."""
    yield (
        "| rows | experts touched | rows of whole tiles over rows needed: 8 | 16 | 32 | "
        "tiles of a touched expert: 16 | 32 |"
    )
    yield "|---|---|---|---|---|---|---|"
    for rows in ROWS:
        found = waste(rows)
        computed = " | ".join(f"{figure:.2f}" for figure in found.computed.values())
        unpacked = " | ".join(f"{found.unpacked[height]:.2f}" for height in (16, 32))
        yield f"| {rows} | {found.touched:.0f} | {computed} | {unpacked} |"


if __name__ == "__main__":
    print(*table(), sep="\n")
