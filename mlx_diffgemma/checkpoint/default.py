"""The model that is meant where none is named; this module imports nothing that starts slowly."""

import os

from ..machine.user_config import read_user_config

DEFAULT_MODEL = "mlx-community/diffusiongemma-26B-A4B-it-4bit"
MODEL_VARIABLE = "MLX_DIFFGEMMA_MODEL"


def default_model() -> str:
    """$MLX_DIFFGEMMA_MODEL, else `model` of the user's config file, else the published checkpoint.

    ConfigFileError for a file that cannot be used, where it is asked.
    """
    if named := os.environ.get(MODEL_VARIABLE):
        return named
    return str(read_user_config().values.get("model", DEFAULT_MODEL))
