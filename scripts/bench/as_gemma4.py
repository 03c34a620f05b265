"""A DiffusionGemma folder as the Gemma 4 folder that its causal encoder and tied head are.

    python scripts/bench/as_gemma4.py MODEL OUT     MODEL: a folder, tiny-chat, or a repository
    mlx_lm.generate --model OUT --prompt "..."               that was downloaded before

transformers' Gemma4ForCausalLM loads a folder of plain numbers strictly, mlx-lm's gemma4_text also
a packed one: every number and every packed integer is the source's own. Left out are the vision
tower, self-conditioning and the decoder's layer scalars: the encoder has its own ones, and they are
what the two passes differ in. Numbers are written in the dtype that config.json computes in, since
mlx-lm computes in the dtype that it finds.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gemma4_layout import (
    LAYOUT,
    as_gemma4,
    gemma4_config,
    gemma4_names,
    generation_config,
    quantization_object,
)

from mlx_diffgemma.checkpoint.files import MANIFEST, is_there
from mlx_diffgemma.checkpoint.hub import known_folder
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.convert.bind import bind
from mlx_diffgemma.convert.checks import check_target, require_room
from mlx_diffgemma.convert.files import COPIED, GENERATION
from mlx_diffgemma.convert.pack import to_array, to_bytes
from mlx_diffgemma.convert.plan import BLOCK_BYTES, MAX_SHARD_BYTES
from mlx_diffgemma.convert.read import RowReader, SourceCheckpoint, open_checkpoint
from mlx_diffgemma.convert.run import shard_names
from mlx_diffgemma.convert.state import Workspace
from mlx_diffgemma.convert.table import Output, packed_outputs
from mlx_diffgemma.convert.transfer import small_cache
from mlx_diffgemma.convert.write import ShardWriter, write_synced
from mlx_diffgemma.errors import CheckpointError, ConvertError, DiffGemmaError
from mlx_diffgemma.machine.dtypes import FLOATS, ITEM_BYTES, mlx_dtype
from mlx_diffgemma.machine.files import json_bytes, read_json
from mlx_diffgemma.model.memory import sized
from mlx_diffgemma.version import __version__

__all__ = ["as_gemma4", "write_gemma4"]

TOKENIZER = tuple(name for name in COPIED if name != GENERATION and "processor" not in name)
LETTERS = {name: letters for letters, name in FLOATS.items()}


# --- the plan ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """A tensor to write: rows of the tensors `sources` (MLX names), laid one behind the other.

    runs: first row and count of each piece, in the order of writing; source_dtype: letters.
    """

    output: Output
    sources: tuple[str, ...]
    source_dtype: str
    runs: tuple[tuple[int, int], ...]

    def blocks(self, reader: RowReader) -> Iterator[memoryview]:
        """The bytes to write, as many at a time as memory is for."""
        width = self.output.shape[-1] * ITEM_BYTES[self.source_dtype]
        step = max(1, BLOCK_BYTES // width)
        for first, count in self.runs:
            for at in range(first, first + count, step):
                rows = reader.rows(self.sources, at, min(step, first + count - at))
                if self.source_dtype == self.output.dtype:
                    yield rows.data.cast("B")
                else:
                    wide = to_array(rows, self.source_dtype)
                    yield to_bytes(wide.astype(mlx_dtype(FLOATS[self.output.dtype])))


def make_tensors(source: SourceCheckpoint) -> list[Tensor]:
    """Every tensor of the Gemma 4 folder; CheckpointError for what is wrong with the source."""
    wanted, found = LETTERS[source.config.dtype], []
    for bound in bind(source)[0]:
        packing = source.packing(bound.name.removesuffix(".weight"))
        for part in packed_outputs(bound.name, "F32", bound.shape, packing):
            for target, half in gemma4_names(part.name, packing is not None):
                sources = bound.sources if packing is None else (part.name,)
                stored = _stored_dtype(source, sources, part, packing, bound.shape)
                shape, runs = _rows(part.shape, half)
                dtype = wanted if stored in FLOATS else stored
                output = Output(target, dtype, shape, 8 * ITEM_BYTES[dtype])
                found.append(Tensor(output, sources, stored, runs))
    return found


def _stored_dtype(
    source: SourceCheckpoint,
    sources: tuple[str, ...],
    part: Output,
    packing: QuantizationConfig | None,
    shape: tuple[int, ...],
) -> str:
    """The one dtype of a tensor's sources; CheckpointError for another shape or dtype."""
    kinds = tuple(FLOATS) if part.dtype == "F32" else (part.dtype,)
    infos = [source.info(name) for name in sources]
    rows = part.shape
    if len(infos) > 1:  # experts one by one: each has its share of the rows
        rows = (shape[0] * shape[1] // len(infos), shape[-1])
    for info in infos:
        info.require(info.name, rows, kinds if info is infos[0] else (infos[0].dtype,))
    return infos[0].dtype


def _rows(shape: tuple[int, ...], half: int | None) -> tuple[tuple[int, ...], Any]:
    """The shape of a whole tensor or a half of one, and the runs of rows that make it."""
    if half is None:
        rows = 1
        for size in shape[:-1]:
            rows *= size
        return shape, ((0, rows),)
    experts, rows, width = shape
    inner = rows // 2
    runs = tuple((expert * rows + half * inner, inner) for expert in range(experts))
    return (experts, inner, width), runs


def in_shards(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """The tensors in order, as many a shard as fit."""
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.output.num_bytes > MAX_SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.output.num_bytes
    return shards


# --- writing -------------------------------------------------------------------------------------


def write_gemma4(
    source: SourceCheckpoint, out: Path, progress: Callable[[int, int], None]
) -> list[Tensor]:
    """Write the Gemma 4 folder `out`, whole or not at all; the tensors in it.

    ConvertError where something else lies there, or the disk cannot hold the folder.
    """
    replaced = require_target(source.folder, out)
    tensors = make_tensors(source)
    shards = in_shards(tensors)
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in source.files]
    made = [__version__, stats, [asdict(tensor.output) for tensor in tensors]]
    workspace = Workspace(out, hashlib.sha256(json.dumps(made).encode()).hexdigest())
    try:
        workspace.open()
        done = sum(record.bytes for record in workspace.shards.values())
        total = sum(tensor.output.num_bytes for tensor in tensors)
        require_room(out, workspace.folder, max(0, total - done))
        _write_shards(source, shards, workspace, progress)
        names = _write_small_files(source, shards, workspace.folder)
        manifest = {"layout": LAYOUT, "made_by": __version__, "source": source.name, "files": names}
        write_synced(workspace.folder / MANIFEST, json_bytes(manifest, indent=1))
        workspace.publish(replaced)
    except OSError as error:
        workspace.leave()
        where, said = error.filename or workspace.folder, error.strerror or str(error)
        raise ConvertError(f"{where}: {said}; mend that, then run the same again.") from error
    except BaseException:
        workspace.leave()
        raise
    return tensors


def require_target(source: Path, out: Path) -> bool:
    """ConvertError unless OUT is free or was written here; True where there is one to replace."""
    if not out.exists():
        check_target(source, out, overwrite=False)
        return False
    if not out.is_dir() or (others := foreign(out)):
        what = f"holds {others[0]}" if out.is_dir() else "is a file"
        raise ConvertError(f"{out} {what}, which this script did not write; take another name.")
    return True


def foreign(folder: Path) -> list[str]:
    """The names in a folder of all that this script did not write there."""
    names = {file.name for file in folder.iterdir()}
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return sorted(names)
    if not isinstance(manifest, dict) or manifest.get("layout") != LAYOUT:
        return sorted(names)
    return sorted(names - {MANIFEST, *manifest["files"]})


def _write_shards(
    source: SourceCheckpoint,
    shards: list[list[Tensor]],
    workspace: Workspace,
    progress: Callable[[int, int], None],
) -> None:
    """Write the shards that no interrupted run has finished."""
    done, total = 0, sum(tensor.output.num_bytes for shard in shards for tensor in shard)
    with small_cache(), closing(RowReader(source)) as reader:
        for name, shard in zip(shard_names(len(shards)), shards, strict=True):
            before, done = done, done + sum(tensor.output.num_bytes for tensor in shard)
            if name in workspace.shards:
                continue
            outputs = [tensor.output for tensor in shard]
            with closing(ShardWriter(workspace.folder / name, outputs)) as writer:
                for block in (block for tensor in shard for block in tensor.blocks(reader)):
                    writer.write(block)
                    before += len(block)
                    progress(before, total)
                record = writer.finish()
            workspace.record_shard(name, record)


def _write_small_files(
    source: SourceCheckpoint, shards: list[list[Tensor]], folder: Path
) -> list[str]:
    """Write config, index and tokenizer; the names of all files, shards included."""
    raw, names = source.raw_config, shard_names(len(shards))
    config = gemma4_config(raw, source.config)
    if (quantization := quantization_object(source)) is not None:
        config |= {"quantization": quantization, "quantization_config": quantization}
    where = {t.output.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(tensor.output.num_bytes for shard in shards for tensor in shard)
    objects = {
        "config.json": config,
        GENERATION: generation_config(raw, source.config),
        "model.safetensors.index.json": {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(where.items())),
        },
    }
    files = {name: json_bytes(content, indent=1) for name, content in objects.items()}
    for name in TOKENIZER:
        if is_there(source.folder / name):
            files[name] = (source.folder / name).read_bytes()
    for name, content in files.items():
        write_synced(folder / name, content)
    return [*names, *files]


# --- the command ---------------------------------------------------------------------------------


def open_source(model: str) -> SourceCheckpoint:
    """The checkpoint; CheckpointError where there is none, or one that was never trained for ar."""
    folder = known_folder(model)
    if folder is None or not model:
        raise CheckpointError(
            f"{model!r} is no folder and not in the local Hub cache, expected a DiffusionGemma "
            "checkpoint; `hf download` fetches a repository."
        )
    named = os.path.isdir(os.path.expanduser(model))  # else a repository, or tiny-chat
    source = open_checkpoint(folder, name=None if named else model)
    if "ar" not in source.config.modes:
        raise CheckpointError(
            f"{model} was trained without the next-token loss and writes noise as Gemma 4, "
            "expected a checkpoint with mode ar such as tiny-chat."
        )
    return source


def show_progress(done: int, total: int) -> None:
    """A line on a terminal that is written over."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{sized(done)} of {sized(total)} written ", end=end, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="MODEL is left as it is. An interrupted run goes on where it stopped.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a folder, tiny-chat, or a repository in the local Hub cache"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    arguments = parser.parse_args()
    try:
        source = open_source(arguments.model)
        tensors = write_gemma4(source, arguments.out, show_progress)
    except DiffGemmaError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again", file=sys.stderr)
        sys.exit(130)
    if not is_there(source.folder / "tokenizer.json"):
        print(f"{source.name} has no tokenizer.json, which OUT needs as well", file=sys.stderr)
    total = sum(tensor.output.num_bytes for tensor in tensors)
    print(f"{arguments.out}: {len(tensors)} tensors, {sized(total)}, as Gemma 4's text model")


if __name__ == "__main__":
    main()
