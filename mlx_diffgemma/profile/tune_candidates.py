"""Candidates of tuning: the values of every choice, and why some are not to be had here."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..conversation.session import Session
from ..diffusion.step import head_rows
from ..kernels import dispatch
from ..machine import device
from ..machine.choices import KERNELS, Choices
from ..machine.dtypes import dtype_name
from ..machine.memory import available_memory
from ..model.matrices import JoinedMatrix, PackedMatrix
from ..model.memory import WORKSPACE_BYTES, plan_memory, sized
from ..model.text import PREFILL_CHUNK, Model
from .tune_check import Probe

PREFILL_CHUNKS = (512, 1024, 4096)
HEAD_CHUNKS = (2**20, 2**22, 2**24, 2**26)


@dataclass(frozen=True)
class Candidate:
    """One value of one choice; absent: the reason why this machine or model cannot have it."""

    name: str
    value: Any
    choices: Choices
    absent: str | None = None


def candidates(
    session: Session, probe: Probe, *, dtype_given: bool = False, force: bool = False
) -> Iterator[Candidate]:
    """Every value but the engine's own, choice by choice.

    dtype_given: the user chose the activations' dtype; force: memory is not looked at.
    """
    model = session.model
    for chunk in PREFILL_CHUNKS:
        yield _one("prefill_chunk", chunk, _no_chunk(chunk, len(probe.long_prompt)))
    seen = {head_rows(model, model.config.canvas_length)}
    for logits in HEAD_CHUNKS:
        rows = _rows(model, logits)
        absent = f"{rows} rows again" if rows in seen else None
        seen.add(rows)
        yield _one("head_chunk_logits", logits, absent)
    unpacked = Choices(dense_weights="16-bit")
    absent = _no_unpacking(model) or _no_room(session, unpacked, force)
    yield Candidate("dense_weights", "16-bit", unpacked, absent)
    needless = _no_product(model, probe)
    yield _one("soft_product", "slices", needless)
    copied = Choices(soft_product="16-bit")
    wide = "activations are float32" if model.dtype == mx.float32 else None
    absent = needless or wide or _no_room(session, copied, force)
    yield Candidate("soft_product", "16-bit", copied, absent)
    for name in KERNELS:
        for preference in ("on", "off"):
            yield _one(name, preference, _no_kernels())
    half = Choices(dtype="float16")
    absent = "activations are float16" if model.dtype == mx.float16 else None
    absent = "--dtype names one" if dtype_given else absent
    yield Candidate("dtype", "float16", half, absent or _no_room(session, half, force))


def _one(name: str, value: Any, absent: str | None) -> Candidate:
    """A value of one choice, with all other choices the engine's own."""
    return Candidate(name, value, replace(Choices(), **{name: value}), absent)


def _no_chunk(chunk: int, positions: int) -> str | None:
    if min(chunk, positions) == min(PREFILL_CHUNK, positions):
        return f"prompts of the {positions:,} positions this model holds are encoded at once"
    return None


def _rows(model: Model, logits: int) -> int:
    return max(1, min(model.config.canvas_length, logits // model.config.text.vocab_size))


def _no_unpacking(model: Model) -> str | None:
    if model.dtype == mx.float32:
        return "activations are float32"
    matrices = (model.layers[0].attention.qkv, model.layers[0].after_attention.mlp.down)
    parts = [m.parts if isinstance(m, JoinedMatrix) else [m] for m in matrices]
    packed = any(isinstance(part, PackedMatrix) for group in parts for part in group)
    if not packed and not isinstance(model.embedding.table, PackedMatrix):
        return "the checkpoint's dense weights are not packed"
    return None


def _no_product(model: Model, probe: Probe) -> str | None:
    """The reason why it does not matter how distributions are multiplied by the embedding."""
    if not isinstance(model.embedding.table, PackedMatrix):
        return "the embedding is not packed"
    if not probe.step(model, model.encode(probe.prompt)).soft.dense_rows:
        return "no row of the step needs the product with the embedding"
    return None


def _no_room(session: Session, choices: Choices, force: bool) -> str | None:
    """The reason where memory cannot hold both networks, which stand side by side while timed.

    Networks of one dtype share what the choice leaves alone; of two dtypes they share nothing.
    """
    available = available_memory()
    if force or available is None:
        return None
    folder = Path(session.info.path)
    here = dtype_name(session.model.dtype)
    own = plan_memory(folder, here).weights.held_bytes if choices.dtype else 0
    other = plan_memory(folder, choices.dtype or here, choices).weights.loading_bytes
    needed = own + other + 2 * WORKSPACE_BYTES
    if needed <= available:
        return None
    return f"needs {sized(needed)} beside the model, there are {sized(available)} (--force tries)"


def _no_kernels() -> str | None:
    if not device.has_metal():
        return "no Metal device"
    if (wanted := dispatch.mode()) is not dispatch.Mode.AUTO:
        return f"{dispatch.VARIABLE} is {wanted}"
    return None
