"""Ports that nobody else takes before a process of a test listens on them."""

import errno
import random
import socket

# Below 32,768, where systems begin to choose ports for those who connect, or who ask for any.
LEAST, MOST = 10_000, 32_000


def free_ports(count: int = 1) -> list[int]:
    """Different ports on which nobody listens, on 127.0.0.1; another choice in every process."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(LEAST, MOST), 1000):
        with socket.socket() as made:
            try:
                made.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} free ports found, expected {count}")
