"""Names in the Hub's local cache, read without the rest of its library, which starts slowly."""

import os
from pathlib import Path

PREFIX = "models--"  # of the folder of a repository that holds a model
PART = ".incomplete"  # ends the name of a file of which not all is there


def cache_folder() -> Path:
    """The folder of the local cache, which need not be there yet."""
    from huggingface_hub import constants  # 5 ms; the rest of the library is not loaded

    return Path(constants.HF_HUB_CACHE)


def cached_names() -> list[str]:
    """Ids of the cached repositories of models; cheap and never raises."""
    try:
        with os.scandir(cache_folder()) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return []
    return sorted(name.removeprefix(PREFIX).replace("--", "/") for name in names)


def repo_folder(repo_id: str) -> Path:
    """The folder that a repository has in the cache, or will have."""
    return cache_folder() / (PREFIX + repo_id.replace("/", "--"))
