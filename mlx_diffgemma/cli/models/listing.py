"""`list`: the models on this machine, those in the Hub's local cache and the embedded ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...assets import EMBEDDED, embedded_folder
from ...checkpoint.cache import cache_folder
from ...checkpoint.cached import CachedModel, Stock, take_stock
from ...checkpoint.config import read_config
from ...checkpoint.default import default_model
from ...checkpoint.hub import fetch_command
from ...errors import counted
from ...model.memory import sized
from ..terminal.output import require_output, show


@dataclass(frozen=True)
class Embedded:
    """A model inside this package."""

    name: str
    folder: Path
    num_bytes: int
    quantization: str | None


def show_models(as_json: bool) -> int:
    """The list, as lines or as an object."""
    require_output()
    stock = take_stock()
    embedded = [_embedded(name) for name in EMBEDDED]
    show(_described(stock, embedded), _lines(stock, embedded), as_json)
    return 0


def _embedded(name: str) -> Embedded:
    folder = Path(str(embedded_folder(name)))
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    packing = read_config(folder).quantization
    return Embedded(name, folder, size, packing.default.name if packing else None)


def _described(stock: Stock, embedded: list[Embedded]) -> dict[str, Any]:
    """The object of `list --json`."""
    return {
        "cache": str(cache_folder()),
        "default": default_model(),
        "models": [
            *(_model_json(model) for model in stock.models),
            *(_embedded_json(model) for model in embedded),
        ],
        "others": stock.num_others,
    }


def _model_json(model: CachedModel) -> dict[str, Any]:
    return {
        "name": model.repo_id,
        "embedded": False,
        "path": str(model.revisions[0].path if model.revisions else model.folder),
        "bytes": model.num_bytes,
        "quantization": model.quantization,
        "last_used": None if model.used_at is None else _time(model.used_at).isoformat(),
        "complete": model.is_whole,
        "problem": model.problem,
        "revisions": [
            {
                "commit": revision.commit,
                "names": list(revision.names),
                "path": str(revision.path),
                "bytes": revision.num_bytes,
                "complete": revision.is_whole,
            }
            for revision in model.revisions
        ],
    }


def _embedded_json(model: Embedded) -> dict[str, Any]:
    return {
        "name": model.name,
        "embedded": True,
        "path": str(model.folder),
        "bytes": model.num_bytes,
        "quantization": model.quantization,
        "last_used": None,
        "complete": True,
        "problem": None,
        "revisions": [],
    }


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


def _lines(stock: Stock, embedded: list[Embedded]) -> Iterator[str]:
    """Two short lines a model, which a narrow terminal has room for."""
    usual = default_model()
    for model in stock.models:
        yield _marked(model.repo_id, usual)
        yield f"  {', '.join(_facts(model))}"
        if model.problem:
            yield f"  broken: {model.problem}; `{fetch_command(model.repo_id)}` mends it"
        elif not model.is_whole:
            yield f"  in part: `{fetch_command(model.repo_id)}` goes on"
        for revision in model.revisions[1:]:
            names = ", ".join((*revision.names, revision.commit[:12]))
            yield f"  also {names}: {sized(revision.num_bytes)}"
    for each in embedded:
        yield _marked(each.name, usual)
        yield f"  {sized(each.num_bytes)}, {each.quantization or 'not quantised'}, embedded"
    yield ""
    others = f"; {counted(stock.num_others, 'other model')} there" if stock.num_others else ""
    yield f"cache: {cache_folder()}{others}"


def _marked(name: str, usual: str) -> str:
    return f"{name} (default)" if name == usual else name


def _facts(model: CachedModel) -> Iterator[str]:
    yield sized(model.num_bytes)
    if model.revisions and not model.problem:
        yield model.quantization or "not quantised"
    if model.used_at is not None:
        yield f"used {datetime.fromtimestamp(model.used_at).date()}"
