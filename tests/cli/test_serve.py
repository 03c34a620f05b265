"""`serve` at the command line: its options, its key, its port, and the signals that end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from pseudo_terminal import PROGRAM
from puzzle import assert_one_line
from waiting import SECONDS

from mlx_diffgemma.cli.macs.ports import own_ports
from mlx_diffgemma.cli.serve.key import read_key
from mlx_diffgemma.cli.serve.options import AccessOptions
from mlx_diffgemma.cli.serve.text import RequestLog, curl_line, line_of, logged
from mlx_diffgemma.cli.serve.work import access_of
from mlx_diffgemma.errors import NumericsError, ServeError
from mlx_diffgemma.serve.events import Usage
from mlx_diffgemma.serve.http.address import bind, find_place, url_of
from mlx_diffgemma.serve.http.watch import Record, log_error

TINY = ("serve", "--model", "tiny-chat", "--port", "0")
CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "seed": 1}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_DIFFGEMMA_API_KEY", raising=False)


# --- wrong arguments


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (("--port", -1), "--port is -1 ... 0 to 65,535"),
        (("--port", 65536), "--port is 65,536 ... 0 to 65,535"),
        (("--port", "http"), "--port ... integer"),
        (("--max-queue", -1), "--max-queue is -1 ... 0 to 1,000"),
        (("--max-queue", 10**9), "--max-queue is 1,000,000,000 ... 1,000"),
        (("--keep", -1), "--keep is -1 ... 0 to 1,000"),
        (("--idle-unload", 0), "--idle-unload is 0 ... minutes above 0"),
        (("--idle-unload", -5), "--idle-unload is -5 ... minutes above 0"),
        (("--idle-unload", "nan"), "--idle-unload is nan ... minutes above 0"),
        (("--idle-unload", "inf"), "--idle-unload is inf ... 525,600"),
        (("--cors", "*"), "--cors is '*' ... http://localhost:3000"),
        (("--cors", "null"), "--cors is 'null' ... http://localhost:3000"),
        (("--cors", "http://localhost:3000/"), "--cors ... http://localhost:3000 ... name"),
        (("--cors", "localhost:3000"), "--cors is 'localhost:3000' ... http://localhost:3000"),
        (("--allow-host", "*"), "--allow-host is '*' ... host.docker.internal"),
        (("--allow-host", "a.b:8080"), "--allow-host is 'a.b:8080' ... without a port"),
        (("--allow-host", "http://a.b"), "--allow-host is 'http://a.b' ... name"),
        (("--allow-host", ""), "--allow-host is '' ... name"),
        (("--allow-host", ".a"), "--allow-host is '.a' ... name"),
        (("--api-key", "k", "--api-key-file", "f"), "--api-key and --api-key-file ... leave one"),
        (("--mode", "fast"), "--mode ... 'fast' ... 'diffusion', 'ar', 'auto'"),
        (
            ("--host", "0.0.0.0"),
            "--host is 0.0.0.0 ... --api-key-file FILE ... $MLX_DIFFGEMMA_API_KEY",
        ),
        (("--host", "::"), "--host is :: ... no key"),
        (("--workers", 2), "--workers"),
        (("more",), "more"),
    ],
)
def test_wrong_arguments_are_one_line(run: Any, options: tuple[object, ...], facts: str) -> None:
    """Before a model is looked for."""
    assert_one_line(run("serve", "--model", "no/where", *options), 2, facts)


@pytest.mark.parametrize(
    "host",
    ["no-such-host.invalid", "", "256.1.1.1", "http://localhost", "a b", "x" * 300, "\ud83d"],
)
def test_an_unknown_host_is_one_line(run: Any, host: str) -> None:
    done = run("serve", "--model", "no/where", "--host", host)
    assert done.exit_code in (1, 2)
    assert_says(done.stderr.rstrip("\n"), "--host", most=600)


def test_an_address_of_another_machine_is_one_line(run: Any) -> None:
    done = run("serve", "--model", "no/where", "--host", "192.0.2.1", "--api-key", "k")
    assert done.exit_code == 1
    assert "192.0.2.1, which is no address of this machine" in done.stderr


def test_a_port_in_use_is_told_before_a_model_is_looked_for(run: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("serve", "--model", "no/where", "--port", port)
    assert_one_line(done, 1, f"127.0.0.1:{port} is in use ... --port")


def test_a_model_that_is_not_there_is_one_line(run: Any) -> None:
    assert_one_line(run("serve", "--model", "./nowhere", "--port", 0), 1, "nowhere")
    done = run("serve", "--model", "tiny-sudoku", "--mode", "ar", "--port", 0)
    assert_one_line(done, 2, "tiny-sudoku ... --mode is ar")


def test_without_the_extra_one_line_says_what_to_run(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = run(*TINY)
    assert done.exit_code == 1
    assert_says(done.stderr.rstrip("\n"), 'uvicorn ... "mlx-diffgemma[serve]" ... ".[serve]"')


def test_help_and_the_package_need_none_of_it() -> None:
    code = (
        "import sys; import mlx_diffgemma.cli.app; "
        "print(sorted({'starlette', 'uvicorn', 'mlx', 'numpy'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


# --- the key


def test_a_key_comes_from_a_file_the_environment_or_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_text("from-a-file\n")
    file.chmod(0o600)
    assert read_key(AccessOptions()) is None
    monkeypatch.setenv("MLX_DIFFGEMMA_API_KEY", " from-the-environment\n")
    assert read_key(AccessOptions()) == b"from-the-environment"
    assert read_key(AccessOptions(file)) == b"from-a-file"
    assert capsys.readouterr().err == ""
    assert read_key(AccessOptions(api_key="typed")) == b"typed"
    assert_says(capsys.readouterr().err.rstrip(), "warning ... --api-key ... ps")


def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_text("a-key")
    for mode in (0o640, 0o604, 0o644):
        file.chmod(mode)
        assert read_key(AccessOptions(file)) == b"a-key"
        assert_says(capsys.readouterr().err.rstrip(), "warning ... others ... chmod 600")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b" \n", "empty"), (b"two words", "blanks"), (b"two\nlines", "line breaks"),
     ("schlüssel".encode(), "ASCII"), (b"\xff\xfe", "ASCII"), (b"a\x00b", "ASCII")],
)  # fmt: skip
def test_what_is_no_key_is_one_line(run: Any, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    done = run(*TINY, "--api-key-file", file)
    assert done.exit_code == 1
    assert_says(done.stderr.rstrip("\n"), "error", said, "openssl rand -hex 24", most=600)


def test_a_key_file_that_is_not_there_is_one_line(run: Any, tmp_path: Path) -> None:
    assert_one_line(run(*TINY, "--api-key-file", tmp_path / "none"), 1, "key ... No such file")
    assert run(*TINY, "--api-key-file", tmp_path).exit_code == 1


def test_an_empty_key_in_the_environment_is_no_open_door(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_API_KEY", "")
    assert_one_line(run(*TINY), 1, "$MLX_DIFFGEMMA_API_KEY is empty")


# --- addresses


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("127.0.0.2", True), ("0.0.0.0", False)],
)
def test_places(host: str, loopback: bool) -> None:
    place = find_place(host, 0)
    assert place.is_loopback is loopback
    with bind(place) as listening:
        url = url_of(place, listening)
    assert url.startswith("http://127.0.0.1:" if host == "0.0.0.0" else f"http://{host}:")
    if not loopback:
        assert place.is_any
        assert f"{socket.gethostname().lower().removesuffix('.local')}.local" in place.hosts()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no addresses of version 6")
def test_an_address_of_version_6_stands_in_brackets() -> None:
    """And in quotes where a shell reads it: zsh looks for files that brackets mean."""
    place = find_place("::1", 0)
    try:
        with bind(place) as listening:
            url = url_of(place, listening)
            with pytest.raises(ServeError, match=r"^\[::1\]:\d+ is in use"):
                bind(find_place("::1", listening.getsockname()[1]))
    except ServeError:
        pytest.skip("this machine does not listen at ::1")
    assert url.startswith("http://[::1]:")
    assert curl_line(url, None).startswith(f"curl '{url}/v1/chat/completions' -H")


# --- what is said


def test_the_line_for_curl_never_shows_the_key() -> None:
    assert curl_line("http://127.0.0.1:1", None).startswith("curl http://127.0.0.1:1/v1/chat/")
    assert "Authorization" not in curl_line("http://127.0.0.1:1", None)
    line = curl_line("http://127.0.0.1:1", "$(cat 'my key')")
    assert """-H "Authorization: Bearer $(cat 'my key')\"""" in line


