"""chat and serve over several processes, through the real command line and mlx.launch."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from loopback import ROOT, children, command
from pseudo_terminal import PROGRAM, Tty
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.macs.ports import own_ports

QUESTIONS = ("What is 17 + 25?", "Spell bread.")
MANY_STEPS = {"diffusion": {"steps": 48, "stability": 47}}


@pytest.fixture
def server(hosts: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A server of two processes that share layers, once it answers, and its port."""
    with own_ports(1) as port:
        given = ("--model", "tiny-chat", "--port", str(port), "--share", "layers")
        process = command("serve", *given, "--macs", str(hosts))
        try:
            assert process.stdout is not None
            assert "answers at" in process.stdout.readline()
            yield process, port
        finally:
            process.kill()
            process.communicate()


def rank_1(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """The process of mlx.launch, and that of rank 1."""
    (launcher,) = children(process.pid)
    for pid in children(launcher):
        if b"MLX_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return launcher, pid
    raise AssertionError("there is no rank 1")


def texts_of(client: openai.OpenAI, found: dict[str, str]) -> list[threading.Thread]:
    """Threads that ask all questions at the same time."""

    def ask(text: str) -> None:
        said = [{"role": "user", "content": text}]
        done: Any = client.chat.completions.create(model="any", messages=said, seed=3)  # type: ignore[call-overload]
        found[text] = done.choices[0].message.content

    return [threading.Thread(target=ask, args=(text,)) for text in QUESTIONS]


def long_stream(client: openai.OpenAI) -> Any:
    """A stream of an answer that takes many steps, each of which is a draft."""
    return client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": QUESTIONS[0]}],
        seed=3,
        stream=True,
        extra_body={"diffusion": {**MANY_STEPS["diffusion"], "drafts": True}},
    )


@pytest.mark.slow
def test_clients_are_served_by_two_and_a_lost_one_ends_all(run: Any, server: Any) -> None:
    process, port = server
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as health:
        assert json.load(health)["share"] == {"mode": "layers", "size": 2}
    with long_stream(client) as stream:
        next(iter(stream))  # somebody who goes in the midst of an answer
    found: dict[str, str] = {}
    asking = texts_of(client, found)
    for each in asking:
        each.start()
    for each in asking:
        each.join(SECONDS)
    for text in QUESTIONS:
        alone = run("generate", text, "--model", "tiny-chat", "--seed", "3")
        assert found[text] == alone.stdout.strip()
    launcher, other = rank_1(process)
    stream = iter(long_stream(client))
    next(stream)
    os.kill(other, signal.SIGKILL)
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        for _ in stream:
            pass
    _, said = process.communicate(timeout=SECONDS)
    lines = [line for line in said.splitlines() if not line.startswith("[ring]")]
    assert process.returncode == 5, said
    assert len([line for line in lines if line.startswith("error: rank 0")]) == 1, said
    assert "Traceback" not in said
    wait_for(lambda: not children(launcher))


@pytest.mark.slow
def test_people_chat_with_two_and_stop_an_answer(run: Any, tmp_path: Path, hosts: Path) -> None:
    """A terminal, and after it a pipe with an end."""
    file = tmp_path / "talk.json"
    given = ("chat", "--model", "tiny-chat", "--seed", "3", "--no-history", "--macs", hosts)
    with Tty(*PROGRAM, *given, "--steps", "48", "--stability", "47") as tty:
        tty.until("Ctrl-D leaves", SECONDS).type(f"{QUESTIONS[0]}\r")
        tty.until("of 48 ", SECONDS).type("\x03")
        tty.until("interrupted: no canvases finished", SECONDS).type(f"{QUESTIONS[1]}\r")
        tty.until(lambda _: "E-A-D.\n\n1% >" in tty.text(), SECONDS).type(f"/save {file}\r")
        tty.until("saved 2 messages", SECONDS).type("\x04")
        assert tty.wait(SECONDS) == 0
        tty.assert_given_back()
    steps = ("--steps", "48", "--stability", "47", "--seed", "3")
    alone = run("generate", QUESTIONS[1], "--model", "tiny-chat", *steps).stdout.strip()
    assert json.loads(file.read_text())["messages"][1]["content"] == alone
    program = [sys.executable, *PROGRAM, *map(str, given)]
    lines = f"/think off\n{QUESTIONS[0]}\n/mode auto\n"
    done = subprocess.run(
        program, cwd=ROOT, input=lines, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (1, "17 + 25 = 42.\n")
    assert "mode is 'auto'" in done.stderr


@pytest.mark.slow
def test_an_answer_of_two_is_seen_as_it_settles_and_stopped(hosts: Path) -> None:
    """Rank 0 draws on the terminal, and leaves it as it was."""
    given = ("generate", QUESTIONS[0], "--model", "tiny-chat", "--seed", "3", "--macs", hosts)
    with Tty(*PROGRAM, *given, "--steps", "48", "--stability", "47") as tty:
        tty.until("of 48 ", SECONDS).type("\x03")
        assert tty.wait(SECONDS) == 130
        assert "\ninterrupted: no canvases finished." in tty.scrollback()
        tty.assert_given_back()
