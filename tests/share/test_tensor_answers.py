"""Ranks that divide all tensors write forms, fill holes and see pictures as one process does."""

import json
from typing import Any

import pytest
from rank_tasks import SLICED, asked
from ranks import ROOT, results, run_ranks

from mlx_diffgemma.share.share import ALONE

SLICES = 16  # of the vocabularies' 128 ids
SCHEMA = json.loads((ROOT / "docs/examples/person.schema.json").read_text())
HOLE = "The capital of Spain is [[10]]."
QUESTION = "Fill in: What is the capital of Spain?"
TURNS: list[Any] = [
    ["ask", "Make JSON: name Max, age 41.", {"seed": 7, "schema": SCHEMA}],
    ["fill", HOLE, {"seed": 7, "prompt": QUESTION}],
    ["fill", "It is [[n:[0-9]{1,3}]] warm.", {"seed": 3, "gaps": 4, "max_denoising_steps": 3}],
    ["ask", "Make JSON: name Max, age 41.", {"mode": "ar", "schema": SCHEMA, "seed": 3}],
]
PICTURE: list[Any] = [["ask", "", {"images": str(ROOT / "docs/examples/sudoku.png"), "seed": 1}]]


@pytest.mark.slow
def test_forms_holes_and_pictures_are_those_of_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in SLICED:
        monkeypatch.setattr(module, "SLICE", SLICES)
    asked_of = [{"model": "tiny-chat", "turns": TURNS}, {"model": "tiny-sudoku", "turns": PICTURE}]
    spoken = [asked(ALONE, cut="rows", **given) for given in asked_of]
    tasks = [["asked", {**given, "cut": "tensor"}] for given in asked_of]
    for found in results(run_ranks(2, "several", tasks=tasks, slices=SLICES)):
        assert found == json.loads(json.dumps(spoken))
