"""The options of `convert`, with their help; None is always "not given"."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.models import ArgumentInfo, OptionInfo

PackingName = Literal["4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4", "none"]


def _argument(metavar: str, text: str) -> ArgumentInfo:
    argument: ArgumentInfo = typer.Argument(metavar=metavar, help=text, show_default=False)
    return argument


def _option(name: str, text: str, metavar: str | None = None) -> OptionInfo:
    option: OptionInfo = typer.Option(name, help=text, metavar=metavar, show_default=False)
    return option


SourceName = Annotated[
    str | None,
    _argument(
        "SOURCE",
        "A checkpoint folder, a repository of the Hugging Face Hub, or tiny-sudoku. With --verify "
        "and no OUT: the folder to check.",
    ),
]
OutFolder = Annotated[
    Path | None, _argument("OUT", "The folder to make. --dry-run does without one.")
]
Quantize = Annotated[
    PackingName | None,
    _option(
        "--quantize",
        "How experts, self-conditioning and vision projection are packed; the rest stays at 8 "
        "bits, the vision tower and vectors as they are. none: nothing is packed. Default: 4bit.",
    ),
]
GroupSize = Annotated[
    int | None,
    _option(
        "--group-size",
        "Numbers that share a scale in what --quantize packs; the 8-bit parts keep 64. "
        "Default: 64, 32 for mxfp4 and mxfp8, 16 for nvfp4.",
        "N",
    ),
]
EmbedBits = Annotated[
    int | None, _option("--embed-bits", "Bits of the embedding. Default: 8.", "N")
]
AttentionBits = Annotated[
    int | None, _option("--attention-bits", "Bits of attention's projections. Default: 8.", "N")
]
ExpertsBits = Annotated[
    int | None, _option("--experts-bits", "Bits of the experts. Default: as --quantize says.", "N")
]
EmbedVision = Annotated[
    bool | None,
    _option(
        "--quantize-embed-vision/--keep-embed-vision",
        "Pack the projection from vision to text as the published folders do, or leave it as "
        "newer converters do. Default: packed.",
    ),
]
Revision = Annotated[
    str | None,
    _option(
        "--revision", "Branch, tag or commit of a repository. Default: its main branch.", "REVISION"
    ),
]
Requantize = Annotated[
    bool,
    _option("--requantize", "Convert a folder that is quantised already, adding to its error."),
]
DryRun = Annotated[
    bool,
    _option("--dry-run", "Show the plan, sizes, memory and time; read headers and write nothing."),
]
Overwrite = Annotated[
    bool, _option("--overwrite", "Replace OUT, if it is a checkpoint, once the new one is whole.")
]
Verify = Annotated[
    bool,
    _option(
        "--verify",
        "Check OUT after converting, or without SOURCE an OUT that is there: hashes, loading, one "
        "decoder pass, and the errors against the source.",
    ),
]
Against = Annotated[
    str | None,
    _option(
        "--against", "The source that --verify compares with. Default: SOURCE, if given.", "SOURCE"
    ),
]
Json = Annotated[bool, _option("--json", "Print one JSON object instead of the text.")]
