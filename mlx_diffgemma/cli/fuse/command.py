"""`fuse`: a whole folder of a model and its adapter."""

import os
from pathlib import Path

from ..errors import ArgumentError
from ..options import ReportOptions
from ..parameters import flattened
from .options import AdaptedModel, FuseOptions


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
