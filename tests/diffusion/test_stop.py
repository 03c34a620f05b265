"""The stop rule alone."""

import pytest

from mlx_diffgemma.checkpoint.generation import SamplerDefaults
from mlx_diffgemma.diffusion.stop import StopRule

RULE = StopRule(max_steps=48, stability=2, confidence=0.005)


@pytest.mark.parametrize(
    ("unchanged", "entropy", "settles"),
    [
        (2, 0.0049, True),
        (2, 0.005, False),  # below, not at
        (1, 0.0, False),
        (9, 0.0049, True),
        (0, 3.0, False),
    ],
)
def test_a_canvas_is_settled_when_stable_and_certain(
    unchanged: int, entropy: float, settles: bool
) -> None:
    assert RULE.settles(unchanged, entropy) is settles


def test_a_stability_of_0_leaves_it_to_the_entropy() -> None:
    assert StopRule(48, 0, 0.005).settles(0, 0.001)


def test_the_rule_is_that_of_the_settings() -> None:
    sampler = SamplerDefaults(
        max_denoising_steps=7, stability_threshold=3, confidence_threshold=0.25
    )
    assert StopRule.of(sampler) == StopRule(7, 3, 0.25)
