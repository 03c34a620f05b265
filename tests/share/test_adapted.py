"""Ranks on loopback that divide all tensors and an adapter on them: what one process writes.

Each has its columns of B, its rows of A or its experts' factors: float32 within 5e-5.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from adapting import write_adapter
from checkpoints import Packing, published, quantise_folder, write_checkpoint
from rank_tasks import SLICED, SLICES, asked, measured, write_whole
from ranks import ROOT, results, run_ranks
from rendered import puzzles
from test_tensor import PACKED, PROMPTS, STEPS, TURNS, UNEVEN, puzzle_ids, require_whole

from mlx_diffgemma.share.share import ALONE

ASSETS = ROOT / "mlx_diffgemma/assets"
LIGHT = 0.3  # of tiny checkpoints, which a heavier one at random would make talk nonsense


def compared(folder: Path, given: Path, prompts: Any, **options: Any) -> tuple[list[Any], Any]:
    """A task of ranks and what one process finds: a network with an adapter on all matrices."""
    adapter, whole = given / f"{folder.name}-adapter", given / f"{folder.name}.npz"
    write_adapter(adapter, folder, **options)
    right = write_whole(whole, folder, prompts, "float32", adapter, **STEPS)
    task = {"folder": str(folder), "cut": "tensor", "whole": str(whole), "adapter": str(adapter)}
    return ["compared", {**task, "dtype": "float32", **STEPS}], right


def in_16_bits(task: Any) -> tuple[list[Any], Any]:
    """The network of a task of `compared` in 16 bits: how far it is from what float32 finds."""
    names = {"folder": "folder", "exact": "whole", "adapter": "adapter"}
    given = {name: task[1][of] for name, of in names.items()} | {"dtype": "bfloat16"}
    return ["measured", {"cut": "tensor", **given}], measured(ALONE, cut="rows", **given)


def run_whole(ranks: int, tasks: list[Any], right: list[Any], most: float) -> None:
    """Run tasks, and require that all ranks are whole together; most: see `require_whole`."""
    for found in results(run_ranks(ranks, "several", tasks=tasks, slices=SLICES)):
        require_whole(found, right, most)


@pytest.mark.usefixtures("small_slices")
def test_a_network_with_an_adapter_is_whole_together(tmp_path: Path) -> None:
    task, right = compared(write_checkpoint(tmp_path / "uneven", UNEVEN), tmp_path, PROMPTS[:1])
    run_whole(3, [task], [right], 0.55)


@pytest.mark.slow
@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("ranks", [2, 3])
def test_networks_with_adapters_are_whole_together(tmp_path: Path, ranks: int) -> None:
    """Plain and packed, heads and groups that do not divide, in float32 and in 16 bits.

    The last is computed in the form for a GPU.
    """
    folders = [write_checkpoint(tmp_path / "uneven", UNEVEN, shards=2)]
    dense = write_checkpoint(tmp_path / "dense", PACKED, dtype="bfloat16")
    for bits in (4, 8):
        packing, other = Packing("affine", bits, 32), Packing("affine", 8, 32)
        recipe = published(packing, other)
        folders.append(quantise_folder(dense, tmp_path / f"packed-{bits}", packing, recipe))
    pairs = [compared(folder, tmp_path, PROMPTS, rank=3) for folder in folders]
    pairs.append(compared(ASSETS / "tiny-sudoku", tmp_path, [puzzle_ids()], scale=LIGHT))
    pairs += [in_16_bits(task) for task, _ in pairs[:2]]
    tasks, right = ([pair[at] for pair in pairs] for at in (0, 1))
    tasks.append(["compared_lazily", tasks[0][1]])
    run_whole(ranks, tasks, [*right, right[0]], 0.7 if ranks == 2 else 0.6)


@pytest.fixture(scope="module")
def in_words(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Puzzles, a conversation, tokens one by one, forms and holes, each with an adapter."""
    folder, tasks = tmp_path_factory.mktemp("adapters"), []
    solved = [["ask", puzzle, {"seed": n}] for n, puzzle in enumerate(puzzles()[::20])]
    for model, turns in (("tiny-sudoku", solved), ("tiny-chat", TURNS)):
        write_adapter(folder / model, ASSETS / model, scale=LIGHT)
        given = {"cut": "tensor", "dtype": "float32", "adapter": str(folder / model)}
        tasks.append(["asked", {**given, "model": model, "turns": turns}])
    return tasks


@pytest.fixture(scope="module")
def spoken_alone(in_words: list[Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for module in SLICED:
            patch.setattr(module, "SLICE", SLICES)
        spoken = [asked(ALONE, **{**given, "cut": "rows"}) for _, given in in_words]
        plain = [asked(ALONE, **{**given, "adapter": None}) for _, given in in_words]
    assert all(with_it != without for with_it, without in zip(spoken, plain, strict=True))
    return json.loads(json.dumps(spoken))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_answers_are_those_of_one_process(
    ranks: int, in_words: list[Any], spoken_alone: Any
) -> None:
    """Texts and steps in both modes, in float32."""
    ended = run_ranks(ranks, "several", tasks=in_words, slices=SLICES)
    for found in results(ended):
        assert found == spoken_alone
