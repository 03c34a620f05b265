"""Whole generations with the kernels switched on, simulated, against their references."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import Packing, Sizes, quantise_folder, random_tensors, write_checkpoint
from compare import assert_close
from forms import END, form_of, text_of
from metal_sim import simulated
from numpy.typing import NDArray
from typer.testing import CliRunner

import mlx_diffgemma as dg
from mlx_diffgemma.cli.app import app
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.kernels import dispatch

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = (
    "534678912\n672195348\n198342567\n859761423\n426853791\n713924856\n961537284\n287419635\n"
    "345286179"
)
OWN = {"denoise_stats", "denoise_pick", "denoise_commit", "soft_gather"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No verdicts are kept from before, and none for later."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def generated(mode: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `generate --json` prints in a mode of the kernels."""
    monkeypatch.setenv(dispatch.VARIABLE, mode)
    arguments = ["generate", PUZZLE, "--model", "tiny-sudoku", "--seed", str(seed), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_tiny_sudoku_is_solved_alike(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    references = generated("off", seed, monkeypatch)
    with simulated() as run:
        kernels = generated("on", seed, monkeypatch)
    assert (references["kernels"], kernels["kernels"]) == ("ops", "metal")
    for key in ("text", "token_ids", "steps", "finish_reason"):
        assert kernels[key] == references[key], key
    assert kernels["text"].strip() == SOLUTION
    steps = sum(kernels["steps"])
    counted = Counter(launch.name for launch in run.launches)
    assert {name: counted[name] for name in OWN} == {
        "denoise_stats": steps,
        "denoise_pick": steps,
        "denoise_commit": steps,
        "soft_gather": 0,  # float32: the whole product
    }


def frames(folder: Path, constraint: Constraint | None = None) -> list[Frame]:
    """A canvas of 24 positions, part of it noise at every step."""
    settings = dg.Settings(
        seed=3, max_tokens=24, max_denoising_steps=8, entropy_bound=2.0, confidence_threshold=1e-9
    )
    model = dg.load_model(folder)
    return list(dg.denoise(model, [1, 2, 3, 4], settings, constraint=constraint))


def exact_embedding(vocab: int, width: int, bits: int) -> NDArray[np.float32]:
    """Whole numbers of 2^-k with both extremes in every group of 32: packed and unpacked exactly.

    So the reference, which unpacks into bfloat16, and the kernel, which does not, see one table.
    """
    most = 2 ** ((bits or 8) - 1)
    whole = np.random.default_rng(bits).integers(-most, most, (vocab, width))
    whole[:, ::32], whole[:, 1::32] = -most, most - 1
    return (whole / most / 4).astype(np.float32)


def packed(tmp_path: Path, vocab: int, bits: int) -> Path:
    """A model in bfloat16 whose embedding, packed in so many bits, is gathered from."""
    sizes = Sizes(
        "sf",
        vocab_size=vocab,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=64,
        canvas_length=24,
        std=0.03,
        sharpness=2.0,
        residual=0.3,
        eos_token_id=END,
    )
    tensors = random_tensors(sizes)
    tensors["model.decoder.embed_tokens.weight"] = exact_embedding(vocab, 64, bits)
    folder = write_checkpoint(tmp_path / "dense", sizes, tensors=tensors, dtype="bfloat16")
    experts, table = Packing("affine", 6, 32), Packing("affine", bits, 32)
    recipe = {"experts": experts} | ({"embed_tokens": table} if bits else {})
    return quantise_folder(
        folder,
        tmp_path / "packed",
        experts,
        lambda module: next((kind for part, kind in recipe.items() if part in module), None),
    )


SLOW = pytest.mark.slow


@pytest.mark.parametrize("bits", [pytest.param(0, marks=SLOW), 4, pytest.param(8, marks=SLOW)])
def test_a_16_bit_model_with_two_slices_gives_the_same_tokens(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 rows of experts are too few for tiles: of their kernels the routing alone runs."""
    folder = packed(tmp_path, 5003, bits)
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    references = frames(folder)
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    with simulated() as run:
        kernels = frames(folder)
    for got, want in zip(kernels, references, strict=True):
        assert_close(got.entropies, want.entropies, 5e-5, f"entropies, step {got.step}")
        assert got.tokens.tolist() == want.tokens.tolist(), got.step
        assert got.accepted.tolist() == want.accepted.tolist(), got.step
        assert got.dense_rows == want.dense_rows, got.step
    routed = 2 * 8 + 1  # both layers of each step, and one of the prompt's: its last needs no more
    launches = dict.fromkeys(OWN, 8) | {"moe_route": routed}
    assert Counter(launch.name for launch in run.launches) == launches
    dense = {frame.dense_rows for frame in kernels}
    assert min(dense) < 12 < max(dense)
    assert {frame.accepted.all() for frame in kernels} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 4])
def test_a_form_is_kept_by_the_same_tokens(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launches of a step: three by class, the gather, the commit; and the routing of layers."""
    folder = packed(tmp_path, 2600, bits)
    runs: list[list[Frame]] = []
    with simulated() as run:
        for mode in ("off", "on"):
            monkeypatch.setenv(dispatch.VARIABLE, mode)
            constraint = Constraint(form_of(2600, "([0-9]{1,9}[a-z]{2,5})+"), 24)
            runs.append(frames(folder, constraint))
    for got, want in zip(*reversed(runs), strict=True):
        assert_close(got.entropies, want.entropies, 5e-5, f"entropies, step {got.step}")
        assert got.tokens.tolist() == want.tokens.tolist(), got.step
        assert got.accepted.tolist() == want.accepted.tolist(), got.step
        assert got.dense_rows == want.dense_rows, got.step
        assert got.strain is not None
        assert want.strain is not None
        assert_close(got.strain, want.strain, 1e-3, "strain")
    by_class = ("class_stats", "class_masses", "class_pick", "denoise_commit", "soft_gather")
    counted = Counter(launch.name for launch in run.launches if launch.name != "moe_route")
    assert counted == dict.fromkeys(by_class, 8)
    answer = text_of(runs[1][-1].tokens.tolist(), 2600)
    assert re.fullmatch("([0-9]{1,9}[a-z]{2,5})+", answer)
    assert {frame.dense_rows > 0 for frame in runs[1]} == {True, False}