def test_a_line_of_the_log() -> None:
    record = Record(1_764_000_000.25, "k1", "POST", CHAT, 200, 1.23456789, Usage(12, 5, 3))
    assert line_of(record) == {
        "time": "2025-11-24T16:00:00.250Z",
        "id": "k1",
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "seconds": 1.234568,
        "prompt_tokens": 12,
        "cached_tokens": 3,
        "completion_tokens": 5,
    }
    odd = line_of(Record(0.0, "k", "G\x1b", "/\n" + "x" * 900, 404, 0.0))
    assert odd["path"].isprintable()
    assert len(odd["path"]) < 300
    assert odd["prompt_tokens"] is None


def test_a_log_that_nobody_reads_ends_and_the_server_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        encoding = "utf-8"

        def write(self, text: str) -> None:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr(sys, "stdout", Broken())
    log = RequestLog()
    for _ in range(3):
        log(Record(0.0, "k", "GET", "/health", 200, 0.0))
    assert capsys.readouterr().err.count("nobody reads the log") == 1


def test_names_that_clients_use_are_added_in_small_letters() -> None:
    given = AccessOptions(allow_host=["Host.Docker.Internal", "mac"], cors=["http://a"])
    access = access_of(find_place("127.0.0.1", 0), given, None)
    assert access.hosts == {"127.0.0.1", "host.docker.internal", "mac"}
    assert access.origins == {"http://a"}
    assert not access.any_address


