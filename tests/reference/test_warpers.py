"""The cuts of mode ar against transformers' own logits warpers, in their order, on 1,000 rows."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: no cut was compared")

import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.generation.logits_process import LogitsProcessorList
from warped import ROWS, SAMPLERS, kept_sets, random_rows

from mlx_diffgemma.checkpoint.generation import TokenDefaults

pytestmark = pytest.mark.reference


def warpers(sampler: TokenDefaults) -> LogitsProcessorList:
    """The list that `generate` itself would make of these settings, in its order."""
    config = GenerationConfig(
        do_sample=True,
        temperature=sampler.temperature,
        top_k=sampler.top_k,
        top_p=sampler.top_p,
        min_p=sampler.min_p or None,
    )
    return GenerationMixin()._get_logits_processor(config, input_ids_seq_length=1, device="cpu")


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_kept_sets_are_those_of_the_warpers(sampler: TokenDefaults) -> None:
    logits = random_rows()
    scores = warpers(sampler)(
        torch.zeros((ROWS, 1), dtype=torch.long), torch.from_numpy(logits.copy())
    )
    expected = [set(np.flatnonzero(row).tolist()) for row in torch.isfinite(scores).numpy()]
    assert kept_sets(logits, sampler) == expected


def test_the_warpers_are_there() -> None:
    """One for each setting that is not switched off: else the comparison would be with nothing."""
    assert len(warpers(TokenDefaults(0.7, 9, 0.9, 0.1))) == 4
    assert [type(one).__name__ for one in warpers(TokenDefaults(0.7, 9, 0.9, 0.1))] == [
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
    ]
