"""The address that a server listens at: found and taken before anything takes long."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from ...errors import ServeError, brief

BACKLOG = 128


@dataclass(frozen=True)
class Place:
    """A host and a port, 0 for any that is free; address: the number of the host."""

    host: str
    port: int
    family: socket.AddressFamily
    address: str

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can reach it."""
        return ip_address(self.address).is_loopback

    @property
    def is_any(self) -> bool:
        """True where it is every address of the machine."""
        return ip_address(self.address).is_unspecified

    def hosts(self) -> frozenset[str]:
        """Names and addresses, beside loopback's, that a client may call it by."""
        if self.is_any:
            name = socket.gethostname().lower()
            return frozenset({name, f"{name.removesuffix('.local')}.local"})
        return frozenset({self.host.lower(), self.address})


def find_place(host: str, port: int) -> Place:
    """The place of a host and a port; ServeError for a host that nobody knows."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or "no valid name"
        raise ServeError(
            f"--host is {brief(host)}, which is no address or name that is known here ({said}); "
            "leave it out for 127.0.0.1."
        ) from None
    family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return Place(host, port, family, str(address[0]).partition("%")[0])


def bind(place: Place) -> socket.socket:
    """A socket that listens there; ServeError where that cannot be."""
    listening = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((place.address, place.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ServeError(_unbound(place, error)) from None
    return listening


def url_of(place: Place, listening: socket.socket) -> str:
    """The address that a client on this machine uses."""
    host = ("::1" if place.family == socket.AF_INET6 else "127.0.0.1") if place.is_any else None
    return f"http://{_at(host or place.host, listening.getsockname()[1])}"


def _at(host: str, port: int) -> str:
    """A host and a port in one word."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unbound(place: Place, error: OSError) -> str:
    """The line about a place that cannot be taken."""
    where = _at(place.host, place.port)
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use; stop what listens there, or take another --port."
    if error.errno == errno.EACCES:
        return f"{where} may not be taken; a --port from 1024 on may."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host is {place.host}, which is no address of this machine; take 127.0.0.1."
    return f"{where} cannot be taken: {error.strerror or error}."
