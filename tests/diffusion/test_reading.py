"""The model's Reader against a plain loop with full logits, and what moves an answer: nothing else.

The plain loop knows no batches, kept prefixes or label heads: it encodes the whole prompt anew,
decodes one canvas at a time, and looks at whole rows of logits in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from adapting import write_adapter
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from compare import assert_close
from facts import raises
from held import held, settled
from numpy.typing import NDArray
from plain import plain_accepted, plain_drawn

import mlx_diffgemma as dg
from mlx_diffgemma.decide.reader import Prompt, Reading, ReadOptions, Sheet, Slot
from mlx_diffgemma.diffusion import kept as kept_module
from mlx_diffgemma.diffusion import reading
from mlx_diffgemma.diffusion.kept import KeptPrefixes
from mlx_diffgemma.diffusion.reading import ModelReader
from mlx_diffgemma.generation.prompt import Prompt as Placed
from mlx_diffgemma.machine.pauses import Pauses
from mlx_diffgemma.model import cache
from mlx_diffgemma.model.experts import Experts

V = 131
SIZES = Sizes("sf", sliding_window=6, vocab_size=V, canvas_length=256, sharpness=3.0)
SAME = 1e-5  # float32, the same sums in another order
SEEDS = (42, 7961, 15880, 23799)
ids = np.random.default_rng(3)

Floats = NDArray[np.float64]


def some(count: int) -> tuple[int, ...]:
    return tuple(ids.integers(0, V, count).tolist())


def a_sheet(width: int, *slots: tuple[int, int]) -> Sheet:
    """Slots as pairs: position, number of labels."""
    tokens, made = list(some(width)), []
    for position, count in slots:
        labels = tuple(ids.choice(V, count, replace=False).tolist())
        tokens[position] = labels[0]
        made.append(Slot(position, labels))
    return Sheet(tuple(tokens), tuple(made))


STATE, QUESTIONS = some(23), [some(count) for count in (5, 9, 7)]
SHEETS = [a_sheet(16, (5, 2)), a_sheet(32, (7, 10)), a_sheet(16, (9, 40), (3, 3))]
ONCE = ReadOptions(SEEDS, mass=True)


def asked(question: Sequence[int], state: Sequence[int] = STATE) -> Prompt:
    return Prompt((*state, *question), shared=(len(state),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), SIZES)


@pytest.fixture(scope="module")
def model(folder: Path) -> dg.Model:
    return dg.load_model(folder)


@pytest.fixture
def reader(model: dg.Model) -> ModelReader:
    return ModelReader(model, KeptPrefixes(model))


def bits(readings: Sequence[Reading]) -> list[bytes]:
    return [
        array.tobytes()
        for reading in readings
        for array in (*reading.log_probabilities, *(reading.mass or ()))
    ]


# --- the plain loop


def softmax(logits: Floats) -> Floats:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def plain_rows(
    model: dg.Model, prompt: Prompt, sheet: Sheet, seed: int, steps: int
) -> dict[int, Floats]:
    """Whole rows of logits [V] at the slots, by their positions, of the last of `steps` steps."""
    noise, sampler = dg.CounterNoise(seed), model.config.sampler
    places = sorted(slot.position for slot in sheet.slots)
    now, soft = list(sheet.tokens), None

    def put(tokens: Sequence[int]) -> None:
        for place, token in zip(places, tokens, strict=True):
            now[place] = token

    put(np.array(noise.canvas(0, len(places), V)).tolist())
    prefix = model.encode(list(prompt.ids))
    for step in range(steps):
        whole = np.array(model.logits(model.decode(now, prefix, soft)))[0].astype(np.float64)
        if step + 1 == steps:
            break
        t = sampler.t_min + (sampler.t_max - sampler.t_min) * (steps - step) / steps
        processed = whole / t
        shares = softmax(processed[places])
        entropies = -(shares * np.log(shares)).sum(axis=1)
        kept = plain_accepted(entropies.tolist(), sampler.entropy_bound)
        drawn = [
            plain_drawn(p, float(u))
            for p, u in zip(
                shares, np.array(noise.uniforms(0, step, len(places)))[:, 1], strict=True
            )
        ]
        fresh = np.array(noise.renoise(0, step, len(places), V)).tolist()
        mixed = np.array(model.certain_embedding(mx.array(sheet.tokens)))
        mixed[places] = np.array(
            model.soft_embedding(mx.array(processed[places].astype(np.float32)))
        )
        soft = mx.array(mixed[None])
        put([d if k else f for d, k, f in zip(drawn, kept, fresh, strict=True)])
    return {place: whole[place] for place in places}


def assert_plain(
    model: dg.Model, got: Sequence[Reading], prompt: Prompt, options: ReadOptions, within: float
) -> None:
    for sheet, read in zip(SHEETS, got, strict=True):
        for sample, seed in enumerate(options.seeds):
            rows = plain_rows(model, prompt, sheet, seed, options.steps)
            for number, slot in enumerate(sheet.slots):
                shares = softmax(rows[slot.position])[list(slot.labels)]
                want, logs = shares / shares.sum(), read.log_probabilities[number][sample]
                assert_close(np.exp(logs), want, within, "probabilities")
                assert_close(logs, np.log(want), 10 * within, "logs")
                if read.mass is not None:
                    assert_close(read.mass[number][sample], shares.sum(), within, "mass")


def test_it_is_the_plain_loop(model: dg.Model, reader: ModelReader) -> None:
    """One to forty labels a slot, one slot or two, widths of 16 and 32, four samples."""
    for question in QUESTIONS[:2]:
        got = reader.read(asked(question), SHEETS, ONCE)
        assert_plain(model, got, asked(question), ONCE, SAME)
        for read in got:
            for logs in read.log_probabilities:
                assert_close(np.exp(logs).sum(axis=1), np.ones(4), 1e-12, "sums")


@pytest.mark.parametrize("steps", [2, 4])
def test_more_steps_are_the_plain_loops(model: dg.Model, reader: ModelReader, steps: int) -> None:
    options = ReadOptions(SEEDS[:2], steps)
    got = reader.read(asked(QUESTIONS[0]), SHEETS, options)
    assert got[0].mass is None
    assert_plain(model, got, asked(QUESTIONS[0]), options, SAME)


def test_of_a_packed_model_with_an_adapter(tmp_path: Path, folder: Path) -> None:
    four = Packing("affine", 4, 32)
    packed = quantise_folder(folder, tmp_path / "packed", four, published(four, four))
    write_adapter(tmp_path / "adapter", packed)
    model = dg.load_model(packed, mx.float32, adapter=tmp_path / "adapter")
    reader = ModelReader(model, KeptPrefixes(model))
    got = reader.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    assert_plain(model, got, asked(QUESTIONS[0]), ONCE, SAME)


def test_the_noise_of_a_slot_is_not_that_of_its_position(
    model: dg.Model, reader: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs on the seed, and on the slots before it in its sheet."""
    seen: list[list[int]] = []
    decode = type(model).decode_many

    def watched(self: dg.Model, canvases: Any, *rest: Any) -> mx.array:
        seen.extend(canvases)
        return decode(self, canvases, *rest)

    monkeypatch.setattr(type(model), "decode_many", watched)
    for at in (5, 11):
        reader.read(asked(()), [a_sheet(16, (at, 2))], ReadOptions(SEEDS))
    first, second = seen[:4], seen[4:]
    assert [canvas[5] for canvas in first] == [canvas[11] for canvas in second]
    assert len({canvas[5] for canvas in first}) > 1


