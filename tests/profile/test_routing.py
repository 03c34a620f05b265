"""Counts of the router's choices, by hand."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_diffgemma.checkpoint.config import ModelConfig
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.trial import Outcome, Verdict
from mlx_diffgemma.model.experts import Routing
from mlx_diffgemma.profile.routing import routing_row, rows_per_expert
from mlx_diffgemma.profile.samples import CanvasRecord, StepParts


def test_rows_are_those_that_the_experts_get() -> None:
    scores = mx.array([[5.0, 4, 3, 2], [5, 1, 4, 2], [0, 0, 0, 0]])  # ties go to the lowest
    layer = Routing(scores, mx.ones(4), 2)
    other = Routing(-scores, mx.ones(4), 1)
    found = rows_per_expert([layer, other])
    assert found.tolist() == [[3, 2, 1, 0], [1, 1, 0, 1]]


def canvas(*steps: list[list[int]]) -> CanvasRecord:
    """A canvas with the given rows of each expert of each layer, step by step."""
    parts = [StepParts({}, {}, (), np.array(rows, np.uint16)) for rows in steps]
    return CanvasRecord(parts=parts)


@pytest.fixture
def config(shallow: Session) -> ModelConfig:
    """Two layers."""
    return shallow.model.config


def test_figures_of_tiles_and_experts(config: ModelConfig) -> None:
    first = [[0, 8, 9, 33], [0, 0, 1, 49]]
    second = [[0, 0, 25, 25], [0, 0, 0, 50]]
    found = routing_row([canvas(first, second), canvas(first)], config, lambda module: 8.0)
    assert found is not None
    assert found["touched"] == {"mean": (3 + 2 + 2 + 1 + 3 + 2) / 6, "least": 1, "most": 3}
    assert found["touched_by_step"] == [2.5, 1.5]
    by_rows = {(row["least"], row["most"]): 6 * row["experts"] for row in found["rows_per_expert"]}
    assert by_rows == pytest.approx(
        {(0, 0): 11, (1, 8): 4, (9, 16): 2, (17, 24): 0, (25, 32): 2, (33, 64): 5, (65, None): 0}
    )
    tiles = [1 + 1 + 2, 1 + 2, 2, 2, 4, 3]
    assert found["tiles"] == pytest.approx(sum(tiles) / 6)
    assert found["tile_waste"] == pytest.approx(1 - 300 / (32 * sum(tiles)))
    eights = [1 + 2 + 5, 1 + 7, 4 + 4, 7, 8, 8]
    assert found["granule_waste"] == pytest.approx(1 - 300 / (8 * sum(eights)))
    assert (found["tile_rows"], found["granule_rows"]) == (32, 8)
    everything = routing_row([canvas([[1] * config.text.num_experts])], config, lambda module: 8.0)
    assert everything is not None
    share = found["touched"]["mean"] / config.text.num_experts
    assert found["expert_bytes"] == pytest.approx(share * everything["expert_bytes"])


@pytest.mark.parametrize(("variant", "rows"), [(None, 32), ("tiles of 16 rows", 16)])
def test_tiles_are_those_of_the_trial_for_as_many_rows(
    variant: str | None, rows: int, config: ModelConfig
) -> None:
    """Not those of a prompt's, which are more."""
    faster = Verdict(Outcome.FASTER, variant=variant)
    other = Verdict(Outcome.FASTER, variant=None if variant else "tiles of 16 rows")
    counts = [[10] * config.text.top_k_experts] * 2
    dispatch.forget()
    dispatch.known.verdicts[(dispatch.mode(), "experts", "16 rows, 2 of 8 experts")] = faster
    dispatch.known.verdicts[(dispatch.mode(), "experts", "512 rows, 2 of 8 experts")] = other
    found = routing_row([canvas(counts)], config, lambda module: 8.0)
    dispatch.forget()
    assert found is not None
    assert found["tile_rows"] == rows
    assert found["tile_waste"] == pytest.approx(1 - 10 / rows)


def test_without_repetitions_there_is_nothing_to_count(config: ModelConfig) -> None:
    assert routing_row([CanvasRecord()], config, lambda module: 8.0) is None
