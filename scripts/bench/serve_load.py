#!/usr/bin/env python3
"""A server under load: clients that behave well and badly, at once, and then a kill in the middle.

    python scripts/bench/serve_load.py --json scripts/bench/results/NAME.json

A real process, `mlx-diffgemma serve`, with tiny-chat. 200 requests of 8 clients over six routes:
whole answers, streams, slow readers, clients that leave at some time or hang up in their own body,
and malformed bodies. Every question is a sum of its own, which the answer repeats: an answer under
another's id would show it. Afterwards every question that was answered is asked again alone, with
its seed: the text has to be the same. /health is asked all the while, and before, when nothing is
going on; memory is read behind each request. At the end the server is killed (SIGKILL) under load
and started again on the same port, and has to answer as before.

Exit code 1 where one of the checks fails; the figures are printed as they are.
"""

import argparse
import hashlib
import json
import os
import random
import shlex
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from report import environment, progress
from serve_clients import KINDS, Call, Outcome, ask_alone, run
from serve_process import HEALTH_EVERY, Memory, Server, memory_of, serving, watched
from serve_requests import ROUTES

from mlx_diffgemma import assets

FOLDER = Path(assets.__file__).parent / "tiny-chat"
HEALTH_LIMIT = 50.0  # ms, of the 99th percentile
SILENCE_LIMIT = 2.0  # s, between two lines of a stream
EDGE = 50  # requests at both ends, whose memory is compared


def calls_of(number: int, seed: int) -> list[Call]:
    """The requests of a run: every question is a sum of its own."""
    rng = random.Random(seed)
    pairs = rng.sample([(a, b) for a in range(10, 100) for b in range(10, 100)], number)
    kinds, weights = list(KINDS), list(KINDS.values())
    calls = []
    for index, (a, b) in enumerate(pairs):
        kind = rng.choices(kinds, weights)[0]
        route = rng.choice(ROUTES)
        calls.append(Call(index, kind, route, f"What is {a} + {b}?", rng.randrange(1 << 31)))
    return calls


def load(server: Server, calls: Sequence[Call], clients: int) -> tuple[list[Outcome], list[Memory]]:
    """All requests, by so many clients at once; the memory behind each."""
    memory: list[Memory] = []

    def one(call: Call) -> Outcome:
        outcome = run(server.port, call)
        memory.append(memory_of(server))
        return outcome

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, calls)), memory


