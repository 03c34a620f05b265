"""The version of the installed package; looked up late, since that takes a while."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mlx-diffgemma")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
