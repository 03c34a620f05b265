"""`fuse`: a whole folder of a model and its adapter."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ArgumentError
from ..options import ModelOptions, ReportOptions
from ..parameters import argument, flag, flattened, option

FusePacking = Literal["keep", "4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4", "none"]


@dataclass(frozen=True)
class AdaptedModel(ModelOptions):
    """A model and the adapter that it is made one with."""

    adapter: Path | None = option(
        "--adapter", "The folder of the trained adapter, which must be given.", "DIR"
    )


@dataclass(frozen=True)
class FuseOptions:
    """The folder to make, and the form of its weights."""

    out: Path | None = argument("OUT", "The folder to make.")
    quantize: FusePacking = option(
        "--quantize",
        "keep: each module packed as it is in the model, to the bit where it has no adapter. none: "
        "nothing packed, which loses least. Else as in convert, for a model that is not packed. "
        "Default: keep.",
        default="keep",
    )
    check: bool = flag(
        "--check",
        "Compare OUT with the model and the adapter: the numbers of each module, and the logits of "
        "both passes.",
    )
    overwrite: bool = flag(
        "--overwrite", "Replace OUT, if it is a checkpoint, once the new one is whole."
    )


@flattened(without=("dtype", "force", "no_tune", "gentle"), last=("offline",))
def command(given: FuseOptions, model: AdaptedModel, output: ReportOptions) -> int:
    """Make a folder OUT of a model and its adapter, which needs no --adapter any more.

    The adapter is added to the weights; tokenizer and templates are copied. Memory stays below a
    gigabyte or so beside the adapter, whatever the model's size. OUT appears when all of it is
    whole; after an interruption the same command goes on from the finished shards.
    """
    if given.out is None:
        raise ArgumentError("OUT is missing, expected the name of a new folder.")
    if model.adapter is None:
        raise ArgumentError("--adapter is missing, expected the folder of a trained adapter.")
    from .work import fuse

    out = Path(os.path.expanduser(given.out))  # Path's own raises for the home of nobody
    return fuse(model, model.adapter, out, given, as_json=output.as_json)
