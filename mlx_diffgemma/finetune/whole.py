"""All weights of a checkpoint as variables: read unpacked, and written as a checkpoint again."""

import math
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.config import DTYPE_KEYS
from ..checkpoint.files import is_there
from ..checkpoint.quantization import KEYS as QUANTIZATION
from ..checkpoint.tensors import Tensors
from ..checkpoint.vision import VISION
from ..convert.bind import Bound, bind
from ..convert.files import CONFIG, COPIED
from ..convert.read import SourceCheckpoint, open_checkpoint
from ..convert.write import write_arrays
from ..machine.files import WholeFile, json_bytes
from ..model.matrices import PackedMatrix, matrix
from .parameters import Values

WEIGHTS = "model.safetensors"


def read_weights(folder: Path) -> dict[str, mx.array]:
    """Every number of the text network in float32, by the name of its tensor; all unpacked."""
    values = _read(open_checkpoint(folder), vision=False)
    mx.eval(values)
    return values


def write_checkpoint(source: Path, out: Path, values: Values) -> None:
    """Write a dense float32 checkpoint with `values` as the weights of its text network.

    source: the folder that they were trained from, which has tokenizer, settings and vision tower.
    Each file is there whole or not at all.
    """
    checkpoint = open_checkpoint(source)
    files = {name: (source / name).read_bytes() for name in COPIED if is_there(source / name)}
    files[CONFIG] = json_bytes(_dense(checkpoint), indent=2)
    out.mkdir(parents=True, exist_ok=True)
    write_arrays(out / WEIGHTS, {**values, **_read(checkpoint, vision=True)})
    for name, content in files.items():
        with WholeFile(out / name) as file:
            file.write(content)


def _read(source: SourceCheckpoint, *, vision: bool) -> dict[str, mx.array]:
    """The tensors of the vision tower, or all others."""
    tensors = Tensors(source.folder, source.config, mx.float32)
    bound = [each for each in bind(source)[0] if bool(VISION.match(each.name)) == vision]
    return {each.name: _numbers(tensors, each) for each in bound}


def _numbers(tensors: Tensors, bound: Bound) -> mx.array:
    """A tensor in float32: unpacked, or put together of the experts that are stored one by one."""
    module = bound.name.removesuffix(".weight")
    if len(bound.sources) > 1:
        rows = math.prod(bound.shape[:-1]) // len(bound.sources)
        parts = [tensors.vector(name, rows, bound.shape[-1]) for name in bound.sources]
        return mx.concatenate(parts).reshape(bound.shape)
    if tensors.packing(module) is None:
        return tensors.vector(bound.name, *bound.shape)
    packed = matrix(tensors.weight(module, *bound.shape))
    assert isinstance(packed, PackedMatrix)
    return packed.unpacked(mx.float32)


def _dense(source: SourceCheckpoint) -> dict[str, Any]:
    """config.json of the source, of a checkpoint that is not packed."""
    dropped = (*QUANTIZATION, *DTYPE_KEYS)
    config = {key: value for key, value in source.raw_config.items() if key not in dropped}
    text = {k: v for k, v in source.raw_config["text_config"].items() if k not in dropped}
    return config | {"dtype": "float32", "text_config": text | {"dtype": "float32"}}
