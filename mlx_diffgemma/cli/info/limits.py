"""Each Mac's own limit for `info --macs N` where N of them were started together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...machine.memory import available_memory
from ...model.memory import sized
from ...model.shares import SharedPlan
from ...share.guard import told_by_all
from ...share.part import CUTS, Cut
from ...share.share import Share
from ..errors import ArgumentError


@dataclass(frozen=True)
class MacLimit:
    """A Mac, the bytes that it can give, None where it does not say, and those that it needs.

    rows, layers, tensor: what its own share takes; None for a cut that has nothing for every Mac.
    """

    mac: str
    available_bytes: int | None
    rows: int | None
    layers: int | None
    tensor: int | None

    def fits(self, cut: Cut) -> bool | None:
        """True where its share fits; None for no such cut, or where nobody knows."""
        need: int | None = getattr(self, cut)
        return (
            None if need is None or self.available_bytes is None else need <= self.available_bytes
        )


def require_as_many(share: Share, macs: int) -> None:
    """ArgumentError for another number of Macs than were started together."""
    if macs != share.size:
        raise ArgumentError(
            f"--macs is {macs}, and {share.size} were started together; ask for {share.size}, or "
            "start it alone."
        )


def mac_limits(share: Share, shared: SharedPlan, context: int) -> tuple[MacLimit, ...]:
    """The limits of all Macs of a group, by rank, each asked for its own."""
    needs = {
        cut: shared.footprint(cut, share.rank, context, None).needed_bytes
        for cut in shared.possible
    }
    told = told_by_all(share, {"available": available_memory(), "needs": needs})
    return tuple(
        MacLimit(share.mac(rank), each["available"], *(each["needs"].get(cut) for cut in CUTS))
        for rank, each in enumerate(told)
    )


def limit_lines(limits: Sequence[MacLimit]) -> Iterator[str]:
    """The report for people: what each Mac can give, and what its share of each cut takes."""
    for limit in limits:
        given = limit.available_bytes
        yield f"  {limit.mac} can give {'nobody knows what' if given is None else sized(given)}:"
        for cut in CUTS:
            if (need := getattr(limit, cut)) is not None:
                said = {True: "fits", False: "does not fit", None: ""}[limit.fits(cut)]
                yield f"    {cut:<8}{sized(need):>10}  {said}".rstrip()
