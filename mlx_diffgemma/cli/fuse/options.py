"""The options of `fuse`, with their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..options import ModelOptions
from ..parameters import argument, flag, option

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
