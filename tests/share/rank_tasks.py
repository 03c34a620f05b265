"""What ranks do in tests: python rank_tasks.py TASK JSON prints what the task returns as JSON.

A ShareError ends the process with one line and exit code 5, as the command line has it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from counting import counts
from differing import differing
from held import taken_by
from job_tasks import served, talked
from prompted import of_stored, write_stored
from timed_tasks import timed_link

from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.conversation.loading import load, with_adapter
from mlx_diffgemma.diffusion import sampler
from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.errors import ShareError
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.kernels.denoise.launch import SLICE
from mlx_diffgemma.machine.device import in_host
from mlx_diffgemma.model import vocabulary
from mlx_diffgemma.model.arrays import distinct_arrays
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.model.weights import load_network
from mlx_diffgemma.share.guard import (
    Watch,
    from_rank_0,
    number_from_rank_0,
    require_agreement,
    require_equal_work,
)
from mlx_diffgemma.share.part import Cut, Part
from mlx_diffgemma.share.share import ALONE, Share, announced, met

SLICED = (sampler, vocabulary)  # modules with SLICE: small vocabularies, too, shall be cut
SLICES = 16  # ids of a slice then
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, None: None}


def logits_of(model: Model, prompt: Sequence[int]) -> Any:
    """Logits [2, C, V] of a first step, and of one with its soft embeddings."""
    config, rows = model.config, model.part.rows(model.config.canvas_length)
    random = np.random.default_rng(7)
    canvas = random.integers(0, config.text.vocab_size, config.canvas_length).astype(np.int32)
    prefix = model.encode(prompt)
    soft, found = None, []
    for _ in range(2):
        logits = model.logits(model.decode(mx.array(canvas), prefix, soft))
        soft = model.soft_embedding(logits)
        mx.eval(soft)
        found.append(in_host(rows.gathered(logits, 1, "logits"))[0])
    return np.stack(found)


def answers_of(model: Model, prompts: Sequence[Sequence[int]], **settings: Any) -> list[Any]:
    """Tokens and number of steps of an answer to each prompt, seeded by its number."""
    found = []
    for seed, prompt in enumerate(prompts):
        chosen = Settings(seed=seed, max_tokens=model.config.canvas_length, **settings)
        frames = list(denoise(model, prompt, chosen))
        found.append([frames[-1].tokens.tolist(), sum(not frame.committed for frame in frames)])
    return found


def weight_bytes(model: Model) -> int:
    """Bytes of the weights that are held."""
    parts = (model.embedding, model.self_conditioning, model.final_norm, model.layers)
    return sum(array.nbytes for array in distinct_arrays(list(parts)))


def network(
    share: Share, folder: str, cut: Cut, dtype: str | None = None, adapter: str | None = None
) -> Model:
    """The rank's part of a network, and of an adapter on it."""
    made = load_network(Path(folder), DTYPES[dtype], part=Part(share, cut))
    return with_adapter(made, open_adapter(adapter, Path(folder))) if adapter else made.model


def compared(
    share: Share,
    folder: str,
    cut: Cut,
    whole: str,
    dtype: str | None = None,
    adapter: str | None = None,
    **settings: Any,
) -> Any:
    """A network against one process, whose findings are in the file `whole`."""
    model, right = network(share, folder, cut, dtype, adapter), np.load(whole)
    prompts = json.loads(str(right["prompts"]))
    logits = logits_of(model, prompts[0])
    before = dict(share.sent)
    answers = answers_of(model, prompts[:1], **settings)
    sent = {name: share.sent[name] - before.get(name, 0) for name in share.sent}
    answers += answers_of(model, prompts, **settings)[1:]
    return {
        "difference": float(np.abs(logits - right["logits"]).max()),
        "answers": answers == json.loads(str(right["answers"])),
        "answer": answers,
        "sent": sent,
        "weights": weight_bytes(model),
    }


