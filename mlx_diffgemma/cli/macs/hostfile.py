"""The hostfile of `--macs`: the Macs that share a model, as `mlx.distributed_config` writes it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import brief, counted
from ...machine.files import read_json
from ..errors import ArgumentError, FileError, reason

RDMA = ("jaccl", "jaccl-ring")
BACKENDS = ("ring", *RDMA)
LOCAL = "127.0.0.1"  # what mlx.launch starts without ssh


@dataclass(frozen=True)
class Host:
    """One Mac: the name that ssh knows it by, its addresses, and its RDMA devices by peer."""

    ssh: str
    ips: tuple[str, ...]
    rdma: tuple[str | None, ...]


@dataclass(frozen=True)
class Hostfile:
    """The Macs in the order of their ranks, and the back end that joins them.

    envs: of the environment of all, NAME=VALUE each.
    """

    file: Path
    backend: str
    hosts: tuple[Host, ...]
    envs: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The Macs' names, by rank."""
        return [host.ssh for host in self.hosts]

    @property
    def addresses(self) -> int:
        """How many addresses all Macs have together."""
        return sum(len(host.ips) for host in self.hosts)

    def to_json(self) -> str:
        """The same as mlx.launch reads it, which takes no byte order mark, for one."""
        hosts = [{"ssh": host.ssh, "ips": host.ips, "rdma": host.rdma} for host in self.hosts]
        return json.dumps({"backend": self.backend, "envs": self.envs, "hosts": hosts})


def backend_of(environment: Mapping[str, str]) -> str:
    """The back end that joins this process to others, by what mlx.launch has set."""
    if "MLX_IBV_DEVICES" not in environment:
        return "ring"
    return "jaccl-ring" if "MLX_JACCL_RING" in environment else "jaccl"


def read_hostfile(file: Path) -> Hostfile:
    """The hostfile, checked; FileError where it cannot be read, ArgumentError for what it says."""
    try:
        content = read_json(file)
    except OSError as error:
        raise FileError(f"--macs: the hostfile cannot be read: {reason(error)}.") from error
    except ValueError as error:
        raise FileError(f"--macs: {file} is not JSON ({error}); {EXAMPLE}.") from error
    return _checked(file, content)


EXAMPLE = (
    "expected what mlx.distributed_config writes, such as "
    '{"backend": "ring", "hosts": [{"ssh": "127.0.0.1", "ips": ["10.0.0.1"]}, ...]}'
)


def _checked(file: Path, content: Any) -> Hostfile:
    """The Hostfile of what JSON holds: a list of hosts, or an object with more."""
    entries = content.get("hosts") if isinstance(content, Mapping) else content
    if not isinstance(entries, list):
        raise ArgumentError(f"--macs: {file} has no list of hosts; {EXAMPLE}.")
    backend = content.get("backend") or "ring" if isinstance(content, Mapping) else "ring"
    if backend not in BACKENDS:
        raise ArgumentError(
            f"--macs: {file} has backend {brief(backend)}, expected ring, jaccl or jaccl-ring."
        )
    hosts = tuple(_host(file, number, entry) for number, entry in enumerate(entries))
    if len(hosts) < 2:
        count = "one host" if hosts else "no host"
        raise ArgumentError(
            f"--macs: {file} has {count}, expected two or more; without --macs this Mac answers "
            "alone."
        )
    problem = next(_problems(hosts, backend), None)
    if problem:
        raise ArgumentError(f"--macs: {file}: {problem}.")
    return Hostfile(file, backend, hosts, _envs(file, content))


def _envs(file: Path, content: Any) -> tuple[str, ...]:
    """What the file puts into the environment of all; ArgumentError for what is no such list."""
    envs = (content.get("envs") or ()) if isinstance(content, Mapping) else ()
    if not isinstance(envs, Sequence) or isinstance(envs, str) or not all(map(_is_env, envs)):
        raise ArgumentError(
            f"--macs: {file}: envs is {brief(envs)}, expected a list of texts, NAME=VALUE each."
        )
    return tuple(envs)


def _host(file: Path, number: int, entry: Any) -> Host:
    """One entry of the list; ArgumentError for a key of another type."""
    if not isinstance(entry, Mapping) or not _is_name(entry.get("ssh")):
        raise ArgumentError(
            f'--macs: {file}: host {number} is {brief(entry)}, expected an object with "ssh": a '
            "name that ssh knows, 127.0.0.1 for this Mac."
        )
    ips, rdma = entry.get("ips") or (), entry.get("rdma") or ()
    for key, value, fits in (("ips", ips, _is_name), ("rdma", rdma, _is_device)):
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(fits, value)):
            raise ArgumentError(
                f"--macs: {file}: {key} of {entry['ssh']} is {brief(value)}, expected a list of "
                "texts."
            )
    return Host(entry["ssh"], tuple(ips), tuple(rdma))


def _is_name(value: Any) -> bool:
    """A name that a shell and ssh take for one."""
    if not isinstance(value, str) or not value.strip():
        return False
    return value.isprintable() and not value.startswith("-")


def _is_env(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\w+(=[^\0]*)?", value))


def _is_device(value: Any) -> bool:
    """A device's name, several for as many cables, or null for the Mac itself."""
    several = isinstance(value, list) and bool(value) and all(map(_is_name, value))
    return value is None or _is_name(value) or several


def _problems(hosts: Sequence[Host], backend: str) -> Iterator[str]:
    """Reasons why mlx.launch could not start these Macs, or would start one of them twice."""
    jaccl = backend != "ring"
    first: dict[tuple[str, str], int] = {}  # a name or an address -> the rank that has it
    for rank, host in enumerate(hosts):
        if not host.ips and (not jaccl or rank == 0):
            yield (
                f'{host.ssh} has no ip, expected "ips": the address of its cable, which '
                f"{'rank 0 needs to be found' if jaccl else 'the ring connects'}"
            )
        if jaccl and len(host.rdma) != len(hosts):
            yield (
                f"{host.ssh} has {counted(len(host.rdma), 'RDMA device')}, expected {len(hosts)}: "
                "one for each Mac, null for itself"
            )
        for name in (("ssh", host.ssh), *(("ip", ip) for ip in host.ips)):
            other = first.setdefault(name, rank)
            if other != rank and name != ("ssh", LOCAL) and name != ("ip", LOCAL):
                yield (
                    f"hosts {other} and {rank} both have {name[0]} {name[1]}; name each Mac once"
                )
    if jaccl:
        yield from _devices(hosts, ring=backend == "jaccl-ring")


def _devices(hosts: Sequence[Host], *, ring: bool) -> Iterator[str]:
    """Devices of RDMA that are missing, or that lead from a Mac to itself."""
    n = len(hosts)
    for rank, host in enumerate(hosts):
        if host.rdma[rank] is not None:
            yield f"{host.ssh} has an RDMA device for itself, expected null there"
        peers = {(rank - 1) % n, (rank + 1) % n} if ring else set(range(n))
        for other in sorted(peers - {rank}):
            if host.rdma[other] is None:
                yield f"{host.ssh} has no RDMA device for {hosts[other].ssh}"
