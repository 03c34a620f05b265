"""Check of a converted folder, against its own files and against its source.

Compared are hashes with the manifest; names, shapes and dtypes with config.json; unpacked numbers
with the source's, a block at a time; one decoder pass of both, and an image through both towers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint.files import MANIFEST, is_there, read_object
from ..errors import ConvertError
from ..model.weights import check_network
from .compare import PartError, compare_weights
from .hashing import hash_file
from .passes import Distance, Rows, distance, first_step_log_probabilities, image_features
from .plan import Plan, make_plan
from .quantize import RecipeOptions, make_recipe
from .read import open_checkpoint

Progress = Callable[[str, int, int], None]  # what, done, in all


@dataclass(frozen=True)
class ImageCheck:
    """An image through the vision tower: its soft tokens, and their error against the source's."""

    soft_tokens: int
    relative_rms: float | None  # None without a source


@dataclass(frozen=True)
class Verification:
    """Findings about a sound folder; one with a fault is a ConvertError instead."""

    folder: Path
    hashed_files: int | None  # None where the folder has no manifest
    tensors: int
    parts: tuple[PartError, ...]  # empty without a source
    decoder: Distance | None
    mean_entropy: float  # nats a canvas position after the first step
    image: ImageCheck | None  # None without a vision tower


def verify(
    folder: Path,
    against: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Verification:
    """Check `folder`, and compare it with its source `against` where one is given.

    ConvertError for a wrong hash, a number that is not finite, or an error too large to come from
    rounding; CheckpointError where the folder would not load.
    """
    hashed = check_hashes(folder, progress)
    plan = as_stored(folder)
    check_network(folder, plan.source.config).finish()
    parts: tuple[PartError, ...] = ()
    if against is not None:
        parts = compare_weights(
            plan, as_stored(against), lambda done, total: progress("comparing", done, total)
        )
    ours = _log_probabilities(folder, "running the decoder", progress)
    decoder = None
    if against is not None:
        theirs = _log_probabilities(against, "running the source's decoder", progress)
        decoder = distance(theirs, ours)
    entropy = float(-(np.exp(ours) * ours).sum(axis=-1).mean())
    image = _check_image(folder, against)
    return Verification(folder, hashed, len(plan.source.headers), parts, decoder, entropy, image)


def check_hashes(folder: Path, progress: Progress) -> int | None:
    """The number of files with the manifest's hashes; None where there is no manifest."""
    if not is_there(folder / MANIFEST):
        return None
    files = _manifest_files(folder)
    total, done = sum(entry["bytes"] for entry in files), 0
    for entry in files:
        file = folder / entry["name"]
        if not file.is_file():
            raise ConvertError(f"{file}: missing, but {MANIFEST} lists it; convert again.")
        if (got := hash_file(file)).sha256 != entry["sha256"]:
            raise ConvertError(
                f"{file}: sha256 {got.sha256[:16]}..., expected {entry['sha256'][:16]}...; "
                "the file has changed, convert again."
            )
        done += entry["bytes"]
        progress("checking hashes", done, total)
    return len(files)


def _manifest_files(folder: Path) -> list[dict[str, Any]]:
    files = read_object(folder / MANIFEST).get("files")
    if not isinstance(files, list) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("bytes"), int)
        for entry in files
    ):
        raise ConvertError(f"{folder / MANIFEST}: lists no files; convert again.")
    return files


def as_stored(folder: Path) -> Plan:
    """A plan that would unpack all tensors of a folder: their names and shapes are checked."""
    return make_plan(open_checkpoint(folder), make_recipe(RecipeOptions("none")), requantize=True)


def _check_image(folder: Path, against: Path | None) -> ImageCheck | None:
    """A fixed image through both towers; the weights said already that both or neither have one."""
    if (ours := image_features(folder)) is None:
        return None
    if not np.isfinite(ours).all():
        raise ConvertError(f"{folder}: the vision tower gives numbers that are not finite.")
    theirs = None if against is None else image_features(against)
    if theirs is None:
        return ImageCheck(len(ours), None)
    error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    return ImageCheck(len(ours), error)


def _log_probabilities(folder: Path, what: str, progress: Progress) -> Rows:
    rows = first_step_log_probabilities(folder, lambda done, total: progress(what, done, total))
    if not np.isfinite(rows).all():
        raise ConvertError(f"{folder}: a decoder pass gives numbers that are not finite.")
    return rows
