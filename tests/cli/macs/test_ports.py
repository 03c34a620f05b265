"""Ports of rings that start at the same time."""

import socket
from contextlib import ExitStack

import pytest
from facts import raises

from mlx_diffgemma.cli.errors import FileError
from mlx_diffgemma.cli.macs import ports
from mlx_diffgemma.cli.macs.ports import own_ports


def bound(port: int) -> socket.socket:
    """A socket at a port, where a ring may have ended a moment ago."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
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
    with socket.create_server(("127.0.0.1", one + 1)):
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


def test_ports_of_a_ring_that_has_just_ended_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the system remembers ended connections for a minute, in which all ports were used up."""
    with own_ports(1) as port:
        with socket.create_server(("127.0.0.1", port)) as listening:
            there = socket.create_connection(("127.0.0.1", port))
            here, _ = listening.accept()
            here.close()  # whoever closes first is remembered
            assert there.recv(1) == b""
            there.close()
        with socket.socket() as plain, pytest.raises(OSError, match="in use"):
            plain.bind(("127.0.0.1", port))
    monkeypatch.setattr(ports, "FIRST", port - 1)
    monkeypatch.setattr(ports, "LAST", port)
    with own_ports(1) as again:
        assert again == port
