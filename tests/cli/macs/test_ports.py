"""Ports of rings that start at the same time."""

import socket
from contextlib import ExitStack

import pytest
from facts import raises

from mlx_diffgemma.cli.errors import FileError
from mlx_diffgemma.cli.macs import ports
from mlx_diffgemma.cli.macs.ports import own_ports


def bound(port: int) -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", port))
    return made


def test_rings_that_start_at_the_same_time_have_ports_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though nobody listens there yet."""
    monkeypatch.setattr(ports, "LAST", ports.FIRST + 4 * ports.RANGE)
    with own_ports(3) as first, own_ports(3) as second:
        assert not {first, first + 1, first + 2} & {second, second + 1, second + 2}
        for port in (first, first + 1, first + 2):
            bound(port).close()


def test_ports_that_somebody_has_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_ports(2) as one:
        pass
    with bound(one + 1):
        monkeypatch.setattr(ports, "FIRST", one - 1)
        monkeypatch.setattr(ports, "LAST", one)
        with (
            raises(FileError, f"no 2 ports in a row are free between {one - 1:,} and {one:,}"),
            own_ports(2),
        ):
            pass


def test_ports_are_free_again_behind_it() -> None:
    with own_ports(2) as port:
        pass
    with ExitStack() as stack:
        for number in (port - 1, port, port + 1):
            stack.enter_context(bound(number))