# --- what moves an answer


@pytest.mark.parametrize("pieces_show", [False, True])
def test_the_same_request_gives_the_same_bits(
    model: dg.Model, reader: ModelReader, monkeypatch: pytest.MonkeyPatch, pieces_show: bool
) -> None:
    """Whatever was asked before, and in whichever order; also where keys hang on the pieces in
    which a prompt is encoded, as on a GPU."""
    encode = type(model).encode

    def showing(self: dg.Model, tokens: Any, prefix: dg.Prefix, **more: Any) -> dg.Prefix:
        encode(self, tokens, prefix, **more)
        for layer in prefix.layers:
            assert layer.span is not None
            first = prefix.length - len(tokens) - layer.span.start
            layer.span.keys[:, :, first : first + len(tokens)] += 0.01 * len(tokens)
        return prefix

    if pieces_show:
        monkeypatch.setattr(type(model), "encode", showing)

    def own(reader: ModelReader, number: int) -> list[bytes]:
        return bits(reader.read(asked(QUESTIONS[number]), [SHEETS[number]], ONCE))

    fresh = [own(ModelReader(model, KeptPrefixes(model)), number) for number in range(3)]
    assert [own(reader, number) for number in range(3)] == fresh
    reader.read(asked(some(4), some(40)), SHEETS, ONCE)
    assert [own(reader, number) for number in (2, 0, 1)] == [fresh[n] for n in (2, 0, 1)]
    part, alone = asked(some(4), STATE[:11]), ModelReader(model, KeptPrefixes(model))
    assert bits(reader.read(part, SHEETS, ONCE)) == bits(alone.read(part, SHEETS, ONCE))
    assert [own(reader, number) for number in (1, 2, 0)] == [fresh[n] for n in (1, 2, 0)]


