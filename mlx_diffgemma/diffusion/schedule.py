"""The sampler's schedule. What a step does with it: diffusion/sampler.py."""


def temperature(step: int, steps: int, t_min: float, t_max: float) -> float:
    """The temperature of `step` (0 is the first) out of `steps`: t_max first, towards t_min."""
    return t_min + (t_max - t_min) * ((steps - step) / steps)
