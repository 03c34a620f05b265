"""What a Reply says: its keys are a contract, its numbers add up, and its seed is its text."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from reply_keys import INNER_KEYS, REPLY_KEYS

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session

FEW = dg.Settings(max_tokens=20, seed=5)  # three canvases of 8


def plain(reply: dg.Reply) -> dict[str, Any]:
    """The reply as JSON would carry it: no NaN, no infinity, nothing but plain values."""
    content: dict[str, Any] = json.loads(json.dumps(reply.to_json(), allow_nan=False))
    return content


def test_the_keys_are_the_contract(session: Session) -> None:
    content = plain(session.ask("Hello", settings=FEW))
    assert list(content) == REPLY_KEYS
    for name, keys in INNER_KEYS.items():
        assert list(content[name]) == keys


def test_the_values_have_the_types_of_the_contract(session: Session) -> None:
    content = plain(session.ask("Hello", settings=FEW))
    types = {key: type(content[key]).__name__ for key in REPLY_KEYS}
    assert types == {
        "text": "str",
        "thinking": "NoneType",
        "tool_calls": "list",
        "token_ids": "list",
        "finish_reason": "str",
        "seed": "int",
        "prompt_tokens": "int",
        "images": "list",
        "videos": "list",
        "puzzle": "NoneType",
        "mode": "str",
        "segments": "list",
        "router": "NoneType",
        "lookup": "NoneType",
        "constraint": "NoneType",
        "generated_tokens": "int",
        "canvases": "int",
        "steps": "list",
        "tokens_per_step": "float",
        "seconds": "dict",
        "tokens_per_second": "float",
        "positions_per_second": "float",
        "peak_memory_bytes": "int",
        "sampler": "dict",
        "model": "dict",
        "share": "NoneType",
        "adapter": "NoneType",
        "tuned": "NoneType",
        "kernels": "str",
        "version": "str",
    }
    assert {type(item).__name__ for item in content["token_ids"] + content["steps"]} == {"int"}


def test_a_reply_before_any_canvas_is_json_too(session: Session) -> None:
    content = plain(session.turn("Hello", settings=FEW).reply())
    assert content["finish_reason"] == "interrupted"
    assert content["seconds"]["first_canvas"] is None
    for rate in ("tokens_per_step", "tokens_per_second", "positions_per_second"):
        assert content[rate] is None


def test_nested_values_are_read_by_attribute_or_by_name(session: Session) -> None:
    reply = session.ask("Hello", settings=FEW)
    assert reply.seconds["total"] == reply.seconds.total
    assert reply.sampler["t_min"] == reply.sampler.t_min
    assert reply.model["layers"] == reply.model.layers == 3


def test_counts_and_rates_follow_from_the_frames(session: Session) -> None:
    turn = session.turn("Hello", settings=FEW)
    frames = list(turn)
    reply = turn.reply()
    committed = [frame for frame in frames if frame.committed]
    assert reply.steps == tuple(frame.step + 1 for frame in committed)
    assert sum(reply.steps) == len(frames) - len(committed)
    assert reply.token_ids == tuple(t for frame in committed for t in frame.tokens.tolist())
    assert (reply.canvases, reply.generated_tokens) == (3, 20)
    assert reply.prompt_tokens == len(turn.prompt_ids)
    assert reply.tokens_per_step == 20 / sum(reply.steps)
    assert reply.tokens_per_second == 20 / reply.seconds.total
    assert reply.positions_per_second == 24 / reply.seconds.total
    assert (reply.finish_reason, reply.version) == ("length", dg.__version__)


def test_seconds_add_up(session: Session) -> None:
    turn = session.turn("Hello", settings=FEW)
    frames = list(turn)
    seconds = turn.reply().seconds
    encoded = [next(f.encode_seconds for f in frames if f.canvas == n) for n in range(3)]
    assert seconds.prefill == encoded[0]
    assert seconds.commit == pytest.approx(sum(encoded[1:]))
    assert seconds.denoise == pytest.approx(sum(f.seconds for f in frames if not f.committed))
    assert seconds.load == session.load_seconds > 0
    assert seconds.first_canvas is not None
    assert seconds.prefill < seconds.first_canvas < seconds.total
    assert seconds.prefill + seconds.denoise + seconds.commit <= seconds.total


def test_the_sampler_is_what_ran(session: Session) -> None:
    """Four steps are this checkpoint's own default."""
    chosen = dg.Settings(max_tokens=9, seed=1, entropy_bound=0.7, stop=("\n\n\n",))
    sampler = plain(session.ask("Hello", settings=chosen))["sampler"]
    assert sampler == {
        "max_tokens": 9,
        "max_denoising_steps": 4,
        "entropy_bound": 0.7,
        "t_min": 0.4,
        "t_max": 0.8,
        "stability_threshold": 1,
        "confidence_threshold": 0.005,
        "stop": ["\n\n\n"],
        "exact_self_conditioning": False,
        "ar": None,
    }


def test_the_model_is_described(session: Session, folder: Any) -> None:
    model = session.info
    assert (model.path, model.revision, model.quantization) == (str(folder), None, None)
    assert model.layers == 3
    assert model.parameters > 10_000


# --- max_tokens


def test_max_tokens_unset_is_1024(session: Session) -> None:
    assert session.turn("Hello").sampler.max_tokens == 1024


@pytest.mark.parametrize(("letters", "budget"), [(3000, 1024), (3072, 1008), (4077, 8)])
def test_max_tokens_unset_is_what_fits_in_whole_canvases(
    session: Session, letters: int, budget: int
) -> None:
    turn = session.turn("x" * letters)
    assert len(turn.prompt_ids) == letters + 9
    assert turn.sampler.max_tokens == budget
    assert min(1024, (4096 - letters - 9) // 8 * 8) == budget


# --- seeds


def test_the_same_seed_gives_the_same_text(session: Session) -> None:
    replies = []
    for seed in (7, 7, 8, 7 + 2**32):
        session.reset()
        replies.append(session.ask("Hello", settings=replace(FEW, seed=seed)))
    assert replies[0].token_ids == replies[1].token_ids
    assert replies[0].text == replies[1].text
    assert replies[0].seed == replies[1].seed == 7
    assert replies[3].seed == 7 + 2**32
    assert len({reply.token_ids for reply in replies}) == 3


def test_canvases_of_one_answer_get_different_noise(session: Session) -> None:
    """Not only another prefix: nothing of what a position is given comes back."""
    noise = dg.CounterNoise(7)
    assert noise.canvas(0, 8, 128).tolist() != noise.canvas(1, 8, 128).tolist()
    ids = session.ask("Hello", settings=FEW).token_ids
    assert len({ids[:8], ids[8:16]}) == 2


def test_no_seed_draws_a_fresh_one_and_says_which(session: Session) -> None:
    random.seed(0)  # a seed drawn from here would be the same each time
    seeds = [session.turn("Hello").reply().seed for _ in range(20)]
    assert len(set(seeds)) == 20
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_the_seed_it_says_gives_the_same_text_again(session: Session) -> None:
    first = session.ask("Hello", settings=replace(FEW, seed=None))
    session.reset()
    again = session.ask("Hello", settings=replace(FEW, seed=first.seed))
    assert (again.token_ids, again.seed) == (first.token_ids, first.seed)


def test_a_seed_of_zero_is_kept(session: Session) -> None:
    assert session.ask("Hello", settings=replace(FEW, seed=0)).seed == 0
