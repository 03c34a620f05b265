"""The sampler's schedule of temperatures."""

from compare import assert_close

from mlx_diffgemma.diffusion.sampler import temperature


def test_temperature_falls_from_t_max_by_equal_parts() -> None:
    got = [temperature(step, 48, 0.4, 0.8) for step in range(48)]
    expected = [0.4 + 0.4 * n / 48 for n in range(48, 0, -1)]
    assert_close(got, expected, 1e-15, "temperature")  # float64, in another order
    assert got[0] == 0.8
    assert got[-1] > 0.4  # the last step is one part above t_min


def test_the_only_step_runs_at_t_max() -> None:
    assert temperature(0, 1, 0.0, 0.7) == 0.7
