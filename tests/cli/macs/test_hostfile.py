"""Hostfiles of `--macs`: what is read of a good one, and the line about each bad one."""

import json
from pathlib import Path
from typing import Any

import pytest
from puzzle import SOLVE, assert_one_line

from mlx_diffgemma.cli.macs.hostfile import Host, read_hostfile


def host(ssh: str, *ips: str, **more: Any) -> dict[str, Any]:
    return {"ssh": ssh, "ips": list(ips), **more}


A, B = host("mac-a", "10.0.0.1"), host("mac-b", "10.0.0.2")
CABLED = [host("mac-a", "10.0.0.1", rdma=[None, "en2"]), host("mac-b", rdma=["en3", None])]


def jaccl(*devices: Any) -> dict[str, Any]:
    hosts = [host(f"mac-{n}", f"10.0.0.{n}", rdma=each) for n, each in enumerate(devices)]
    return {"backend": "jaccl", "hosts": hosts}


BAD = {
    "no json": ("{", 1, "--macs ... hosts.json ... not JSON"),
    "empty": ("", 1, "--macs ... hosts.json ... not JSON"),
    "a number": (3, 2, "no list of hosts"),
    "no hosts": ({"backend": "ring"}, 2, "no list of hosts"),
    "an empty list": ([], 2, "no host ... two or more"),
    "one host": ([A], 2, "one host ... two or more ... --macs"),
    "a text": ([A, "mac-b"], 2, "host 1 ... 'mac-b' ... ssh"),
    "no ssh": ([A, {"ips": ["10.0.0.2"]}], 2, "host 1 ... ssh"),
    "an option as ssh": ([A, host("-oProxyCommand=x", "10.0.0.2")], 2, "host 1 ... ssh"),
    "two lines as ssh": ([A, host("mac\nb", "10.0.0.2")], 2, "host 1 ... ssh"),
    "envs no list": ({"hosts": [A, B], "envs": 3}, 2, "envs is 3 ... NAME=VALUE"),
    "envs of numbers": ({"hosts": [A, B], "envs": [3]}, 2, "envs is [3] ... NAME=VALUE"),
    "ips no list": ([A, {"ssh": "mac-b", "ips": "10.0.0.2"}], 2, "ips of mac-b ... '10.0.0.2'"),
    "ips of numbers": ([A, {"ssh": "mac-b", "ips": [7]}], 2, "ips of mac-b ... [7]"),
    "no ip": ([A, host("mac-b")], 2, "mac-b has no ip ... ring"),
    "a twin": ([A, host("mac-a", "10.0.0.2")], 2, "hosts 0 and 1 ... ssh mac-a"),
    "a twin's ip": ([A, host("mac-b", "10.0.0.1")], 2, "hosts 0 and 1 ... ip 10.0.0.1"),
    "another back end": ({"backend": "mpi", "hosts": [A, B]}, 2, "'mpi' ... ring, jaccl"),
    "no rdma": ({"backend": "jaccl", "hosts": [A, B]}, 2, "mac-a has 0 RDMA devices ... 2"),
    "rdma too long": (jaccl([None, "en2", "en3"], ["en2", None]), 2, "mac-0 has 3 RDMA ... 2"),
    "rdma to itself": (jaccl(["en1", "en2"], ["en2", None]), 2, "mac-0 ... itself ... null"),
    "no rdma to a peer": (jaccl([None, None], ["en2", None]), 2, "mac-0 ... no RDMA ... mac-1"),
    "rdma of numbers": (jaccl([None, 2], ["en2", None]), 2, "rdma of mac-0"),
    "jaccl, no ip of rank 0": (
        {"backend": "jaccl", "hosts": [host("a", rdma=[None, "x"]), host("b", rdma=["x", None])]},
        2,
        "a has no ip ... rank 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_hostfile_is_one_line(run: Any, tmp_path: Path, case: str) -> None:
    content, code, facts = BAD[case]
    file = tmp_path / "hosts.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    assert_one_line(run(*SOLVE, "--macs", file), code, facts)


def test_no_hostfile_is_one_line(run: Any, tmp_path: Path) -> None:
    absent = tmp_path / "absent.json"
    assert_one_line(run(*SOLVE, "--macs", absent), 1, "--macs ... absent.json ... No such file")
    assert_one_line(run(*SOLVE, "--macs", tmp_path), 1, "--macs ... directory")


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps(content))
    return file


def test_a_list_of_hosts_is_a_ring(tmp_path: Path) -> None:
    found = read_hostfile(written(tmp_path, [A, B]))
    assert found.backend == "ring"
    assert found.hosts == (Host("mac-a", ("10.0.0.1",), ()), Host("mac-b", ("10.0.0.2",), ()))
    assert found.names == ["mac-a", "mac-b"]


def test_what_distributed_config_writes_is_read(tmp_path: Path) -> None:
    content = {"backend": "jaccl", "envs": ["X=1"], "hosts": CABLED}
    found = read_hostfile(written(tmp_path, content))
    assert (found.backend, found.hosts[1].rdma) == ("jaccl", ("en3", None))
    assert json.loads(found.to_json()) == {
        **content,
        "hosts": [CABLED[0], {**CABLED[1], "ips": []}],
    }
    several = jaccl([None, ["en2", "en3"]], [["en2", "en3"], None])
    assert read_hostfile(written(tmp_path, several)).backend == "jaccl"


def test_a_ring_of_rdma_needs_its_neighbours_alone(tmp_path: Path) -> None:
    devices: list[list[str | None]] = [[None] * 4 for _ in range(4)]
    for rank in range(4):
        devices[rank][(rank + 1) % 4] = devices[rank][(rank - 1) % 4] = "en2"
    content = {**jaccl(*devices), "backend": "jaccl-ring"}
    assert len(read_hostfile(written(tmp_path, content)).hosts) == 4


def test_processes_on_the_loopback_interface_may_share_a_name(tmp_path: Path) -> None:
    local = host("127.0.0.1", "127.0.0.1")
    assert read_hostfile(written(tmp_path, [local, local])).names == ["127.0.0.1"] * 2
