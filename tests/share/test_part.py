"""Ranks on the loopback interface write what one process writes, and send what was planned.

float32 by rows: within 2e-5, since a CPU's products depend on their number of rows; all else the
same bits.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from prompted import SEEING, planned_bytes
from rank_tasks import asked, network, weight_bytes, write_prompted, write_whole
from ranks import ROOT, results, run_ranks
from rendered import puzzles

from mlx_diffgemma.share.share import ALONE

# Nothing here divides evenly by two or three: layers, rows, experts, heads.
UNEVEN = Sizes(
    layers="ssfsf",
    canvas_length=11,
    num_attention_heads=6,
    num_key_value_heads=3,
    num_experts=5,
    vocab_size=199,
    residual=0.3,
)
PROMPTS = [list(range(3, 63)), list(range(50, 61))]  # the first is divided, and no canvas
STEPS = {"max_denoising_steps": 4}
SCHEMA = json.loads((ROOT / "docs/examples/person.schema.json").read_text())
TURNS: list[Any] = [
    ["ask", "What is 17 + 25?", {"seed": 7}],
    ["ask", "And 3 + 4?", {"seed": 7}],
    ["ask", "Make JSON: name Max, age 41.", {"seed": 7, "schema": SCHEMA}],
    ["ask", "Is 12 bigger than 5?", {"seed": 7, "choices": ["Yes.", "No."]}],
    ["ask", "Write 2031-05-04 as a date.", {"seed": 7, "max_tokens": 150}],
    [
        "fill",
        "The capital of Spain is [[10]].",
        {"seed": 7, "prompt": "Fill in: What is the capital of Spain?"},
    ],
    # One hole at the beginning: the last rank has no open position.
    ["fill", "It is [[n:[0-9]{1,3}]] warm.", {"seed": 3, "gaps": 4, "max_denoising_steps": 3}],
    # Longer than a canvas.
    ["fill", "It is [[n:[0-9]{1,3}]] or [[4]] degrees in Spain, " + "and so on " * 8, {"seed": 3}],
]
IN_AR: list[Any] = [
    # A canvas, and after its steps tokens.
    ["ask", "Tell a story about a duck.", {"mode": "auto", "auto_times": [30.0, 7.0], "seed": 5}],
    ["ask", "Count from 3 to 9.", {"mode": "ar", "seed": 5}],
    ["ask", "Make JSON: name Max, age 41.", {"mode": "ar", "schema": SCHEMA, "seed": 3}],
    ["ask", "What is 17 + 25?", {"seed": 1}],
]


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def sent_by_rows(sizes: Sizes, ranks: int, item: int) -> dict[str, int]:
    """Bytes that a rank sends in a step: its rows, as long as the longest, to all others."""
    rows = -(-sizes.canvas_length // ranks)
    sliding = 2 * sizes.num_key_value_heads * sizes.head_dim * sizes.layers.count("s")
    full = sizes.full_kv_heads * sizes.global_head_dim * sizes.layers.count("f")
    to_others = rows * (ranks - 1)
    return {"keys and values": to_others * item * (sliding + full), "outcome": to_others * 12}


def sent_by_layers(sizes: Sizes, ranks: int, item: int) -> dict[str, int]:
    """Bytes that a rank sends in a step: a sum of hidden states a stage, and rank 0's outcome."""
    C, H = sizes.canvas_length, sizes.hidden_size
    hidden = ranks * (2 * (ranks - 1) * C * H * item // ranks)
    return {"hidden states": hidden, "outcome": 2 * (ranks - 1) * C * 12 // ranks}


PLANS = {"rows": sent_by_rows, "layers": sent_by_layers}


def task(folder: Path, cut: str, whole: Path, dtype: str | None = None) -> list[Any]:
    given = {"folder": str(folder), "cut": cut, "whole": str(whole), "dtype": dtype, **STEPS}
    return ["compared", given]


def prompt_task(folder: Path, dtype: str) -> list[Any]:
    """The task `prompted`, with what one process finds written."""
    model, whole = write_checkpoint(folder / "seeing", SEEING), folder / "prompts.npz"
    write_prompted(whole, model, dtype)
    return ["prompted", {"folder": str(model), "whole": str(whole), "dtype": dtype}]


def require_prompted(found: Any, ranks: int, dtype: str) -> None:
    """Keys and values of one rank are those of one process, and cost what was planned."""
    item, most = (4, 2e-5) if dtype == "float32" else (2, 0)
    assert found["difference"] <= most
    assert found["sent"] == planned_bytes(ranks, item)


def require_equal(found: Any, right: Any, cut: str, dtype: str) -> None:
    """One rank's findings are those of one process."""
    assert found["answers"], (found["answer"], right["answers"])
    assert found["difference"] <= (2e-5 if (cut, dtype) == ("rows", "float32") else 0)


def require_planned(found: Any, sizes: Sizes, cut: str, ranks: int, item: int) -> None:
    """An answer sends what its steps and its prompt were planned to send."""
    planned = PLANS[cut](sizes, ranks, item)
    (_, steps), sent = found["answer"][0], found["sent"]
    for name, bytes_a_step in planned.items():
        prompt = 0
        if name == "keys and values":
            canvas, rows = (-(-count // ranks) for count in (sizes.canvas_length, len(PROMPTS[0])))
            prompt = bytes_a_step // canvas * rows
        if name == "hidden states":  # the last rank hands nothing on
            size = len(PROMPTS[0]) * sizes.hidden_size * item
            prompt = (ranks - 1) * (2 * (ranks - 1) * size // ranks)
        assert sent[name] == steps * bytes_a_step + prompt, name


def test_two_ranks_agree_and_write_what_one_process_writes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "uneven", UNEVEN, shards=2)
    right = write_whole(tmp_path / "whole.npz", folder, PROMPTS, "float32", **STEPS)
    turns = [TURNS[2], TURNS[-2]]
    spoken = as_json(asked(ALONE, "tiny-chat", "rows", turns))
    cuts = [task(folder, cut, tmp_path / "whole.npz", "float32") for cut in (*PLANS, "tensor")]
    session = ["asked", {"model": "tiny-chat", "cut": "rows", "turns": turns}]
    prompts = prompt_task(tmp_path, "float32")
    ended = run_ranks(2, "several", tasks=[["fenced", {}], *cuts, session, prompts])
    weights = []
    for fenced, by_rows, by_layers, by_tensor, said, encoded in results(ended):
        require_prompted(encoded, 2, "float32")
        assert fenced[:4] == ["from 0", 2**63, "", [[0, 0, 0, 1, 1]]]
        assert fenced[4].startswith("rank 1 (127.0.0.1) has another 1, rank 0 (127.0.0.1) has 0;")
        assert fenced[5].startswith("rank 1 (127.0.0.1) wrote other tokens than rank 0")
        for cut, found in (("rows", by_rows), ("layers", by_layers)):
            require_equal(found, right, cut, "float32")
            require_planned(found, UNEVEN, cut, 2, 4)
        assert by_tensor["answers"]
        assert 0 < by_tensor["difference"] <= 5e-5  # sums of rounded parts
        assert by_rows["weights"] == right["weights"] > by_tensor["weights"]
        weights.append(by_layers["weights"])
        assert said == spoken
    ends = weights[0] + weights[1] - right["weights"]  # embedding and the like, on both ranks
    assert weights[0] - ends > weights[1] - ends > 0


@pytest.mark.slow
def test_a_share_of_layers_is_loaded_in_its_own_size(tmp_path: Path) -> None:
    sizes = replace(UNEVEN, layers="ssfsfssf", hidden_size=128, moe_intermediate_size=512)
    folder = write_checkpoint(tmp_path / "large", sizes)
    whole = weight_bytes(network(ALONE, str(folder), "rows"))
    for found in results(run_ranks(3, "loaded", folder=str(folder), cut="layers")):
        assert found["weights"] < 0.45 * whole
        assert found["peak"] <= 1.25 * found["weights"]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_uneven_networks_are_whole_together(tmp_path: Path, ranks: int, dtype: str) -> None:
    folder = write_checkpoint(tmp_path / "uneven", UNEVEN, shards=2)
    right = write_whole(tmp_path / "whole.npz", folder, PROMPTS, dtype, **STEPS)
    tasks = [task(folder, cut, tmp_path / "whole.npz", dtype) for cut in PLANS]
    prompts = prompt_task(tmp_path, dtype)
    for prompted, *found in results(run_ranks(ranks, "several", tasks=[prompts, *tasks])):
        require_prompted(prompted, ranks, dtype)
        for cut, each in zip(PLANS, found, strict=True):
            require_equal(each, right, cut, dtype)
            require_planned(each, UNEVEN, cut, ranks, 4 if dtype == "float32" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_messages_may_pend_as_on_a_gpu(tmp_path: Path, ranks: int) -> None:
    folder = write_checkpoint(tmp_path / "uneven", UNEVEN, shards=2)
    write_whole(tmp_path / "whole.npz", folder, PROMPTS, "float32", **STEPS)
    tasks = [task(folder, cut, tmp_path / "whole.npz", "float32") for cut in PLANS]
    lazily = [["compared_lazily", given] for _, given in tasks]
    first, *others = results(run_ranks(ranks, "several", tasks=lazily))
    assert [each["answer"] for each in first] == [each["answer"] for each in others[0]]
    for cut, found in zip(PLANS, first, strict=True):
        assert found["difference"] <= 5e-5  # a GPU's form against a CPU's
        require_planned(found, UNEVEN, cut, ranks, 4)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_folders_are_whole_together(tmp_path: Path, bits: int) -> None:
    sizes = Sizes(
        layers="sfssf",
        canvas_length=11,
        hidden_size=128,
        intermediate_size=192,
        moe_intermediate_size=64,
        num_attention_heads=4,
        head_dim=32,
        global_head_dim=64,
        vocab_size=256,
        num_experts=5,
    )
    dense = write_checkpoint(tmp_path / "dense", sizes, dtype="bfloat16")
    packing = Packing("affine", bits, 64)
    folder = quantise_folder(dense, tmp_path / "packed", packing, published(packing))
    right = write_whole(tmp_path / "whole.npz", folder, PROMPTS, **STEPS)
    tasks = [task(folder, cut, tmp_path / "whole.npz") for cut in PLANS]
    for ranks in (2, 3):
        for found in results(run_ranks(ranks, "several", tasks=tasks)):
            for cut, each in zip(PLANS, found, strict=True):
                require_equal(each, right, cut, "bfloat16")


@cache
def spoken_alone(model: str, turns: str, dtype: str | None = None) -> list[Any]:
    """What one process says to turns, as JSON has them."""
    return list(as_json(asked(ALONE, model, "rows", json.loads(turns), dtype)))


def require_spoken_alike(ranks: int, *sessions: Any) -> None:
    """Sessions, one after the other, say on all ranks what one process says.

    A session: its cut, model, turns, and the name of a dtype or None.
    """
    tasks = [
        ["asked", {"cut": cut, "model": model, "turns": turns, "dtype": dtype}]
        for cut, model, turns, dtype in sessions
    ]
    right = [spoken_alone(model, json.dumps(turns), dtype) for _, model, turns, dtype in sessions]
    for found in results(run_ranks(ranks, "several", seconds=300.0, tasks=tasks)):
        for session, said, expected in zip(sessions, found, right, strict=True):
            assert said == expected, session


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_conversation_goes_on_over_several_ranks(ranks: int) -> None:
    """In modes ar and auto over layers."""
    spoken = [(cut, "tiny-chat", TURNS, None) for cut in PLANS]
    require_spoken_alike(ranks, *spoken, ("layers", "tiny-chat", IN_AR, None))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_twenty_puzzles_are_solved_as_one_process_solves_them(ranks: int, dtype: str) -> None:
    turns = [["ask", puzzle, {"seed": n}] for n, puzzle in enumerate(puzzles()[::10])]
    assert len(turns) == 20
    require_spoken_alike(ranks, *((cut, "tiny-sudoku", turns, dtype) for cut in PLANS))


@pytest.mark.slow
def test_a_picture_is_seen_by_two_ranks() -> None:
    turns = [["ask", "", {"images": str(ROOT / "docs/examples/sudoku.png"), "seed": 1}]]
    require_spoken_alike(2, *((cut, "tiny-sudoku", turns, None) for cut in PLANS))
