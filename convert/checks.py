"""Checks before the first number is read: the target may be written, and the disk holds it."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from ..checkpoint.cache import nearest_folder
from ..checkpoint.files import MANIFEST, MODEL_TYPE, read_object
from ..errors import CheckpointError, ConvertError, one_line
from ..model.memory import sized
from ..version import __version__
from .pack import mlx_version
from .plan import Plan
from .state import Workspace, partial_folder
from .write import shard_header

SMALL_FILES_ROOM = 64_000_000  # tokenizer, config and the like


def check_target(source: Path | None, out: Path, overwrite: bool) -> None:
    """ConvertError unless `out` can become the new folder: free, or an MLX folder to replace.

    source: the folder to convert; None where it is not on this machine yet.
    """
    try:
        whole = out.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise ConvertError(f"{out}: {one_line(error)}; take another name.") from None
    if os.path.ismount(whole) or whole == _home():  # no folder can be renamed into its place
        raise ConvertError(f"{out} is a disk's root or the home folder; give a folder inside it.")
    if source is not None:
        _refuse_overlap(source.resolve(), whole)
    _require_writable(whole.parent)
    if not out.exists():
        return
    if not out.is_dir():
        raise ConvertError(f"{out} is a file, expected the name of a new folder.")
    if not overwrite:
        raise ConvertError(f"{out} exists; take another name, or --overwrite it.")
    if any(out.iterdir()) and not _is_converted(out):
        raise ConvertError(
            f"{out} is no folder that a conversion wrote, and --overwrite replaces nothing else; "
            "take another name."
        )


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:  # there is none
        return None


def _refuse_overlap(source: Path, out: Path) -> None:
    """ConvertError where writing OUT, or the folder in which it grows, would touch SOURCE."""
    if _is_one(source, out):
        raise ConvertError(f"SOURCE and OUT are both {source}; give OUT another name.")
    for target in (out, partial_folder(out)):
        if any(_is_one(source, above) for above in (target, *target.parents)) or any(
            _is_one(target, above) for above in source.parents
        ):
            raise ConvertError(
                f"{target} and {source} are one inside the other; put OUT elsewhere."
                if target == out
                else f"{source} is where a conversion into {out.name} grows; take another name."
            )


def _is_one(a: Path, b: Path) -> bool:
    """Test that two paths name one folder; a Mac's disks know MODEL by the name of model."""
    try:
        return a == b or a.samefile(b)
    except OSError:  # one of them is not there
        return False


def _require_writable(parent: Path) -> None:
    """ConvertError where no folder can be made in `parent`, or in the folders that lead to it."""
    parent = nearest_folder(parent)
    if not parent.is_dir():
        raise ConvertError(f"{parent} is a file, expected a folder to put OUT into.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConvertError(f"{parent} may not be written to; put OUT elsewhere.")


def _is_converted(folder: Path) -> bool:
    """Test that a folder is an MLX one, written here or packed by others: never an original."""
    try:
        config = read_object(folder / "config.json")
    except CheckpointError:
        return False
    ours = (folder / MANIFEST).is_file() or "quantization" in config
    return ours and config.get("model_type") == MODEL_TYPE and any(folder.glob("*.safetensors"))


def check_disk(plan: Plan, workspace: Workspace) -> None:
    """ConvertError when the disk cannot hold the bytes that are still to be written."""
    done = sum(record.bytes for record in workspace.shards.values())
    require_room(workspace.out, workspace.folder, output_bytes(plan) - done)


def require_room(out: Path, place: Path, shards: int, download: int = 0) -> None:
    """ConvertError when the disk of `place` cannot hold `shards` bytes beside the small files.

    download: bytes that will be fetched to the same disk first.
    """
    needed, free = shards + SMALL_FILES_ROOM, shutil.disk_usage(place).free
    if needed + download > free:
        both = f" beside the download of {sized(download)}" if download else " more"
        raise ConvertError(
            f"{out} needs {sized(needed)}{both}, the disk has {sized(free)} free; "
            "make room, or put OUT on another disk."
        )


def output_bytes(plan: Plan) -> int:
    """Bytes of all shards, headers included."""
    return sum(len(shard_header(outputs)) for outputs in plan.shard_outputs) + plan.tensor_bytes


def fingerprint(plan: Plan) -> str:
    """Hash of all that unfinished shards depend on: source files, recipe, this program and MLX."""
    stats = {file.name: file.stat() for file in plan.source.files}
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()]
    shards = [[asdict(output) for output in outputs] for outputs in plan.shard_outputs]
    sources = [
        (e.source, asdict(e.unpacking) if e.unpacking else None, e.added.key if e.added else None)
        for e in plan.entries
    ]
    everything = [__version__, mlx_version(), plan.recipe.told, files, shards, sources]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()
