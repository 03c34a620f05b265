"""The picture of `eval --json`: a line a file, intervals inside it, readable on light and dark."""

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_eval_picture.py"
SVG = "{http://www.w3.org/2000/svg}"


def row(steps: int | None, accuracy: float, skill: str | None = None) -> dict[str, object]:
    mode = "ar" if steps is None else "diffusion"
    interval = [max(0, accuracy - 0.1), min(1, accuracy + 0.1)]
    return {
        "steps": steps,
        "mode": mode,
        "skill": skill,
        "accuracy": accuracy,
        "interval": interval,
    }


def test_a_line_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [row(48, 0.9), row(1, 0.2), row(None, 1.0), row(1, 0.0, "sums")]
    for name, rows in (("before", first), ("<after>", [row(1, 0.5), row(48, 1.0)])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": rows}))
    out = tmp_path / "accuracy.svg"
    files = [str(tmp_path / f"{name}.json") for name in ("before", "<after>")]
    monkeypatch.setattr(sys, "argv", ["picture", *files, "-o", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    root = ElementTree.fromstring(out.read_text())
    lines = [each.attrib["points"].split() for each in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [2, 2]
    (x1, y1), (x2, y2) = ([float(n) for n in point.split(",")] for point in lines[0])
    assert x1 < x2
    assert y1 > y2  # more steps, more right, higher up
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"before (dashed: ar)", "<after>", "1", "48", "100%"} <= set(texts)
    assert "prefers-color-scheme:dark" in out.read_text()


def test_no_results_of_a_skill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"results": [row(1, 0.5)]}))
    arguments = ["picture", str(file), "-o", str(tmp_path / "a.svg"), "--skill", "sums"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="sums"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
