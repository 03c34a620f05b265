"""Ports of a ring on this machine, kept from other rings.

mlx.launch is told the first of them; the ranks bind theirs seconds later, once they have started.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random

from ..errors import FileError

FIRST, LAST = 20_000, 30_000  # below those that systems give to whoever asks for any
RANGE = 100  # ports of which a ring takes the first ones, behind one that is held


@contextmanager
def own_ports(count: int) -> Iterator[int]:
    """The first of `count` ports in a row that are free; other rings take others meanwhile.

    The port in front of them is held: two rings that start at the same time would both find all of
    them free. FileError where no such ports are found.
    """
    ranges = range(FIRST, LAST, RANGE)
    for held in Random().sample(ranges, len(ranges)):
        with ExitStack() as stack:
            try:
                stack.enter_context(_bound(held))
                for port in range(held + 1, held + 1 + count):
                    _bound(port, again=True).close()
            except OSError:
                continue
            yield held + 1
            return
    raise FileError(
        f"no {count} ports in a row are free between {FIRST:,} and {LAST:,}; "
        "end what listens there."
    )


def _bound(port: int, *, again: bool = False) -> socket.socket:
    """A socket at a port; again: also where connections to it have ended in the last minute."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
        made.bind(("", port))
    except OSError:
        made.close()
        raise
    return made