def checked(server: Server, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Findings about the outcomes; every entry but the counts is empty where all is well."""
    answered = [each for each in outcomes if each.text is not None]
    ids = Counter(each.ids[0] for each in outcomes if each.ids)
    badly = [each for each in outcomes if each.call.kind == "malformed"]
    stayed = [each for each in outcomes if each.call.kind in ("whole", "stream", "slow")]
    return {
        "kinds": dict(Counter(each.call.kind for each in outcomes)),
        "statuses": dict(Counter(str(each.status) for each in outcomes)),
        "answered": len(answered),
        "longest_silence_s": round(max((each.silence for each in outcomes), default=0.0), 3),
        "errors": [told(each) for each in outcomes if each.error],
        "not_ended": [told(each) for each in stayed if not each.ended],
        "not_answered": [told(each) for each in stayed if each.status != 200],
        "of_another": [told(each) for each in answered if not each.is_own],
        "mixed_ids": [told(each) for each in outcomes if len(each.ids) > 1],
        "same_ids": [key for key, times in ids.items() if times > 1],
        "taken_amiss": [told(each) for each in badly if not 400 <= (each.status or 0) < 500],
        "too_silent": [told(each) for each in outcomes if each.silence > SILENCE_LIMIT],
        "not_as_alone": [told(each) for each in answered if each.text != again(server, each)],
    }


def again(server: Server, outcome: Outcome) -> str:
    """The text of the same question, asked alone."""
    return ask_alone(server.port, outcome.call)


def told(outcome: Outcome) -> str:
    """An outcome in a line."""
    call = outcome.call
    facts = (call.kind, call.route.path, outcome.status, outcome.text, outcome.ids, outcome.error)
    return f"{call.number} {call.question} " + " ".join(map(repr, facts))


def times_of(times: Sequence[float]) -> dict[str, float]:
    """Percentiles, in ms."""
    ranked = sorted(times)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: round(ranked[int(part * (len(ranked) - 1))], 2) for name, part in at.items()}
    return {"count": len(ranked), **found, "max": round(ranked[-1], 2)}


def edges(memory: Sequence[Memory]) -> dict[str, Any]:
    """Megabytes behind the first and the last requests: means, and the highest.

    What is kept of prompts is bounded, and meant to grow: it is told apart, and taken off.
    """
    series = {
        "kept": [each.kept for each in memory],
        "mlx_without_kept": [each.mlx - each.kept for each in memory],
        "rss_without_kept": [each.rss - each.kept for each in memory],
    }
    return {name: _ends([value / 1e6 for value in values]) for name, values in series.items()}


def _ends(values: Sequence[float]) -> dict[str, float]:
    edge = min(EDGE, len(values) // 2)
    first, last = statistics.mean(values[:edge]), statistics.mean(values[-edge:])
    return {"first": round(first, 2), "last": round(last, 2), "max": round(max(values), 2)}


def kill_in_the_middle(calls: Sequence[Call], clients: int) -> dict[str, Any]:
    """SIGKILL under load, and the same server again: what clients saw, and what it answers."""
    before = digest(FOLDER)
    with serving() as server, ThreadPoolExecutor(clients) as pool:
        first = [ask_alone(server.port, call) for call in whole(calls)]
        running = [pool.submit(run, server.port, call) for call in calls]
        time.sleep(1.5)
        done = sum(each.done() for each in running)
        os.kill(server.process.pid, signal.SIGKILL)
        outcomes = [each.result() for each in running]
        port = server.port
    with serving(port) as server:
        second = [ask_alone(server.port, call) for call in whole(calls)]
    answered = [each for each in outcomes if each.text is not None and each.ended]
    return {
        "done_before": done,
        "errors": sum(each.error is not None for each in outcomes),
        "cut_streams": sum(each.text is not None and not each.ended for each in outcomes),
        "of_another": [told(each) for each in answered if not each.is_own],
        "other_answers": [x for x, y in zip(first, second, strict=True) if x != y],
        "changed_files": [] if digest(FOLDER) == before else [str(FOLDER)],
    }


def whole(calls: Sequence[Call]) -> list[Call]:
    """A few calls, with answers to compare."""
    return [call for call in calls if call.kind != "malformed"][:8]


def digest(folder: Path) -> str:
    """A hash of all files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def measured(requests: int, clients: int, seed: int) -> dict[str, Any]:
    """All figures of a run."""
    calls = calls_of(requests, seed)
    with serving() as server:
        with watched(server.port) as idle:
            time.sleep(200 * HEALTH_EVERY)
        progress(f"{requests} requests of {clients} clients ...")
        began = time.perf_counter()
        with watched(server.port) as busy:
            outcomes, memory = load(server, calls, clients)
        seconds = round(time.perf_counter() - began, 1)
        progress("the same questions again, alone ...")
        found = checked(server, outcomes)
    progress("killed in the middle ...")
    return {
        "seconds": seconds,
        "load": found,
        "health_ms": {"idle": times_of(idle.times), "busy": times_of(busy.times)},
        "memory_mb": edges(memory),
        "killed": kill_in_the_middle(calls[: 4 * clients], clients),
    }


def failures(found: dict[str, Any]) -> list[str]:
    """The checks that a run fails; memory is judged by who reads the figures."""
    lists = {**found["load"], **{f"killed: {k}": v for k, v in found["killed"].items()}}
    failed = [
        f"{name}: {value}" for name, value in lists.items() if isinstance(value, list) and value
    ]
    if found["health_ms"]["busy"]["p99"] > HEALTH_LIMIT:
        failed.append(f"/health took more than {HEALTH_LIMIT:g} ms")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found = measured(options.requests, options.clients, options.seed)
    print(json.dumps(found, indent=1))
    failed = failures(found)
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    if options.json:
        command = shlex.join(["scripts/bench/serve_load.py", *sys.argv[1:]])
        content = {"command": command, **environment("mlx", "uvicorn", "starlette"), **found}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
