"""The arithmetic and the warnings of `selftest --link`, on links made up here."""

import pytest

from mlx_diffgemma.share.link import SIZES, LinkTest, Sum, equal_bits, measured
from mlx_diffgemma.share.part import CUTS
from mlx_diffgemma.share.share import ALONE, Share


def link(least_us: float, rate: float, *, equal: bool = True) -> LinkTest:
    sums = (Sum(4, least_us, 0.0), Sum(16_777_216, 1e3, rate))
    return LinkTest(2, equal, sums, None, {})


def test_a_good_link_has_no_warning() -> None:
    assert link(999, 1.01).warnings == []


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (link(1001, 6), "1.0 ms"),
        (link(100, 0.99), "0.99 GB/s"),
        (link(100, 6, equal=False), "different sums"),
    ],
)
def test_a_bad_link_has_one(test: LinkTest, said: str) -> None:
    (warning,) = test.warnings
    assert said in warning


def as_planned(monkeypatch: pytest.MonkeyPatch, macs: int, tflops: float | None) -> LinkTest:
    """A link of 0.2 ms and 6.3 GB/s."""

    def planned(share: Share, size: int, seconds: float) -> Sum:
        sent = 2 * (macs - 1) / macs * size
        return Sum(size, 200 + sent / 6.3e3, 6.3)

    monkeypatch.setattr("mlx_diffgemma.share.link._sum", planned)
    monkeypatch.setattr("mlx_diffgemma.share.link.equal_bits", lambda share: True)
    return measured(Share(0, macs), tflops)


def test_the_arithmetic_is_that_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/several-macs.md: two M4 Pro and two M4 Max over JACCL."""
    pro = as_planned(monkeypatch, 2, 9.2)
    rows, layers, tensor = (pro.steps[cut] for cut in CUTS)
    assert pro.one_mac_ms == pytest.approx(462, abs=1.5)
    found = (rows.step_ms, layers.step_ms, tensor.step_ms)
    assert found == pytest.approx((272, 464, 320), abs=1.5)
    assert rows.link_ms == pytest.approx(31 * 0.2 + 27.5 / 6.3, rel=0.01)
    assert layers.link_ms == pytest.approx(3 * 0.2 + 2.9 / 6.3, rel=0.01)
    assert tensor.link_ms == pytest.approx(65 * 0.2 + 134 / 6.3, rel=0.01)
    top = as_planned(monkeypatch, 2, 18.4).steps
    assert (top["rows"].step_ms, top["tensor"].step_ms) == pytest.approx((146, 182), abs=1.5)


def test_without_a_known_chip_the_link_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = as_planned(monkeypatch, 4, None)
    assert found.one_mac_ms is None
    assert {(each.step_ms, each.speed_up) for each in found.steps.values()} == {(None, None)}
    assert [each.bytes for each in found.sums] == list(SIZES)


def test_one_process_agrees_with_itself() -> None:
    assert equal_bits(ALONE)
