"""`info --macs N` where N Macs were started together: each tells its own limit."""

import json

import pytest
from facts import raises
from loopback import Ranks

from mlx_diffgemma.cli.errors import ArgumentError
from mlx_diffgemma.cli.info.limits import MacLimit, limit_lines, require_as_many
from mlx_diffgemma.share.share import Share


def test_what_fits_a_mac_is_its_own_matter() -> None:
    limit = MacLimit("rank 1 (mac-b)", 10_000_000, rows=20_000_000, layers=9_000_000, tensor=None)
    assert [limit.fits(cut) for cut in ("rows", "layers", "tensor")] == [False, True, None]
    said = list(limit_lines([limit]))
    assert said[0].strip() == "rank 1 (mac-b) can give 10.0 MB:"
    assert [line.split() for line in said[1:]] == [
        ["rows", "20.0", "MB", "does", "not", "fit"],
        ["layers", "9.0", "MB", "fits"],
    ]


def test_a_mac_that_does_not_say() -> None:
    limit = MacLimit("rank 0", None, rows=1, layers=1, tensor=1)
    assert limit.fits("rows") is None
    assert "nobody knows" in next(limit_lines([limit]))


def test_another_number_than_was_started() -> None:
    require_as_many(Share(0, 2), 2)
    with raises(ArgumentError, "--macs is 3 ... 2 were started ... alone"):
        require_as_many(Share(0, 2), 3)


@pytest.mark.slow
def test_two_tell_their_limits(ranks: Ranks) -> None:
    ranks.start(*[["info", "tiny-sudoku", "--macs", "2", "--json"]] * 2)
    code, said, errors = ranks.ended(0)
    assert (code, errors) == (0, "")
    shared = json.loads(said)["shared"]
    assert [limit["mac"] for limit in shared["limits"]] == [
        "rank 0 (127.0.0.1)",
        "rank 1 (127.0.0.1)",
    ]
    needs = {need["share"]: need for need in shared["needs"] if need["recipe"] is None}
    for cut in ("rows", "layers", "tensor"):
        most = max(limit[cut] for limit in shared["limits"])
        assert most == needs[cut]["needed_bytes"]
    assert ranks.ended(1) == (0, "", "")
