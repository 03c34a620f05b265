"""The whole conversion: checks, shard after shard, small files, and the rename at the end."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.config import read_config
from ..checkpoint.files import MANIFEST, is_there
from ..errors import ConvertError
from ..machine.memory import peak_memory
from ..model.text import Progress
from ..model.weights import check_network
from .checks import check_disk, check_target, fingerprint
from .files import manifest, small_files
from .hashing import BackgroundHasher
from .plan import Plan
from .read import RowReader
from .state import Workspace, unfinished_shards
from .transfer import small_cache, transfer
from .write import ShardWriter, write_synced


@dataclass(frozen=True)
class Result:
    """The outcome of a conversion."""

    folder: Path
    shards: int
    resumed_shards: int
    tensor_count: int
    tensor_bytes: int
    file_bytes: int
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Reports:
    """Callbacks of a running conversion: source bytes done and in all, and a line to note."""

    progress: Progress = lambda done, total: None
    note: Callable[[str], None] = lambda line: None


def convert(
    plan: Plan, out: Path, *, overwrite: bool = False, reports: Reports | None = None
) -> Result:
    """Write what `plan` says into a new folder `out`; check_target tells what may lie there.

    OUT is untouched until the new folder is whole. Shards that an earlier run with the same plan
    finished are taken over. ConvertError and CheckpointError say what is wrong; an interruption
    leaves whole shards.
    """
    began = time.perf_counter()
    reports = reports or Reports()
    check_target(plan.source.folder, out, overwrite)
    workspace = Workspace(out, fingerprint(plan))
    try:
        resumed = _open(workspace, plan, reports)
        _write_folder(plan, workspace, reports)
        check_target(plan.source.folder, out, overwrite)  # an hour later OUT may be another's
        workspace.publish(overwrite)
    except OSError as error:
        workspace.leave()
        raise _failure(error, workspace, len(plan.shards)) from error
    except BaseException:
        workspace.leave()
        raise
    return Result(
        folder=out,
        shards=len(plan.shards),
        resumed_shards=resumed,
        tensor_count=len(plan.outputs),
        tensor_bytes=plan.tensor_bytes,
        file_bytes=sum(file.stat().st_size for file in workspace.out.iterdir()),
        seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_memory(),
    )


def shard_names(count: int) -> list[str]:
    """File names of `count` shards, as every reader expects them."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number + 1:05}-of-{count:05}.safetensors" for number in range(count)]


def _open(workspace: Workspace, plan: Plan, reports: Reports) -> int:
    """Open the folder to write in; the count of shards that an earlier run has finished there."""
    workspace.open()
    if workspace.discarded:
        reports.note(
            f"{workspace.discarded} finished shards in {workspace.folder} are of another "
            "source, recipe or version, and are made again"
        )
    resumed = len(workspace.shards)
    if resumed:
        reports.note(f"going on with {resumed} of {len(plan.shards)} shards, hashes checked")
    check_disk(plan, workspace)
    for line in _lacking(plan):
        reports.note(line)
    return resumed


def _lacking(plan: Plan) -> Iterator[str]:
    """Notes on what the source lacks, so that OUT will lack it too."""
    source = plan.source
    if not is_there(source.folder / "tokenizer.json"):
        yield f"{source.name} has no tokenizer.json, OUT needs one before it can answer"
    if source.config.vision and source.vision is None:
        yield f"{source.name} has no vision tensors, though config.json has a tower; nor will OUT"


def _write_folder(plan: Plan, workspace: Workspace, reports: Reports) -> None:
    """Write everything that belongs into the new folder, and bind its headers as loading would."""
    folder, names = workspace.folder, shard_names(len(plan.shards))
    unhashed = (file for file in plan.source.files if file.name not in workspace.sources)
    with closing(BackgroundHasher(unhashed, workspace.record_source)) as hasher:
        _write_shards(plan, workspace, hasher, reports.progress)
        hasher.record(wait=True)
    records = dict(workspace.shards)
    for name, content in small_files(plan, names).items():
        records[name] = write_synced(folder / name, content)
    check_network(folder, read_config(folder)).finish()
    write_synced(folder / MANIFEST, manifest(plan, workspace.sources, records))


def _write_shards(
    plan: Plan, workspace: Workspace, hasher: BackgroundHasher, progress: Progress
) -> None:
    """Write the shards that no earlier run has finished; record each when it is on the disk."""
    done, total = 0, plan.source_bytes
    with small_cache(), closing(RowReader(plan.source)) as reader:
        names = shard_names(len(plan.shards))
        for name, shard, outputs in zip(names, plan.shards, plan.shard_outputs, strict=True):
            before, done = done, done + sum(entry.num_bytes for entry in shard)
            if name in workspace.shards:
                continue
            with closing(ShardWriter(workspace.folder / name, outputs)) as writer:
                for count in transfer(shard, reader, writer):
                    before += count
                    progress(before, total)
                record = writer.finish()
            workspace.record_shard(name, record)
            hasher.record()


def _failure(error: OSError, workspace: Workspace, num_shards: int) -> ConvertError:
    """The error for a failed read or write, with the shards that the next run still has."""
    place = error.filename or str(workspace.folder)
    said = error.strerror or str(error)
    remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
    count = unfinished_shards(workspace.out)
    kept = f"{count} of {num_shards} shards are kept in {workspace.folder}"
    if not count:
        kept = "nothing is left behind"
    return ConvertError(f"{place}: {said}; {kept}, {remedy}, then run the same command again.")
