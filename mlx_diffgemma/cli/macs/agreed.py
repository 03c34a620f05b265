"""What the Macs of a group have to agree on before any of them loads a weight."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import mlx.core as mx

from ...checkpoint.adapter import open_adapter
from ...checkpoint.hub import Source
from ...conversation.agreement import load_facts
from ...errors import DiffGemmaError, ShareError
from ...generation.settings import Settings
from ...machine.choices import Choices
from ...model.memory import plan_memory
from ...model.shares import shared_plan
from ...share.guard import require_alike, told_by_all
from ...share.part import Cut
from ...share.share import Share
from ..explain import explain
from ..options import ModelOptions
from ..terminal.streams import say
from .choose import chosen_cut, room_of
from .group import Group
from .hostfile import backend_of

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")
DIGITS = 16  # of a hash
MOST_SAID = 600  # characters of an error, each of 12 bytes at most: they travel with the facts


@dataclass(frozen=True)
class Found:
    """A model that was found on this Mac, and the choices that were tuned for it here."""

    source: Source
    choices: Choices | None
    options: ModelOptions
    settings: Settings


def agreed(
    group: Group, find: Callable[[], Found], others: Mapping[str, object]
) -> tuple[Found, Cut]:
    """The model on this Mac and the cut, once every Mac has the same facts and room for its share.

    find: finds and checks the model here, and gives a Found. others: facts beside those of the
    model. ShareError, of the same words on every rank, that names the Mac and the fact; where
    finding fails on rank 0, its own error.
    """
    share, found, failed = group.share, None, None
    told: dict[str, object]
    try:
        found = find()
        facts = {"--share": group.asked, **facts_of(found), **others}
        told = {"facts": facts, "room": own_room(share, found)}
    except (DiffGemmaError, OSError) as error:
        failed = error
        told = {"error": _line(error)}
    rows = told_by_all(share, told)
    if failed and share.rank == 0:
        raise failed
    with group.agreeing():
        _require_ready(share, rows)
        require_alike(share, [row["facts"] for row in rows])
        assert found is not None
        force = found.options.force
        mode, rooms = found.settings.mode, [row["room"] for row in rows]
        chosen = chosen_cut(share, group.asked or "auto", rooms, mode=mode, force=force)
    if chosen.why:
        say(chosen.why)
    return found, chosen.cut


def _line(error: Exception) -> str:
    known = explain(error)
    return (known[0].removeprefix("error: ") if known else str(error))[:MOST_SAID]


def _require_ready(share: Share, rows: Sequence[Mapping[str, Any]]) -> None:
    """ShareError with what another Mac found wrong at home."""
    for rank, row in enumerate(rows):
        if "error" in row:
            raise ShareError(f"{share.mac(rank)}: {row['error']}")


def facts_of(found: Found) -> dict[str, object]:
    """What Macs that answer together have to have in common, by name, as short texts."""
    folder, options = found.source.folder, found.options
    files = None if options.adapter is None else open_adapter(options.adapter, folder)
    tokenizer = b"".join(_content(folder / name) for name in TOKENIZER)
    return {
        **load_facts(folder, options.dtype, found.choices, files),
        "the tokenizer": digest(tokenizer),
        "the settings": digest(repr(found.settings).encode()),
        "--seed": found.settings.seed,
    }


def digest(content: bytes) -> str:
    """The first digits of a hash: enough to tell two files apart."""
    return sha256(content).hexdigest()[:DIGITS]


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def own_room(share: Share, found: Found) -> dict[str, Any]:
    """What this Mac can give, and what its share of each cut takes; see `choose.room_of`."""
    options, folder = found.options, found.source.folder
    adapter = None if options.adapter is None else open_adapter(options.adapter, folder)
    plan = plan_memory(folder, options.dtype, found.choices, adapter=adapter)
    shared = shared_plan(
        folder,
        plan,
        share.size,
        options.dtype,
        found.choices,
        adapter=adapter,
        ranks=[share.rank],
    )
    chip = str(mx.device_info().get("device_name", ""))
    return room_of(shared, share.rank, backend_of(os.environ), chip)
