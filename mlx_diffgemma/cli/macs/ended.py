"""The exit code of rank 0, left for the process that has started the group.

Imported at every start, so this module imports nothing heavy.
"""

import os
from contextlib import suppress

EXIT_FILE = "MLX_DIFFGEMMA_EXIT"
NAMES = "MLX_DIFFGEMMA_MACS"
RANK = "MLX_RANK"  # as mlx.launch sets it


def code_file() -> str:
    """The file in which `--macs` looks for rank 0's exit code; "" for none."""
    return os.environ.get(EXIT_FILE, "") if os.environ.get(RANK) == "0" else ""


def leave_code(code: int) -> None:
    """Write rank 0's exit code where `--macs` looks for it; nothing without one."""
    if file := code_file():
        with suppress(OSError), open(file, "w") as stream:
            stream.write(str(code))