# --- a process


@contextmanager
def served(
    *options: object, model: str = "tiny-chat", program: Sequence[str] = PROGRAM
) -> Iterator[tuple[Any, str]]:
    """A server of its own, and its address once it is ready."""
    command = [sys.executable, *program, "serve", "--model", model, "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, *map(str, options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            stream = process.stderr if "--json-log" in options else process.stdout
            assert stream is not None
            line = stream.readline()
            assert " answers at http://" in line, (line, process.stderr and process.stderr.read())
            yield process, line.split(" answers at ")[1].split(";")[0]
        finally:
            process.kill()


def asked(url: str, path: str, value: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    for name, text in headers.items():
        request.add_header(name.replace("_", "-"), text)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_server_answers_until_a_signal_ends_it(sent: signal.Signals, code: int) -> None:
    with served("--json-log") as (process, url):
        assert asked(url, "/health")[0] == 200
        status, reply = asked(url, CHAT, QUESTION)
        assert status == 200
        assert reply["choices"][0]["message"]["content"] == "17 + 25 = 42."
        assert asked(url, "/nowhere")[0] == 404
        curl = process.stderr.readline()  # `communicate` does not see what is in the buffer
        process.send_signal(sent)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/health", 200), (CHAT, 200), ("/nowhere", 404),
    ]  # fmt: skip
    assert lines[1]["completion_tokens"] == 14
    assert "17 + 25" not in out
    assert curl.startswith(f"curl {url}{CHAT} ")
    assert err.splitlines()[-1] == "interrupted."
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_line_for_curl_works_with_a_key_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my key"
    file.write_text("correct-horse")
    file.chmod(0o600)
    with served("--api-key-file", file) as (process, url):
        curl = process.stdout.readline()
        assert "correct-horse" not in curl
        assert asked(url, CHAT, QUESTION)[0] == 401
        assert asked(url, "/v1/models", authorization="Bearer correct-horse")[0] == 200
        assert asked(url, "/health")[0] == 200
        curl = curl.replace("curl ", "curl -s ")
        ran = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=SECONDS)
    assert json.loads(ran.stdout)["choices"], ran


