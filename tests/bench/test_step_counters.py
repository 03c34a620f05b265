"""Counters of a denoising step: they are there, and they change with what they count."""

import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from facts import raises

import mlx_diffgemma as dg

ROOT = Path(__file__).parents[2]
SCRIPTS = str(ROOT / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import counted_canvas  # noqa: E402
import simulated_gpu  # noqa: E402
import step_counters  # noqa: E402
from counted_canvas import FixedNoise, Interval, dense_rows, run_canvas, waits  # noqa: E402

KEYS = [
    *("host_round_trips", "dense_products_per_canvas", "graph_nodes", "build_ms"),
    *("launches_per_layer", "macs_per_device_load", "details"),
]
SIZES = replace(step_counters.SIZES, vocab=2560, layers=3, canvas=32, experts=4)
OPTIONS = step_counters.Options(SIZES, steps=3, blanks=5, depths=(1, 2), graphs=2, repeats=2)
LOADS = {"moe_gate_up": 0.5, "moe_down": 0.5}  # counted by a test of the simulator's own


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The counters of a small checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_counters, "macs_per_device_load", lambda: LOADS)
        return step_counters.counters(tmp_path_factory.mktemp("counters"), OPTIONS)


@pytest.mark.slow
def test_the_object_has_every_counter(found: dict[str, Any]) -> None:
    assert list(found) == KEYS
    assert json.loads(json.dumps(found))["macs_per_device_load"] == LOADS
    host = found["details"]["host_round_trips"]
    assert found["host_round_trips"] == max(host["steps"]) == sum(host["places"].values()) > 0
    assert len(host["steps"]) == OPTIONS.steps - 1
    assert all(place.startswith("mlx_diffgemma/") for place in host["places"])


@pytest.mark.slow
def test_nodes_grow_by_those_of_a_layer(found: dict[str, Any]) -> None:
    details = found["details"]
    nodes = [details["graph_nodes"][depth] for depth in (1, 2, 3)]
    assert found["graph_nodes"] == nodes[2]
    assert found["launches_per_layer"] == nodes[1] - nodes[0]
    assert details["kernels_per_layer"]["moe_gate_up"] == 1
    assert 0 < found["build_ms"] <= min(details["build_ms"][3]) + 1e-4


@pytest.mark.slow
def test_products_follow_the_dense_rows(found: dict[str, Any]) -> None:
    """What the last step would hand on is never made."""
    dense = found["details"]["dense_rows"]
    assert dense["none"] == {"rows": (0, 0, 0), "products": (), "bound": 0}
    assert dense["some"]["rows"] == (5, 5, 5)
    assert dense["all"]["rows"][0] == SIZES.canvas
    for canvas in dense.values():
        assert sum(canvas["products"]) == sum(canvas["rows"][:-1])
        assert len(canvas["products"]) >= canvas["bound"]
    assert found["dense_products_per_canvas"] == len(dense["some"]["products"])


@dataclass(frozen=True)
class ReadNoise(FixedNoise):
    """Noise that waits for an array at every step."""

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        ids = super().renoise(canvas, step, length, vocab)
        ids.tolist()
        return ids


@pytest.mark.slow
def test_a_read_more_is_counted(found: dict[str, Any], tmp_path: Path) -> None:
    folder = counted_canvas.write_sure_checkpoint(tmp_path, replace(SIZES, layers=1))
    with simulated_gpu.with_kernels():
        model = dg.load_model(folder)
    seen = waits(run_canvas(model, 3, ReadNoise(0)))
    usual = waits(run_canvas(model, 3, FixedNoise(0)))
    assert set(usual.steps) == set(found["details"]["host_round_trips"]["steps"])
    assert max(seen.steps) == max(usual.steps) + 1  # the last step makes no noise for another
    (place,) = set(seen.places) - set(usual.places)
    assert place.startswith("tests/bench/test_step_counters.py:")


def interval(rows: int, waited: int = 0, products: tuple[int, ...] = (), **given: Any) -> Interval:
    return Interval(rows, given.get("committed", False), Counter({"a": waited}), products)


def test_only_steady_steps_without_dense_rows_count() -> None:
    """Not the first, with the prompt before it, nor those beside dense rows, nor the commit."""
    intervals = [interval(0, 90), interval(0, 4), interval(0, 5), interval(3, 60), interval(0, 70)]
    seen = waits([*intervals, interval(0, 80, committed=True)])
    assert (seen.steps, seen.places) == ((4, 5), {"a": 5})
    with raises(SystemExit, "every step has dense rows ... expected some without"):
        waits([interval(1), interval(1)])


def test_the_bound_of_products() -> None:
    intervals = [interval(64), interval(65, products=(64,)), interval(7, products=(64, 1))]
    assert dense_rows(intervals).bound == 3
    assert dense_rows(intervals).products == (64, 64, 1)


@pytest.mark.parametrize("blanks", [0, 1, 5, 31, 32])
def test_blank_tokens_are_as_many_as_asked_for(blanks: int) -> None:
    ids = FixedNoise(blanks).canvas(0, 32, 2560)
    assert (ids < counted_canvas.BLANK).sum().item() == blanks
    assert ids.max().item() < 2560


@pytest.mark.parametrize("given", [["--json"], ["--json", "-"], ["--json", "FILE"], []])
def test_the_object_goes_where_it_is_asked_for(
    given: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "out.json"
    answer: dict[str, Any] = dict.fromkeys(KEYS, 1)
    answer |= {"details": {"host_round_trips": {"places": {"a.py:3 item": 2}}}}
    monkeypatch.setattr(step_counters, "counters", lambda folder, options: answer)
    arguments = [str(file) if part == "FILE" else part for part in given]
    monkeypatch.setattr(sys, "argv", ["step_counters.py", *arguments])
    step_counters.main()
    printed = capsys.readouterr().out
    if given[-1:] in (["--json"], ["-"]):
        assert list(json.loads(printed))[: len(KEYS)] == KEYS
        assert not file.exists()
    else:
        assert "a.py:3 item: 2" in printed.splitlines()
        assert file.exists() == bool(given)


def test_without_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_gpu, "SIMULATOR", tmp_path / "metal_sim")
    with raises(SystemExit, "metal_sim is missing ... run this script in a clone"):
        simulated_gpu.macs_per_device_load()
