"""The cut that Macs take, by what each of them can give."""

from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.cli.errors import ArgumentError
from mlx_diffgemma.cli.macs.choose import chosen_cut
from mlx_diffgemma.cli.macs.hostfile import backend_of
from mlx_diffgemma.errors import FitError
from mlx_diffgemma.share.share import Share

TWO = Share(0, 2, hosts=("mac-a", "mac-b"))


def room(
    available: int | None,
    rows: int = 10,
    layers: int = 6,
    tensor: int | None = None,
    *,
    backend: str = "ring",
    chip: str = "Apple M4 Pro",
) -> dict[str, Any]:
    needs = {"rows": rows, "layers": layers}
    return {
        "rows": 90,
        "layers": 6,
        "available": available,
        "needs": needs if tensor is None else {**needs, "tensor": tensor},
        "limits": {"tensor": "`sudo sysctl`"},
        "refused": "so many cannot; name fewer Macs." if tensor is None else None,
        "backend": backend,
        "chip": chip,
    }


def cut(asked: Any, *rooms: dict[str, Any], **given: Any) -> str:
    return chosen_cut(TWO, asked, rooms, **given).cut


def test_auto_takes_rows_where_all_hold_the_model() -> None:
    assert cut("auto", room(10), room(11)) == "rows"
    assert cut("auto", room(None), room(10)) == "rows"
    rdma = room(10, tensor=5, backend="jaccl")
    assert chosen_cut(TWO, "auto", [rdma, rdma]).why is None


def test_auto_takes_layers_where_one_does_not() -> None:
    assert cut("auto", room(10), room(9)) == "layers"
    chosen = chosen_cut(TWO, "auto", [room(10, tensor=5), room(9, tensor=5)])
    assert chosen.cut == "layers"
    assert chosen.why is not None
    assert chosen.why.startswith("shared by layers: rank 1 (mac-b) does not hold")


@pytest.mark.parametrize(
    ("backend", "chip", "found"),
    [
        ("jaccl", "Apple M4 Max", "tensor"),
        ("jaccl-ring", "Apple M1", "tensor"),
        ("jaccl", "Apple M5 Max", "layers"),
        ("jaccl", "x86_64", "layers"),
        ("ring", "Apple M4 Max", "layers"),
    ],
)
def test_tensor_is_for_rdma_between_chips_that_compute_long(
    backend: str, chip: str, found: str
) -> None:
    other = room(9, tensor=5, backend="jaccl")
    chosen = chosen_cut(TWO, "auto", [other, room(9, tensor=5, backend=backend, chip=chip)])
    assert chosen.cut == found
    assert chosen.why is not None
    assert ("RDMA" in chosen.why) == (found == "tensor")


def test_auto_takes_what_alone_fits() -> None:
    assert cut("auto", room(5, tensor=5), room(9, tensor=5)) == "tensor"
    rdma = [room(6, tensor=7, backend="jaccl")] * 2
    assert cut("auto", *rdma) == "layers"


def test_tokens_one_by_one_are_shared_by_layers_first() -> None:
    rdma = [room(20, tensor=5, backend="jaccl")] * 2
    assert cut("auto", *rdma, mode="ar") == "layers"
    assert cut("auto", room(5, tensor=5), room(5, tensor=5), mode="ar") == "tensor"
    assert cut("tensor", *rdma, mode="ar") == "tensor"
    assert cut("auto", *rdma, mode="auto") == "tensor"
    assert cut("auto", room(20), room(20), mode="auto") == "layers"


def test_the_mac_that_is_short_is_named() -> None:
    with raises(FitError, "rank 1 (mac-b) ... 0.0 kB ... rows ... --share layers ... --force"):
        cut("rows", room(10), room(9))
    with raises(FitError, "rank 0 (mac-a) ... layers"):
        cut("auto", room(5), room(9))
    with raises(FitError, "rank 1 (mac-b) ... its share (tensor) ... sysctl` there, or take"):
        cut("auto", room(4, tensor=4), room(4, tensor=5))
    assert cut("rows", room(1), room(1), force=True) == "rows"
    assert cut("tensor", room(1, tensor=5), room(1, tensor=5), force=True) == "tensor"


def test_what_does_not_fit_either_is_no_advice() -> None:
    with pytest.raises(FitError) as caught:
        cut("rows", room(5), room(5))
    assert "--share" not in str(caught.value)


def test_more_macs_than_there_are_layers_or_rows() -> None:
    seven, many = Share(0, 7), Share(0, 91)
    with raises(ArgumentError, "7 Macs ... 6 layers ... fewer"):
        chosen_cut(seven, "layers", [room(10)] * 7)
    with raises(ArgumentError, "91 Macs ... 90 rows"):
        chosen_cut(many, "rows", [room(10)] * 91)
    assert chosen_cut(seven, "auto", [room(10)] * 7).cut == "rows"


def test_tensors_that_do_not_divide() -> None:
    with raises(ArgumentError, "so many cannot ... fewer"):
        cut("tensor", room(10, tensor=5), room(10))
    with raises(ArgumentError, "91 Macs"):
        chosen_cut(Share(0, 91), "auto", [room(10)] * 91)
    assert chosen_cut(Share(0, 91), "auto", [room(10, tensor=1)] * 91).cut == "tensor"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "ring"),
        ({"MLX_IBV_DEVICES": "x"}, "jaccl"),
        ({"MLX_IBV_DEVICES": "x", "MLX_JACCL_RING": "1"}, "jaccl-ring"),
    ],
)
def test_the_back_end_is_what_the_launcher_has_set(environment: dict[str, str], name: str) -> None:
    assert backend_of(environment) == name
