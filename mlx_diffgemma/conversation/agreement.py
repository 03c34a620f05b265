"""Macs that share a model agree on what they load before a weight is read, and on room for more."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files as package_files
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..checkpoint.adapter import AdapterFiles
from ..checkpoint.config import read_config
from ..checkpoint.shards import TensorInfo, read_headers
from ..checkpoint.tensors import PromisedTensors
from ..errors import CheckpointError, DiffGemmaError, FitError
from ..machine.choices import Choices
from ..machine.dtypes import mlx_dtype
from ..machine.identity import sources_hash
from ..model.memory import RoomCheck
from ..model.slices import experts_cut
from ..model.weights import build
from ..share.guard import require_agreement, told_by_all
from ..share.part import Part
from ..share.share import Share
from ..version import __version__

SAMPLE_BYTES = 64

Found = TypeVar("Found")


def require_same_load(
    part: Part,
    folder: Path,
    dtype: str | None,
    choices: Choices | None,
    adapter: AdapterFiles | None,
) -> None:
    """ShareError where a Mac has another engine, checkpoint or adapter, or is to use it otherwise.

    Of weights their headers are compared, and a few numbers of each tensor.
    """
    if not part.share.alone:
        facts = {"the cut": part.cut, **load_facts(folder, dtype, choices, adapter)}
        if part.in_tensors:
            facts["the experts' cut"] = f"by {experts_cut()}"
        require_agreement(part.share, facts)


def require_parts(folder: Path, part: Part) -> None:
    """ShareError, the same on every Mac, where tensors cannot be cut into parts for all of them.

    No weight is read.
    """
    config = read_config(folder)
    for rank in range(part.share.size if part.in_tensors else 0):
        tensors = PromisedTensors(folder, config, mlx_dtype(config.dtype))
        other = replace(part, share=replace(part.share, rank=rank))
        build(tensors, lambda layer, bound: None, other)


def load_facts(
    folder: Path, dtype: str | None, choices: Choices | None, adapter: AdapterFiles | None
) -> dict[str, object]:
    """What Macs that load a folder have to have in common."""
    tensors = read_headers(folder)
    chosen = replace(choices or Choices(), times=None)
    return {
        "mlx-diffgemma": f"{__version__}, sources {_sources()}",
        "mlx": version("mlx"),
        "numpy": version("numpy"),
        "config.json": _digest((folder / "config.json").read_bytes()),
        "the tensors": _headers(tensors),
        "the weights": _sampled(tensors.values()),
        **_adapter_facts(adapter),
        "the dtype": dtype or chosen.dtype,
        "prefill_chunk": chosen.prefill_chunk,
    }


def loaded_alike(share: Share, load: Callable[[], Found]) -> Found:
    """What each Mac loads of its own, with the CheckpointError of one on all of them."""
    if share.alone:
        return load()
    found, failed = None, None
    try:
        found = load()
    except CheckpointError as error:
        failed = str(error)
    _require_success(share, CheckpointError, failed)
    assert found is not None
    return found


def agreed_room(share: Share, check: RoomCheck) -> RoomCheck:
    """A check of memory that fails on all Macs where it fails on one, whose FitError is raised.

    All ranks ask at the same places. What is kept is then let go of on all of them alike.
    """
    if share.alone:
        return check

    def together(context: int, beside: int = 0) -> None:
        short: str | None = None
        try:
            check(context, beside)
        except FitError as error:
            short = str(error)
        _require_success(share, FitError, short)

    return together


def _require_success(share: Share, kind: type[DiffGemmaError], failed: str | None) -> None:
    """An error of `kind` on all Macs, with the words of the first that failed."""
    for rank, told in enumerate(told_by_all(share, {"failed": failed})):
        if told["failed"]:
            raise kind(f"{share.mac(rank)}: {told['failed']}")


def _adapter_facts(adapter: AdapterFiles | None) -> dict[str, object]:
    if adapter is None:
        return {"the adapter": None}
    return {
        "the adapter": _headers(adapter.tensors),
        "the adapter's scale": adapter.parameters.scale,
        "the adapter's numbers": _sampled(adapter.tensors.values()),
    }


def _headers(tensors: Mapping[str, TensorInfo]) -> str:
    told = {name: (info.dtype, info.shape, info.offset) for name, info in tensors.items()}
    return _digest(json.dumps(told, sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def _sampled(tensors: Iterable[TensorInfo]) -> str:
    """A hash over the first bytes of the middle of each tensor.

    Another training changes all of them; reading all would take as long as loading.
    """
    found = sha256()
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for info in tensors:
            if info.file not in files:
                files[info.file] = stack.enter_context(info.file.open("rb"))
            files[info.file].seek(info.offset + info.num_bytes // 2)
            found.update(files[info.file].read(min(SAMPLE_BYTES, info.num_bytes)))
    return found.hexdigest()[:16]


def _sources() -> str:
    """A hash over the sources of this package."""
    return sources_hash(package_files(__package__.partition(".")[0]))
