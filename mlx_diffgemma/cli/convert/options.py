"""The options of `convert`, with their help; None is always "not given"."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..options import REVISION_HELP
from ..parameters import argument, flag, option

if TYPE_CHECKING:
    from ...convert.quantize import Recipe

PackingName = Literal["4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4", "none"]


@dataclass(frozen=True)
class FolderOptions:
    """The checkpoint to convert, and the folder to make of it."""

    source: str | None = argument(
        "SOURCE",
        "A checkpoint folder, a repository of the Hugging Face Hub, tiny-chat or tiny-sudoku. With "
        "--verify and no OUT: the folder to check.",
        place=True,
    )
    out: Path | None = argument("OUT", "The folder to make. --dry-run does without one.")


@dataclass(frozen=True)
class PackingOptions:
    """The fields of a recipe's options, under the names they have there."""

    quantize: PackingName | None = option(
        "--quantize",
        "How experts, self-conditioning and vision projection are packed; the rest stays at 8 "
        "bits, the vision tower and vectors as they are. none: nothing is packed. Default: 4bit.",
    )
    group_size: int | None = option(
        "--group-size",
        "Numbers that share a scale in what --quantize packs; the 8-bit parts keep 64. Default: "
        "64, 32 for mxfp4 and mxfp8, 16 for nvfp4.",
        "N",
    )
    embed_bits: int | None = option("--embed-bits", "Bits of the embedding. Default: 8.", "N")
    attention_bits: int | None = option(
        "--attention-bits", "Bits of attention's projections. Default: 8.", "N"
    )
    mlp_bits: int | None = option(
        "--mlp-bits", "Bits of the dense MLP beside the experts. Default: 8.", "N"
    )
    experts_bits: int | None = option(
        "--experts-bits", "Bits of the experts. Default: as --quantize says.", "N"
    )
    embed_vision: bool | None = option(
        "--quantize-embed-vision/--keep-embed-vision",
        "Pack the projection from vision to text as the published folders do, or leave it as newer "
        "converters do. Default: packed.",
    )

    def recipe(self) -> "Recipe":
        """The recipe; SettingsError where a mode lacks what was asked."""
        from ...convert.quantize import RecipeOptions, make_recipe

        given = {name: value for name, value in vars(self).items() if value is not None}
        return make_recipe(RecipeOptions(**given))


@dataclass(frozen=True)
class ConversionOptions:
    """From what a folder is made, and how it is put in place."""

    revision: str | None = option("--revision", REVISION_HELP, "REVISION")
    requantize: bool = flag(
        "--requantize", "Convert a folder that is quantised already, adding to its error."
    )
    dry_run: bool = flag(
        "--dry-run", "Show the plan, sizes, memory and time; read headers and write nothing."
    )
    overwrite: bool = flag(
        "--overwrite", "Replace OUT, if it is a checkpoint, once the new one is whole."
    )


@dataclass(frozen=True)
class CheckOptions:
    """The check of a folder, after a conversion or alone."""

    verify: bool = flag(
        "--verify",
        "Check OUT after converting, or without SOURCE an OUT that is there: hashes, loading, one "
        "decoder pass, and the errors against the source.",
    )
    against: str | None = option(
        "--against",
        "The source that --verify compares with. Default: SOURCE, if given.",
        "SOURCE",
        place=True,
    )
