"""The Metal text that MLX generates for a call of a custom kernel, without a Metal device."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import mlx.core as mx

from .errors import SimError


def generated_text(kernel: Any, inputs: Sequence[mx.array], **arguments: Any) -> str:
    """The text MLX would hand to Metal for a call of `kernel` with these arguments.

    Exporting a function traces it, custom kernels included, and `verbose` prints their text.
    """

    def call(*traced: mx.array) -> list[mx.array]:
        result: list[mx.array] = kernel(inputs=list(traced), verbose=True, **arguments)
        return result

    with TemporaryDirectory() as folder, (Path(folder) / "printed").open("w+") as printed:
        with _standard_output_to(printed):
            mx.export_function(str(Path(folder) / "exported"), call, *inputs)
        printed.seek(0)
        found = re.search(r"```\n(.*)\n```", printed.read(), re.DOTALL)
    if not found:
        raise SimError("MLX prints no text for a traced kernel; 0.32.4 does")
    return found.group(1)


@contextmanager
def _standard_output_to(file: IO[str]) -> Iterator[None]:
    """Sends what C++ prints to a file: it knows nothing of sys.stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