def test_samples_do_not_move_each_other_beyond_rounding(reader: ModelReader) -> None:
    together = reader.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    for sample, seed in enumerate(SEEDS):
        alone = reader.read(asked(QUESTIONS[0]), SHEETS[1:2], ReadOptions((seed,)))
        (want,), got = alone[0].log_probabilities, together[1].log_probabilities[0]
        assert_close(got[sample], want[0], SAME, "logs")


def test_passes_of_any_size_read_the_same(
    reader: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = reader.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    for rows in (1, 33, 100):
        monkeypatch.setattr(reading, "MOST_ROWS", rows)
        for a, b in zip(reader.read(asked(QUESTIONS[0]), SHEETS, ONCE), want, strict=True):
            for got, logs in zip(a.log_probabilities, b.log_probabilities, strict=True):
                assert_close(got, logs, SAME, f"logs in passes of {rows} rows")


def test_pauses_change_nothing(folder: Path, reader: ModelReader) -> None:
    model = dg.load_model(folder)
    slept: list[float] = []
    model.pauses = Pauses(sleep=slept.append)
    gentle = ModelReader(model, KeptPrefixes(model))
    got = gentle.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    assert bits(got) == bits(reader.read(asked(QUESTIONS[0]), SHEETS, ONCE))
    assert len(slept) > 2


# --- what is computed


def test_rows_and_products_of_one_question(
    reader: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 rows a sample in place of a canvas of 256, and the head of two labels in place of 131."""
    reader.read(asked(QUESTIONS[0]), SHEETS[:1], ReadOptions(SEEDS))  # encodes
    rows, heads, mixed = list[int](), list[tuple[int, int]](), Experts.__call__
    head = reading.label_logits

    def experts(self: Experts, x: mx.array, routing: Any) -> mx.array:
        rows.append(x.shape[0])
        return mixed(self, x, routing)

    def labels(model: dg.Model, hidden: mx.array, tokens: mx.array) -> mx.array:
        heads.append((hidden.shape[0], tokens.size))
        return head(model, hidden, tokens)

    monkeypatch.setattr(Experts, "__call__", experts)
    monkeypatch.setattr(reading, "label_logits", labels)
    monkeypatch.setattr(type(reader.model.embedding.table), "head", None)  # nobody makes them all
    for seeds in (SEEDS[:1], SEEDS):
        rows.clear(), heads.clear()
        reader.read(asked(QUESTIONS[0]), SHEETS[:1], ReadOptions(seeds))
        assert rows == [16 * len(seeds)] * len(SIZES.layers)
        assert heads == [(len(seeds), 2)]
    rows.clear(), heads.clear()
    reader.read(asked(QUESTIONS[0]), SHEETS, ReadOptions(SEEDS))
    assert rows == [2 * 4 * 16] * len(SIZES.layers) + [4 * 32] * len(SIZES.layers)
    known = {token for sheet in SHEETS for slot in sheet.slots for token in slot.labels}
    assert heads == [(12, len(known)), (4, len(known))]


@pytest.mark.slow
def test_memory_is_flat_over_thirty_reads(reader: ModelReader) -> None:
    """Of three questions in turn, and a second state in between."""
    states, left, cached = (STATE, some(23)), list[int](), list[int]()
    before = settled()
    for number in range(30):
        at = number % 3
        state, options = states[number % 5 == 4], ReadOptions(SEEDS[:1])
        reader.read(asked(QUESTIONS[at], state), SHEETS[at : at + 1], options)
        left.append(held() - before)
        cached.append(mx.get_cache_memory())
    assert max(left[15:]) <= 1.02 * max(left[:15])  # arrays of the host come and go
    assert max(cached[15:]) <= 1.1 * max(cached[:15])


# --- what is kept


def encoded(reader: ModelReader, prompt: Prompt) -> int:
    before = reader.encoded()
    reader.read(prompt, SHEETS[:1], ReadOptions(SEEDS[:1]))
    return reader.encoded() - before


def test_the_second_question_on_a_state_encodes_itself_only(reader: ModelReader) -> None:
    counts = [encoded(reader, asked(question)) for question in QUESTIONS]
    assert counts == [23 + 5, 9, 7]
    assert encoded(reader, asked(QUESTIONS[2])) == 0
    assert encoded(reader, asked(QUESTIONS[0])) == 5


def test_states_are_kept_beside_each_other(reader: ModelReader) -> None:
    other = some(31)
    for state, count in ((STATE, 28), (other, 36), (STATE, 5), (other, 5)):
        assert encoded(reader, asked(QUESTIONS[0], state)) == count


def test_the_oldest_go_first(model: dg.Model) -> None:
    """Of three states of 23 positions, two are kept beside the last one."""
    kept = KeptPrefixes(model)
    reader, states = ModelReader(model, kept), [some(23) for _ in range(4)]
    encoded(reader, asked(QUESTIONS[0], states[0]))
    encoded(reader, asked(QUESTIONS[0], states[1]))
    kept.most_bytes = 2 * kept._kept[0].prefix.num_bytes
    for state in states[2:]:
        encoded(reader, asked(QUESTIONS[0], state))
    counts = [encoded(reader, asked(QUESTIONS[0], state)) for state in states[::-1]]
    assert counts == [5, 5, 5, 28] or counts == [0, 5, 5, 28]


def test_nothing_is_computed_of_a_prefix_once_another_mac_is_lost(model: dg.Model) -> None:
    """What is pending of it may wait for ever; any other error leaves what was encoded."""
    kept = KeptPrefixes(model)
    for error, left in ((dg.ShareError("gone", lost=True), 0), (dg.FitError("full"), 1)):
        with pytest.raises(type(error)):
            break_in_use(kept, error)
        assert len(kept._kept) == left


def break_in_use(kept: KeptPrefixes, error: Exception) -> None:
    """An error behind a prompt that was encoded."""
    with kept.in_use():
        kept.encode(Placed(list(some(5)), []), (), 0)
        raise error


def test_kept_states_make_room_where_memory_ends(model: dg.Model) -> None:
    """A prompt that fits beside one of them lets the oldest go; one that never fits, none."""
    asked_of, left = list[tuple[int, int]](), [10**9]

    def require_room(context: int, beside: int = 0) -> None:
        asked_of.append((context, beside))
        if beside > left[0] or context > 1000:
            raise dg.FitError("full")

    kept = KeptPrefixes(model, require_room)
    reader, states = ModelReader(model, kept), [some(23) for _ in range(3)]
    for state in states:
        encoded(reader, asked(QUESTIONS[0], state))
    assert asked_of[0] == asked_of[1] == (23 + 5 + 16, 0)
    one = kept._kept[0].prefix.num_bytes
    assert asked_of[-1] == (23 + 5 + 16, 2 * one)
    with pytest.raises(dg.FitError):
        encoded(reader, Prompt(some(1000)))
    left[0] = 2 * one
    assert encoded(reader, asked(QUESTIONS[0], some(23))) == 28  # two of the three states stay
    assert [encoded(reader, asked(QUESTIONS[0], s)) for s in (states[2], states[0])] == [5, 28]


def test_a_shared_beginning_is_used_where_the_rest_differs(reader: ModelReader) -> None:
    """A system text with questions is shared, states behind it are not."""
    system = some(20)
    first, second = (Prompt((*system, *some(15)), shared=(20,)) for _ in range(2))
    assert [encoded(reader, prompt) for prompt in (first, second)] == [35, 15]


def hold_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sliding layers hold their window, and no more."""
    monkeypatch.setattr(cache, "ROLLBACK", 0)
    monkeypatch.setattr(cache, "STEP", 8)
    for module in (cache, kept_module):
        monkeypatch.setattr(module, "MARGIN", 0)


@pytest.mark.parametrize("length", [10, 200])
def test_going_back_further_than_sliding_layers_hold(
    model: dg.Model, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long question slides the state's last positions out; the mark brings them back, also of a
    state that was put away in between."""
    hold_little(monkeypatch)
    monkeypatch.setattr(kept_module, "PREFILL_CHUNK", 64)
    reader, long = ModelReader(model, KeptPrefixes(model)), some(length)
    encoded(reader, asked(long))
    assert encoded(reader, asked(QUESTIONS[0])) == 5
    encoded(reader, asked(QUESTIONS[0], some(9)))
    assert [encoded(reader, asked(q)) for q in (long, QUESTIONS[0])] == [length, 5]
    got = reader.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    fresh = ModelReader(model, KeptPrefixes(model))
    assert bits(got) == bits(fresh.read(asked(QUESTIONS[0]), SHEETS, ONCE))


def test_a_prompt_is_encoded_in_pieces_of_its_own(
    model: dg.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pieces of 32 and the rest are gone on from, and the rest of another prompt is not."""
    monkeypatch.setattr(kept_module, "PREFILL_CHUNK", 32)
    reader, text = ModelReader(model, KeptPrefixes(model)), some(80)
    assert encoded(reader, Prompt(text)) == 80
    assert encoded(reader, Prompt((*text, *some(3)))) == 83 - 64
    assert encoded(reader, Prompt((*text[:40], *some(3)))) == 43 - 32


def test_an_interruption_keeps_what_was_encoded(
    model: dg.Model, reader: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the third piece of a state leaves two."""
    monkeypatch.setattr(kept_module, "PREFILL_CHUNK", 10)
    encode, calls = type(model).encode, iter(range(100))

    def interrupted(self: dg.Model, *given: Any, **more: Any) -> dg.Prefix:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    assert encoded(reader, asked(QUESTIONS[0])) == 3 + 5
    got = reader.read(asked(QUESTIONS[0]), SHEETS, ONCE)
    assert_plain(model, got, asked(QUESTIONS[0]), ONCE, SAME)


# --- errors


def test_weights_that_are_not_finite(folder: Path) -> None:
    model = dg.load_model(folder)
    model.final_norm = model.final_norm * math.nan
    reader = ModelReader(model, KeptPrefixes(model))
    for steps in (1, 2):
        with raises(dg.NumericsError, "not finite"):
            reader.read(asked(QUESTIONS[0]), SHEETS, ReadOptions(SEEDS, steps))


def test_a_prompt_beyond_the_context_is_refused_before_anything(reader: ModelReader) -> None:
    with raises(dg.PromptError, "2,040 prompt tokens ... 32 ... 2,072 ... 2,048"):
        reader.read(Prompt(some(2040), shared=(2000,)), SHEETS, ONCE)
    with raises(dg.PromptError, "empty"):
        reader.read(Prompt(()), SHEETS, ONCE)
    with raises(dg.PromptError, "131 ... 0 to 130"):
        reader.read(Prompt((1, 131)), SHEETS, ONCE)
    assert reader.encoded() == 0


# --- thoughts


def written(model: dg.Model, prompt: Sequence[int], limit: int, seed: int) -> list[int]:
    frames = dg.denoise(model, prompt, dg.Settings(max_tokens=limit, seed=seed))
    return [token for frame in frames if frame.committed for token in frame.tokens.tolist()]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    return dg.load_model(
        write_checkpoint(
            tmp_path_factory.mktemp("thinker"),
            replace(SIZES, canvas_length=4),
            generation={"max_denoising_steps": 4},
        )
    )


def test_a_thought_is_what_the_loop_writes_up_to_its_end(
    thinker: dg.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state stays encoded, though sliding layers hold their window alone."""
    hold_little(monkeypatch)
    whole = written(thinker, asked(QUESTIONS[0]).ids, 10, 5)
    assert len(whole) == 10
    kept = KeptPrefixes(thinker)
    assert ModelReader(thinker, kept).think(asked(QUESTIONS[0]), 10, 5) == whole
    end = next(token for token in whole[3:] if token not in whole[:3])
    reader = ModelReader(thinker, kept, thought_end=end)
    assert reader.think(asked(QUESTIONS[0]), 10, 5) == whole[: whole.index(end)]
    assert reader.encoded() == 28  # once, and no thought
    behind = asked(QUESTIONS[0]).extended([*whole, end])
    assert encoded(reader, behind) == 11


def test_a_thought_too_long_for_the_context(thinker: dg.Model) -> None:
    reader = ModelReader(thinker, KeptPrefixes(thinker))
    with raises(dg.PromptError, "28 prompt tokens ... 2,048"):
        reader.think(asked(QUESTIONS[0]), 2040, 5)
    assert reader.encoded() == 0
