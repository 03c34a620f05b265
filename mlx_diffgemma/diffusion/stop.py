"""The end of a canvas: the argmax canvas is stable and certain, or the steps are spent."""

from dataclasses import dataclass

from ..checkpoint.generation import SamplerDefaults


@dataclass(frozen=True)
class StopRule:
    """The stop test of a canvas.

    max_steps: denoising steps at most; stability: steps that the argmax canvas must stay unchanged,
    0 for none; confidence: mean entropy in nats below which the canvas is certain. Source:
    transformers 5.23 `StableAndConfidentStoppingCriteria`.
    """

    max_steps: int
    stability: int
    confidence: float

    @classmethod
    def of(cls, sampler: SamplerDefaults) -> "StopRule":
        """The rule that a sampler's settings name."""
        return cls(
            sampler.max_denoising_steps, sampler.stability_threshold, sampler.confidence_threshold
        )

    def settles(self, unchanged_steps: int, mean_entropy: float) -> bool:
        """True where a canvas is stable and certain; the last `unchanged_steps` changed nothing."""
        return unchanged_steps >= self.stability and mean_entropy < self.confidence
