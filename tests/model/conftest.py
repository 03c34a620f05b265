"""The published checkpoint's configurations."""

import gzip
import shutil
from pathlib import Path

import pytest

from mlx_diffgemma.checkpoint.config import ModelConfig, read_config

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def published_config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """google/diffusiongemma-26B-A4B-it."""
    folder = tmp_path_factory.mktemp("google")
    shutil.copy(DATA / "google-config.json", folder / "config.json")
    shutil.copy(DATA / "google-generation_config.json", folder / "generation_config.json")
    return read_config(folder)


@pytest.fixture(scope="session")
def mixed_config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """mlx-community/diffusiongemma-26B-A4B-it-4bit: experts in 4 bits, most of the rest in 8."""
    folder = tmp_path_factory.mktemp("mixed")
    raw = gzip.decompress((DATA / "mlx-community-4bit-config.json.gz").read_bytes())
    (folder / "config.json").write_bytes(raw)
    return read_config(folder)
