"""5,800 generated bad inputs: no traceback, no hang, no wrong answer, and no input is changed."""

import json
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from adapting import write_adapter
from cases import KINDS, Argument, Case, Good, copied, made
from puzzle import PUZZLE
from running import Ended, TooSlowError, contents, faults, in_a_process, in_process

from mlx_diffgemma.assets import embedded_folder

SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))
BATCH = 50
AS_PROCESS = 25  # each such case is a process of its own: 232 of 5,800
BATCHES = [
    pytest.param(kind, start, id=f"{kind}-{start}")
    for kind, (_, count) in KINDS.items()
    for start in range(0, count, BATCH)
]


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    """Whole files, made by the program itself."""
    home, place = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("good")
    plain = Path(shutil.copytree(SUDOKU, place / "plain"))  # no link: outputs are tried on it
    packed, shards = place / "packed", in_shards(plain, place / "shards")
    trace, profile, conversation = place / "t.jsonl", place / "p.json", place / "c.json"
    tokens, auto = place / "a.jsonl", ["--mode", "auto", "--auto-times", "1,100"]
    model = ["--model", "tiny-sudoku", "--seed", "1"]
    fixed = ["--steps", "1", "--context", "128", "--canvases", "5"]
    commands: list[list[Argument]] = [
        ["convert", plain, packed, "--quantize", "8bit"],
        ["generate", PUZZLE, *model, "--trace", trace],
        ["generate", "Hi", "--model", "tiny-chat", *auto, "--max-tokens", "70", "--trace", tokens],
        ["profile", "--model", "tiny-sudoku", *fixed, "--json", profile],
    ]
    for number, argv in enumerate(commands):
        ended = in_process(Case(argv), home / str(number), seconds=120)
        assert ended.code == 0, ended
    stdin = f"{PUZZLE}\n/save {conversation}\n".encode()
    ended = in_process(Case(["chat", *model], stdin=stdin), home / "chat", seconds=60)
    assert ended.code == 0, ended
    adapter = place / "adapter"
    write_adapter(adapter, plain, ["q_proj", "router"])
    return Good(place, plain, packed, shards, adapter, trace, tokens, profile, conversation)


def in_shards(folder: Path, place: Path) -> Path:
    """A copy of a checkpoint whose tensors lie in two files and an index."""
    copied(folder, place)
    weights = place / "model.safetensors"
    tensors = mx.load(str(weights))
    weights.unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        mx.save_safetensors(str(place / shard), {name: tensors[name] for name in part})
        index |= dict.fromkeys(part, shard)
    content = {"metadata": {"total_size": 0}, "weight_map": index}
    (place / "model.safetensors.index.json").write_text(json.dumps(content))
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "start"), BATCHES)
def test_bad_input(kind: str, start: int, good: Good, tmp_path: Path) -> None:
    """Every case of a batch is judged; the failures of all of them are shown."""
    failed = []
    for number in range(start, min(start + BATCH, KINDS[kind][1])):
        run = in_a_process if number % AS_PROCESS == 0 else in_process
        failed += judged(kind, number, run, good, tmp_path / str(number))
    assert not failed, "\n".join(failed)


def judged(
    kind: str, number: int, run: Callable[[Case, Path], Ended], good: Good, place: Path
) -> list[str]:
    """What a case shows of faults, with the way to see it again."""
    inputs = place / "inputs"
    inputs.mkdir(parents=True)
    case = made(kind, number, inputs, good)
    before = contents(inputs, good.place)
    said = ""
    try:
        ended = run(case, place / "home")
    except TooSlowError:
        found = ["too slow"]
    except Exception:
        found, said = ["a traceback"], traceback.format_exc(limit=-4)
    else:
        found, said = faults(case, ended), f"{ended.stdout[:100]!r}\n  {ended.stderr[:600]}"
    after = contents(inputs, good.place)
    changed = [name for name, was in before.items() if after.get(name) != was]
    if changed:
        found.append(f"changed {', '.join(changed)}")
    if not found:
        shutil.rmtree(place)
    shown = " ".join(repr(os.fsdecode(argument))[:200] for argument in case.argv)
    return [f"{kind} {number}: {'; '.join(found)}\n  {shown}\n  {said}"] if found else []