def write_whole(
    file: Path,
    folder: Path,
    prompts: Sequence[Sequence[int]],
    dtype: str | None = None,
    adapter: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What one process finds, for `compared`."""
    model = network(ALONE, str(folder), "rows", dtype, str(adapter) if adapter else None)
    answers = answers_of(model, prompts, **settings)
    logits = logits_of(model, prompts[0])
    np.savez(file, logits=logits, prompts=json.dumps(prompts), answers=json.dumps(answers))
    return {"answers": answers, "weights": weight_bytes(model)}


def prompted(share: Share, folder: str, whole: str, dtype: str) -> Any:
    """Prompts by rows against one process, whose keys and values are in the file `whole`."""
    return of_stored(share, network(share, folder, "rows", dtype), whole)


def write_prompted(file: Path, folder: Path, dtype: str) -> None:
    """What one process stores of prompts, for `prompted`."""
    write_stored(file, network(ALONE, str(folder), "rows", dtype))


def compared_lazily(share: Share, **given: Any) -> Any:
    """As `compared`, in the form for a GPU: no numpy between layers, so that messages pend."""
    mx.disable_compile()  # MLX would call the C++ compiler
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_diffgemma.") and hasattr(module, "on_gpu"):
            module.on_gpu = lambda: True  # type: ignore[attr-defined]
    return compared(share, **given)


def loaded(share: Share, folder: str, cut: Cut) -> Any:
    """Bytes of a rank's weights, and the most that there were while they were loaded."""
    loading = taken_by(lambda: network(share, folder, cut))
    return {"weights": weight_bytes(loading.result), "peak": loading.peak}


def measured(
    share: Share,
    folder: str,
    cut: Cut,
    exact: str,
    dtype: str | None = None,
    adapter: str | None = None,
) -> dict[str, float]:
    """How far logits are from exact ones, those of float32 in the file `exact`."""
    right = np.load(exact)
    prompts = json.loads(str(right["prompts"]))
    model = network(share, folder, cut, dtype, adapter)
    difference = logits_of(model, prompts[0]) - right["logits"]
    return {"rms": float(np.sqrt(np.square(difference).mean()))}


def asked(
    share: Share,
    model: str,
    cut: Cut,
    turns: Sequence[Any],
    dtype: str | None = None,
    adapter: str | None = None,
) -> list[Any]:
    """The text and the steps of each canvas of turns of one session, in order.

    A turn: "ask" or "fill", a text, and options.
    """
    session = load(model, DTYPES[dtype], adapter=adapter, share=share, cut=cut)
    found = []
    for kind, text, options in turns:
        reply = getattr(session, kind)(text, **options)
        found.append([reply.text, reply.steps])
    return found


def harmed(share: Share, model: str, cut: Cut, harm: str, rank: int, step: int) -> Any:
    """An answer in whose midst, after `step` steps, something happens to one rank."""
    session = load(model, share=share, cut=cut)
    prompt = "What is 17 + 25?"
    if harm == "another prompt" and share.rank == rank:
        prompt = "What is 17 + 26?"
    print("null", flush=True)  # nothing was answered so far
    turn = session.turn(prompt, seed=7)
    for number, _ in enumerate(turn):
        if share.rank == rank and number == step:
            happen(harm)
    return turn.reply().text


def happen(harm: str) -> None:
    """Do this process some harm."""
    if harm == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif harm == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif harm == "exception":
        raise ZeroDivisionError("something is wrong here")
    elif harm == "gone":
        os._exit(0)


def fenced(share: Share) -> Any:
    """The fences themselves: a word of rank 0, facts that agree, and some that do not."""
    require_agreement(share, {"a fact": 1})
    said = from_rank_0(share, b"from 0" if share.rank == 0 else b"")
    number = number_from_rank_0(share, 2**63 + share.rank)
    nothing = from_rank_0(share, b"")
    lengths = [3, 2, 2][: share.size]
    own = mx.full((1, lengths[share.rank]), share.rank, mx.int32)
    together = in_host(share.gathered(own, lengths, 1, "together")).tolist()
    require_equal_work(share, [1, 2])
    try:
        require_agreement(share, {"a fact": 1, "another": share.rank // (share.size - 1)})
    except ShareError as error:
        refused = str(error)
    try:
        require_equal_work(share, [share.rank])
    except ShareError as error:
        return [said.decode(), number, nothing.decode(), together, refused, str(error)]


def several(share: Share, tasks: Sequence[Any]) -> list[Any]:
    """The results of tasks, a name with what it is given each, one after the other."""
    return [TASKS[name](share, **given) for name, given in tasks]


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (
        compared,
        compared_lazily,
        counts,
        prompted,
        loaded,
        measured,
        asked,
        harmed,
        differing,
        fenced,
        served,
        several,
        talked,
        timed_link,
    )
}


def main() -> None:
    if sys.argv[1] == "absent":
        return
    share = announced(os.environ)
    given = json.loads(sys.argv[2])
    watch = Watch(share, 60.0)
    unit = given.pop("slices", SLICE)
    for module in SLICED:
        module.SLICE = unit  # type: ignore[attr-defined]
    try:
        share = replace(met(share, given.pop("meeting", 60.0)), alive=watch.alive)
        watch.seconds = given.pop("watch", 60.0)
        watch.alive()
        print(json.dumps(TASKS[sys.argv[1]](share, **given)))
    except ShareError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(5)  # a ring that has lost a rank may not let the interpreter end


if __name__ == "__main__":
    main()
