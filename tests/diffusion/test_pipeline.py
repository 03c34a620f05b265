"""Steps that are submitted before the frame of the last one is handed out."""

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_unsure_checkpoint
from forms import END, form_of
from metal_sim import simulated

import mlx_diffgemma as dg
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.diffusion import pipeline
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.kernels import dispatch

PROMPT = [1, 2, 3, 4]
SETTINGS = dg.Settings(
    seed=3, max_tokens=16, max_denoising_steps=4, entropy_bound=2.0, confidence_threshold=1e-9
)
SETTLED = dg.Settings(seed=3, max_tokens=8, confidence_threshold=9.0)  # once nothing changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 16-bit model, some of whose early steps need the whole product."""
    return write_unsure_checkpoint(
        tmp_path_factory.mktemp("16-bit") / "model",
        "bfloat16",
        intermediate_size=64,
        moe_intermediate_size=64,
        eos_token_id=END,
    )


@pytest.fixture(autouse=True)
def kernels_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    dispatch.forget()
    with simulated():
        yield
    dispatch.forget()


@pytest.fixture(params=[False, True], ids=["behind", "ahead"])
def ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: request.param)
    return bool(request.param)


def generated(folder: Path) -> list[Frame]:
    return list(dg.denoise(dg.load_model(folder), PROMPT, SETTINGS))


@cache
def tokens(folder: Path) -> list[list[int]]:
    """The tokens of every frame, which do not depend on the order of work."""
    return [frame.tokens.tolist() for frame in generated(folder)]


def test_frames_are_the_same_ahead_and_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: False)
    behind = generated(folder)
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: True)
    for got, want in zip(generated(folder), behind, strict=True):
        assert got.tokens.tolist() == want.tokens.tolist()
        assert got.entropies.tolist() == want.entropies.tolist()
        assert got.accepted.tolist() == want.accepted.tolist()
        assert got.dense_rows == want.dense_rows
    dense = [frame.dense_rows for frame in behind]
    assert 0 in dense
    assert max(dense) > 0


def held(folder: Path) -> list[Frame]:
    constraint = Constraint(form_of(2100, "([0-9]{2,3}[a-z]+){2,5}"), 16)
    return list(dg.denoise(dg.load_model(folder), PROMPT, SETTINGS, constraint=constraint))


def test_frames_under_a_form_are_the_same_ahead_and_behind_and_in_kernels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next decoder is built behind the host's pass, once the bias is on its way."""
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: False)
    behind = held(folder)
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    dispatch.forget()
    by_operations = held(folder)
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    dispatch.forget()
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: True)
    for got, want, close in zip(held(folder), behind, by_operations, strict=True):
        assert got.tokens.tolist() == want.tokens.tolist() == close.tokens.tolist()
        assert got.entropies.tolist() == want.entropies.tolist()
        assert got.accepted.tolist() == want.accepted.tolist() == close.accepted.tolist()
        assert got.strain == want.strain == pytest.approx(close.strain, abs=1e-3)
        assert got.dense_rows == want.dense_rows
    dense = [frame.dense_rows for frame in behind]
    assert 0 in dense
    assert max(dense) > 0


class Asked(dg.CounterNoise):
    """Noise that remembers the steps it was asked for."""

    def __init__(self) -> None:
        super().__init__(3)
        self.steps: list[int] = []

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        self.steps.append(step)
        return super().uniforms(canvas, step, length)


def test_noise_is_asked_for_steps_that_run(folder: Path, ahead: bool) -> None:
    """Whoever injects recorded noise has none for the step behind the last."""
    noise = Asked()
    frames = list(dg.denoise(dg.load_model(folder), PROMPT, SETTLED, noise))
    assert noise.steps == [frame.step for frame in frames if not frame.committed]
    assert len(noise.steps) < 48


def test_a_canvas_that_ends_leaves_no_graph_in_the_prefix(
    folder: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dg.load_model(folder)
    built: list[mx.array] = []
    decoded = pipeline.decoded

    def kept(*args: object) -> mx.array:
        built.append(decoded(*args))  # type: ignore[arg-type]
        return built[-1]

    monkeypatch.setattr(pipeline, "decoded", kept)
    prefix = model.new_prefix()
    frames = list(dg.denoise(model, PROMPT, SETTLED, prefix=prefix))
    steps = sum(not frame.committed for frame in frames)
    assert (len(built) > steps) == ahead
    other = model.new_prefix()
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: False)
    list(dg.denoise(model, PROMPT, SETTLED, prefix=other))
    for got, want in zip(prefix.layers, other.layers, strict=True):
        assert got.span is not None
        assert want.span is not None
        slots = slice(0, len(PROMPT) + 8)  # with the canvas of the last step that ran
        assert np.array_equal(
            np.array(got.span.keys[:, :, slots].astype(mx.float32)),
            np.array(want.span.keys[:, :, slots].astype(mx.float32)),
        )


def test_an_interrupted_step_leaves_no_graph_in_the_prefix(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: True)
    model = dg.load_model(folder)
    prefix = model.new_prefix()
    frames = dg.denoise(model, PROMPT, SETTINGS, prefix=prefix)
    while next(frames).dense_rows:  # behind this one the next decoder is built ahead
        pass
    written = prefix.keys[0]

    def interrupted(step: object) -> object:
        assert prefix.layers[0].span is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(frames)
    assert np.array_equal(
        np.array(prefix.keys[0].astype(mx.float32)), np.array(written.astype(mx.float32))
    )


def test_a_caller_who_stops_can_go_on_with_the_prefix(folder: Path, ahead: bool) -> None:
    model = dg.load_model(folder)
    prefix = model.new_prefix()
    frames = dg.denoise(model, PROMPT, SETTINGS, prefix=prefix)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    again = list(dg.denoise(model, PROMPT, SETTINGS, prefix=prefix))
    assert [f.tokens.tolist() for f in again] == tokens(folder)


def test_the_callers_time_is_part_of_a_step_that_ran_meanwhile(folder: Path, ahead: bool) -> None:
    frames = dg.denoise(dg.load_model(folder), PROMPT, SETTINGS)
    assert next(frames).caller_seconds == 0
    time.sleep(0.05)
    frame = next(frames)
    if ahead:
        assert 0.05 <= frame.caller_seconds <= frame.seconds
    else:
        assert frame.caller_seconds == 0
