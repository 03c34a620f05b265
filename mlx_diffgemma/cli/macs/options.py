"""The options of several Macs that give one answer."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import Setting, SettingsError
from ...share.patience import SECONDS
from ..errors import ArgumentError
from ..parameters import option
from .ended import RANK

WAIT = "MLX_DIFFGEMMA_LINK_SECONDS"  # the environment's, in place of SECONDS

Asked = Literal["rows", "layers", "tensor", "auto"]
MACS_HELP = (
    "Start this command on the Macs of a hostfile, as mlx.distributed_config writes one, through "
    "mlx.launch. Default: none."
)


@dataclass(frozen=True)
class ShareOptions:
    """The Macs that answer together, and what each of them takes of the work."""

    share: Asked | None = option(
        "--share",
        "Several Macs answer together. rows: each holds the whole model and takes some of a "
        "canvas's rows, by arithmetic the fastest; layers: each holds some layers, for a model "
        "that does not fit one; tensor: each holds a part of every layer, by arithmetic faster "
        "than layers over Thunderbolt 5 with RDMA on M1 to M4; auto: rows where the model fits "
        "each Mac, else the better of the others. Default: none, with --macs auto.",
    )
    macs: Path | None = option("--macs", MACS_HELP, "FILE")

    @property
    def wanted(self) -> Asked | None:
        """The share that is asked for; None where this process answers alone."""
        return self.share or ("auto" if self.macs else None)

    @property
    def launches(self) -> bool:
        """True in the process that is to start the others; they have the same options."""
        return self.macs is not None and RANK not in os.environ

    def require_mode(self, mode: str) -> None:
        """SettingsError for a mode that Macs do not share in the way that is asked for."""
        if self.wanted == "rows" and mode != "diffusion":
            raise SettingsError(
                *(Setting("mode"), f" is {mode}, expected diffusion beside --share rows: a token "),
                "has one row; --share layers or tensor shares it, for a model that fits no Mac.",
            )

    def require_no_stdin(self, read: bool) -> None:
        """ArgumentError where standard input would be read: its end never reaches a rank."""
        if self.wanted and read:
            raise ArgumentError(
                "standard input cannot be read where several Macs answer together: mlx.launch "
                "never passes its end on; give the text as an argument, or in a file."
            )


def link_seconds() -> float:
    """Seconds without an answer after which a Mac counts as lost.

    ArgumentError for what the environment says, where that is no such number.
    """
    said = os.environ.get(WAIT)
    try:
        seconds = SECONDS if said is None else float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentError(f"{WAIT} is {said!r}, expected seconds above 0, such as {SECONDS:g}.")
    return seconds


def started(ctx: Any) -> Sequence[str]:
    """The arguments that the program was started with."""
    arguments: Sequence[str] = ctx.find_root().obj
    return arguments


def refuse_group(command: str) -> None:
    """ArgumentError for a command that each process of a group would run for itself."""
    if RANK in os.environ:
        raise ArgumentError(
            f"{command} runs on one Mac, and was started by mlx.launch; start it without, or ask "
            "several Macs with `generate --share auto`."
        )
