"""Repositories of the Hub described and planned from their headers, without their weights.

`info`, the plan of a conversion and the question before a download all read what is fetched here:
a folder as a download would make it, but with files that end behind their headers.
"""

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import CheckpointError, HubError
from .config import read_config
from .download import survey
from .fetch import quietly
from .hub import TEMPLATE_FILES, TRY_NOW, Source, find_model, reach
from .shards import SIDE_FILE

SMALL_CONFIGS = ("config.json", "generation_config.json", "processor_config.json")


@contextmanager
def find_headers(
    model: str | Path, *, offline: bool = False, revision: str | None = None
) -> Iterator[Source]:
    """The Source of `model` for as long as the context lasts, enough to describe and plan it.

    That of `find_model` where the model is on this machine; of a repository that is not, one with
    its headers alone. Errors as of `find_model` and `fetch_headers`.
    """
    try:
        found = find_model(model, offline=offline, revision=revision)
    except HubError:
        if offline:
            raise
    else:
        yield found
        return
    with remote_headers(str(model), revision) as found:
        yield found


@contextmanager
def remote_headers(repo_id: str, revision: str | None) -> Iterator[Source]:
    """The Source with a repository's headers; errors about its folder name the repository."""
    with TemporaryDirectory() as name:
        try:
            yield fetch_headers(repo_id, revision, Path(name))
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(name, repo_id)) from None


def fetch_headers(repo_id: str, revision: str | None, folder: Path) -> Source:
    """Fills `folder` with a repository's small files and its shards' headers, without their data.

    About a megabyte in place of all weights, enough to plan with. HubError with the reason where
    the Hub gives none; CheckpointError, before any header is asked for, for another architecture.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    how = f"it is not in the local cache; try again when the Hub can be reached, or {TRY_NOW}."
    download = reach(lambda: survey(repo_id, revision), repo_id, how)
    commit = download.revision or revision
    with quietly():
        for name in _small_files(download.names):
            fetch = partial(api.hf_hub_download, repo_id, name, revision=commit)
            shutil.copyfile(reach(fetch, repo_id, how), folder / name)
        read_config(folder)
        shards = reach(
            lambda: api.get_safetensors_metadata(repo_id, revision=commit).files_metadata,
            repo_id,
            how,
        )
    for name, shard in shards.items():
        if Path(name).name != name:  # an index can name any place
            raise HubError(f"{repo_id} has a shard {name!r}, expected a file's name alone.")
        write_shapes(folder / name, shard.tensors)
    if SIDE_FILE in download.names:
        parse = partial(api.parse_safetensors_file_metadata, repo_id, SIDE_FILE, revision=commit)
        (folder / SIDE_FILE).parent.mkdir()
        write_shapes(folder / SIDE_FILE, reach(parse, repo_id, how).tensors)
    return Source(folder, commit, download)


def _small_files(names: frozenset[str]) -> list[str]:
    """The small files that describe a model, of those in a repository: configs and template."""
    templates = TEMPLATE_FILES[:1] if TEMPLATE_FILES[0] in names else TEMPLATE_FILES
    return [name for name in (*SMALL_CONFIGS, *templates) if name in names]


def write_shapes(file: Path, tensors: Mapping[str, Any]) -> None:
    """A safetensors file that ends behind its header: dtype, shape and data_offsets by name."""
    keys = ("dtype", "shape", "data_offsets")
    header = {name: {key: getattr(info, key) for key in keys} for name, info in tensors.items()}
    content = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(content)) + content)
