"""What the Macs of a group have to agree on before any of them loads a weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...checkpoint.adapter import open_adapter
from ...checkpoint.config import ModelConfig
from ...checkpoint.hub import Source
from ...conversation.agreement import load_facts
from ...errors import DiffGemmaError, FitError, ShareError
from ...generation.settings import Settings
from ...machine.choices import Choices
from ...machine.memory import available_memory
from ...model.memory import MemoryPlan, plan_memory, raising, sized
from ...model.shares import SharedPlan, shared_plan
from ...share.guard import require_alike, told_by_all
from ...share.part import Cut
from ...share.share import Share
from ..errors import ArgumentError
from ..explain import explain
from ..options import ModelOptions
from .group import Group

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")
DIGITS = 16  # of a hash


@dataclass(frozen=True)
class Found:
    """A model that was found on this Mac, and the choices that were tuned for it here."""

    source: Source
    choices: Choices | None
    options: ModelOptions
    settings: Settings


def agreed(group: Group, find: Any, others: Mapping[str, object]) -> tuple[Found, Cut]:
    """The model on this Mac and the cut, once every Mac has the same facts and room for its share.

    find: finds and checks the model here, and gives a Found. others: facts beside those of the
    model. ShareError, of the same words on every rank, that names the Mac and the fact; where
    finding fails on rank 0, its own error.
    """
    share, found, failed = group.share, None, None
    told: dict[str, object]
    try:
        found = find()
        told = {"facts": {**facts_of(found), **others}, "room": room_of(share, found)}
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
        asked = "layers" if found.settings.mode == "ar" else group.asked or "auto"
        cut = chosen_cut(share, asked, [row["room"] for row in rows], force=force)
    return found, cut


def _line(error: Exception) -> str:
    known = explain(error)
    return known[0].removeprefix("error: ")[:2000] if known else str(error)


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


def room_of(share: Share, found: Found) -> dict[str, Any]:
    """What this Mac can give, and what its share of each cut takes, in bytes."""
    options = found.options
    plan = plan_memory(found.source.folder, options.dtype, found.choices)
    shares = shared_plan(found.source.folder, plan, options.dtype, found.choices)
    config, context = plan.config, plan.config.canvas_length
    return {
        "rows": config.canvas_length,
        "layers": len(config.text.layers),
        "available": available_memory(),
        "needs": {
            "rows": plan.footprint(context, None).needed_bytes,
            "layers": _layers_bytes(share, shares, config, context),
        },
        "limits": {"rows": _raising(plan, context)},
    }


def _layers_bytes(share: Share, shares: SharedPlan, config: ModelConfig, context: int) -> int:
    if share.size > len(config.text.layers):
        return 0
    return shares.footprint(share.span(len(config.text.layers)), context, None).needed_bytes


def _raising(plan: MemoryPlan, context: int) -> str | None:
    return raising(plan(context))


def chosen_cut(
    share: Share, asked: str, rooms: Sequence[Mapping[str, Any]], *, force: bool = False
) -> Cut:
    """The cut that all Macs take: "auto" is rows where each of them holds the whole model.

    ArgumentError for more Macs than there are rows or layers; FitError names the Mac that is short.
    """
    cut: Cut = "layers" if asked == "layers" else "rows"
    if asked == "auto" and (share.size > rooms[0]["rows"] or _short(rooms, "rows") is not None):
        cut = "layers"
    if share.size > (most := rooms[0][cut]):
        raise ArgumentError(
            f"{share.size} Macs are to share {most} {cut}, expected {most} Macs at most; name "
            "fewer of them."
        )
    rank = None if force else _short(rooms, cut)
    if rank is not None:
        room = rooms[rank]
        command = room["limits"].get(cut)
        instead = "--share layers, or " if cut == "rows" and asked == "rows" else ""
        raise FitError(
            f"{share.mac(rank)} can give {sized(room['available'])}, its share ({cut}) takes "
            f"{sized(room['needs'][cut])}; {f'{command} there, or ' if command else ''}take "
            f"{instead}a smaller quantisation, another Mac, or try anyway with --force."
        )
    return cut


def _short(rooms: Sequence[Mapping[str, Any]], cut: Cut) -> int | None:
    """The first rank whose memory does not hold its share; None where all do, or do not say."""
    for rank, room in enumerate(rooms):
        if room["available"] is not None and room["needs"][cut] > room["available"]:
            return rank
    return None
