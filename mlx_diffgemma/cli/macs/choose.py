"""The cut that Macs take, by what each of them says of its own memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import FitError
from ...machine.memory import available_memory
from ...model.memory import raising, sized
from ...model.shares import SharedPlan
from ...share.part import CUTS, Cut
from ...share.share import Share
from ..errors import ArgumentError
from .hostfile import RDMA
from .options import Asked

Room = Mapping[str, Any]

# Chips that compute long enough for sums between layers to pay over RDMA. By arithmetic a step of
# two takes 0.7 of one's time on M4 Pro, and more than one's on M5 Max.
SLOW_ENOUGH = ("M1", "M2", "M3", "M4")


@dataclass(frozen=True)
class Chosen:
    """The cut that is taken; why: of "auto" where a Mac does not hold the model, else None."""

    cut: Cut
    why: str | None = None


def room_of(shared: SharedPlan, rank: int, backend: str, chip: str) -> dict[str, Any]:
    """What this Mac can give, and what its share of each cut takes, in bytes.

    rows, layers: the most Macs that have some; refused: why so many cannot cut tensors, None where
    they can; limits: by cut, the command with which a share that does not fit would, if any.
    """
    plan, available = shared.plan, available_memory()
    context = plan.config.canvas_length
    needs = {cut: shared.footprint(cut, rank, context, available) for cut in shared.possible}
    return {
        "rows": plan.config.canvas_length,
        "layers": len(shared.layer_bytes),
        "refused": shared.refused,
        "available": available,
        "needs": {cut: need.needed_bytes for cut, need in needs.items()},
        "limits": {cut: raising(need) for cut, need in needs.items()},
        "backend": backend,
        "chip": chip,
    }


def chosen_cut(
    share: Share,
    asked: Asked,
    rooms: Sequence[Room],
    *,
    mode: str = "diffusion",
    force: bool = False,
) -> Chosen:
    """The cut that all Macs take, by what each of them says; see `room_of`.

    "auto" is rows where each of them holds the whole model. Otherwise tensor over RDMA between
    chips that compute long enough, else layers; the other of the two where only that fits. Modes ar
    and auto are not shared by rows, since a token has one. In mode ar layers come first: a token is
    too little work for as many messages as tensor has.
    ArgumentError for more Macs than a cut has parts; FitError names the Mac that is short.
    """
    if asked != "auto":
        _require_parts(share, asked, rooms)
        if not force:
            _require_room(share, asked, rooms)
        return Chosen(asked)
    by_tensor = _by_tensor(rooms)
    order: list[Cut] = ["tensor", "layers"] if by_tensor and mode != "ar" else ["layers", "tensor"]
    if mode == "diffusion":
        order.insert(0, "rows")
    possible = [cut for cut in order if _has_parts(share, cut, rooms)]
    if not possible:
        _require_parts(share, order[0], rooms)
    fitting = [cut for cut in possible if _short(rooms, cut) is None]
    if not fitting and not force:
        _require_room(share, min(possible, key=partial(_most, rooms)), rooms)
    cut = (fitting or possible)[0]
    return Chosen(cut, _why(share, cut, rooms, by_tensor=by_tensor))


def _by_tensor(rooms: Sequence[Room]) -> bool:
    """True where sums between layers take less time than they save."""
    return all(
        room.get("backend") in RDMA and _generation(room.get("chip", "")) in SLOW_ENOUGH
        for room in rooms
    )


def _generation(chip: str) -> str:
    """The first word of a chip's name: "M4" of "Apple M4 Pro"."""
    return chip.removeprefix("Apple ").partition(" ")[0]


def _why(share: Share, cut: Cut, rooms: Sequence[Room], *, by_tensor: bool) -> str | None:
    """The sentence for a user whose model is not held by every Mac."""
    if cut == "rows" or (rank := _short(rooms, "rows")) is None:
        return None
    need = sized(rooms[rank]["needs"]["rows"])
    held = f"{share.mac(rank)} does not hold the whole model, which takes {need}"
    if cut == "tensor" and by_tensor:
        return f"shared by tensor: {held}, and RDMA joins these Macs"
    if cut == "layers" and not by_tensor:
        return f"shared by layers: {held}, and sums between layers would take longer here"
    return f"shared by {cut}: {held}"


def _has_parts(share: Share, cut: Cut, rooms: Sequence[Room]) -> bool:
    if cut == "tensor":
        return all(cut in room["needs"] for room in rooms)
    return share.size <= int(rooms[0][cut])


def _require_parts(share: Share, cut: Cut, rooms: Sequence[Room]) -> None:
    """ArgumentError for more Macs than the cut has parts for."""
    if _has_parts(share, cut, rooms):
        return
    if cut == "tensor":
        raise ArgumentError(next(room["refused"] for room in rooms if room.get("refused")))
    raise ArgumentError(
        f"{share.size} Macs are to share {rooms[0][cut]} {cut}, expected {rooms[0][cut]} Macs at "
        "most; name fewer of them."
    )


def _require_room(share: Share, cut: Cut, rooms: Sequence[Room]) -> None:
    """FitError that names the first Mac that is short, and what would fit."""
    if (rank := _short(rooms, cut)) is None:
        return
    room = rooms[rank]
    command = room["limits"].get(cut)
    others = [f"--share {c}" for c in CUTS if c != cut and _fits(share, c, rooms)]
    raise FitError(
        f"{share.mac(rank)} can give {sized(room['available'])}, its share ({cut}) takes "
        f"{sized(room['needs'][cut])}; {f'{command} there, or ' if command else ''}take "
        f"{''.join(f'{each}, or ' for each in others)}a smaller quantisation, another Mac, or try "
        "anyway with --force."
    )


def _fits(share: Share, cut: Cut, rooms: Sequence[Room]) -> bool:
    return _has_parts(share, cut, rooms) and _short(rooms, cut) is None


def _most(rooms: Sequence[Room], cut: Cut) -> int:
    """Bytes that the fullest Mac needs."""
    return max(int(room["needs"][cut]) for room in rooms)


def _short(rooms: Sequence[Room], cut: Cut) -> int | None:
    """The first rank whose memory does not hold its share; None where all do, or do not say."""
    for rank, room in enumerate(rooms):
        available, need = room["available"], room["needs"].get(cut)
        if available is not None and need is not None and need > available:
            return rank
    return None
