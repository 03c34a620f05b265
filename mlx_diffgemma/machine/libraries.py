"""Libraries of an extra, which a user may lack: looked for where they are needed."""

from importlib import import_module

from ..errors import DiffGemmaError


def require_library(module: str, need: str, extra: str, error: type[DiffGemmaError]) -> None:
    """`error` where a module cannot be imported; need: what is asked for, and what it needs."""
    try:
        import_module(module)
    except ImportError as cause:
        package = module.partition(".")[0]
        found = "it is not installed" if _absent(cause, package) else f"it is broken ({cause})"
        raise error(
            f'{need}, and {found}; install this program again as "mlx-diffgemma[{extra}]", in a '
            f'clone as ".[{extra}]".'
        ) from cause


def _absent(error: ImportError, package: str) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(package)