@pytest.mark.slow
def test_a_signal_lets_the_answer_end_and_sends_away_what_waits() -> None:
    """The answer in work ends behind its canvas, as far as it came; the one behind it gets 503."""
    long = {**QUESTION, "max_tokens": 1500, "diffusion": {"mode": "ar"}, "seed": 3}
    long["messages"] = [{"role": "user", "content": "zq " * 40}]
    replies: list[tuple[int, Any]] = []
    with served() as (process, url):
        threads = [
            threading.Thread(target=lambda: replies.append(asked(url, CHAT, long)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while asked(url, "/health")[1]["queue"] != {"waiting": 2, "running": 1, "limit": 8}:
            assert process.poll() is None
            assert not replies
        process.send_signal(signal.SIGINT)
        for thread in threads:
            thread.join(SECONDS)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert sorted(status for status, _ in replies) == [200, 503, 503]


PATIENT = """
import mlx_diffgemma.serve.http.run as run
run.LAST_SECONDS = 3600
from mlx_diffgemma.cli.app import main
main()
"""


@pytest.mark.slow
def test_a_second_signal_ends_at_once() -> None:
    """The first one waits for a client that sends only half of its request, here for an hour."""
    with served(program=("-c", PATIENT)) as (process, url):
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as half:
            lines = ("POST /v1/messages HTTP/1.1", f"Host: {host}:{port}", "Content-Length: 9")
            half.sendall("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
            assert half.recv(100).startswith(b"HTTP/1.1 100 ")  # it waits for the body
            process.send_signal(signal.SIGINT)
            time.sleep(1.3)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.wait(SECONDS)
    assert process.returncode in (130, -signal.SIGINT)


SLOW_LOAD = """
import sys, time
from mlx_diffgemma.cli.answer import loading

def load(source, options, look=None):
    print("SLOW", file=sys.stderr, flush=True)
    while True:
        look()
        time.sleep(0.01)

import mlx_diffgemma.cli.serve.together as together
together.load_found = load
sys.argv = ["mlx-diffgemma", "serve", "--model", "tiny-chat", "--port", sys.argv[1]]
from mlx_diffgemma.cli.app import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_server_that_loads_answers_503_and_can_be_ended(sent: signal.Signals, code: int) -> None:
    with (
        own_ports(1) as port,
        subprocess.Popen(
            [sys.executable, "-c", SLOW_LOAD, str(port)], stdout=-1, stderr=-1, text=True
        ) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.readline() == "SLOW\n"
        status, health = asked(f"http://127.0.0.1:{port}", "/health")
        assert (status, health["status"]) == (503, "loading")
        assert asked(f"http://127.0.0.1:{port}", CHAT, QUESTION)[0] == 503
        process.send_signal(sent)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (code, "", "interrupted.\n")


@pytest.mark.slow
def test_weights_that_cannot_be_loaded_end_the_server_in_a_line(spawn: Any, tmp_path: Path) -> None:
    import shutil

    from mlx_diffgemma.checkpoint.hub import local_folder

    source = local_folder("tiny-chat")
    assert source is not None
    folder = tmp_path / "broken"
    shutil.copytree(source, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = spawn("serve", "--model", folder, "--port", 0)
    assert done.returncode == 1
    assert done.stdout == b""
    assert_says(done.stderr.decode().rstrip("\n"), "error ... model.safetensors", most=600)


@pytest.mark.slow
def test_idle_weights_go_away_and_come_back() -> None:
    with served("--idle-unload", 0.002) as (_, url):
        while asked(url, "/health")[1]["status"] != "unloaded":
            time.sleep(0.05)
        status, reply = asked(url, CHAT, QUESTION)
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "17 + 25 = 42."


def test_errors_of_the_server_are_said_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with logged():
        log_error(NumericsError("row 3 is not finite."), "/v1/x\x1b[31m\n")
        try:
            raise ZeroDivisionError("of \x1b ours")
        except ZeroDivisionError as error:
            log_error(error, "/v1/x")
    out, err = capsys.readouterr()
    first, second, *rest = err.splitlines()
    assert first == r"error: /v1/x\x1b[31m\n: row 3 is not finite."
    assert second == r"error: /v1/x: of \x1b ours"
    assert rest[0].startswith("Traceback")
    assert rest[-1] == r"ZeroDivisionError: of \x1b ours"
    assert out == ""
