"""The libraries of the extra `serve`, which a user may lack."""

import sys

from ...errors import ServeError
from ...machine.libraries import require_library

NEED = "the server needs starlette, uvicorn and two small libraries"


def require_libraries() -> None:
    """ServeError where one of them cannot be imported."""
    zstd = () if sys.version_info >= (3, 14) else ("backports.zstd",)
    for module in ("starlette", "uvicorn", "python_multipart", *zstd):
        require_library(module, NEED, "serve", ServeError)
