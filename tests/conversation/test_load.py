"""From a folder to a session: what fits together, what fits at all, and how memory stays flat."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from facts import assert_says, raises
from fake_hub import FakeHub, served, use
from held import held, settled
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from small import SIZES, SUDOKU, write_random

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.hub import Download
from mlx_diffgemma.conversation import loading
from mlx_diffgemma.conversation.loading import name_of, place_of
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import CheckpointError, FitError, HubError, SettingsError

SMALL = 4096  # bytes: an array of a few numbers that one of MLX's threads has not let go of yet


def test_a_folder_may_be_a_string_or_a_path(folder: Path) -> None:
    assert dg.load(str(folder)).info == dg.load(folder).info


def test_progress_tells_of_loaded_layers(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    dg.load(folder, progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_vision_tower_is_loaded_as_one_more_layer(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    seeing = write_random(tmp_path, replace(SIZES, vision=True))
    dg.load(seeing, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_a_dtype_may_be_chosen(folder: Path, dtype: mx.Dtype) -> None:
    session = dg.load(folder, dtype)
    assert session.model.dtype == dtype
    reply = session.ask("Hello", settings=dg.Settings(max_tokens=8, seed=1))
    assert reply.generated_tokens == 8


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    write_random(tmp_path, replace(SIZES, vocab_size=120))
    with raises(CheckpointError, tmp_path / "tokenizer.json", "127 ... 120 ... another checkpoint"):
        dg.load(tmp_path)


def test_a_vocabulary_larger_than_the_tokenizer_is_usual(tmp_path: Path) -> None:
    session = dg.load(write_random(tmp_path, replace(SIZES, vocab_size=200)))
    reply = session.ask("Hello", settings=dg.Settings(max_tokens=24, seed=1))
    assert max(reply.token_ids) >= 128  # ids without a text
    assert reply.generated_tokens == 24


def test_a_folder_without_a_tokenizer_is_a_network_but_no_session(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    assert dg.load_model(tmp_path).config.canvas_length == 8
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not found"):
        dg.load(tmp_path)


@pytest.mark.parametrize("load", [dg.load, dg.load_model])
def test_a_missing_folder_is_one_line(load: object) -> None:
    with pytest.raises(CheckpointError) as error:
        load("/no/such/folder")  # type: ignore[operator]
    assert "/no/such/folder: no such folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_checkpoints_own_sampler_and_stop_ids_are_used(tmp_path: Path) -> None:
    write_random(tmp_path)
    ids = dg.load(tmp_path).ask("Hello", settings=dg.Settings(max_tokens=16, seed=1)).token_ids
    own = {"max_denoising_steps": 4, "eos_token_id": ids[10], "confidence_threshold": 0.25}
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    session = dg.load(tmp_path)
    assert session.model.config.stop_ids == (ids[10],)
    reply = session.ask("Hello", settings=dg.Settings(max_tokens=16, seed=1))
    assert reply.sampler.confidence_threshold == 0.25
    assert reply.token_ids[-1] == ids[10]
    assert reply.finish_reason == "stop"


# --- memory


def test_what_cannot_fit_is_refused_with_the_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 500_000_000)
    with raises(FitError, "1.00 GB ... 500.0 MB"):
        dg.load(folder)
    assert isinstance(dg.load(folder, force=True), Session)


def test_a_context_that_does_not_fit_is_refused_before_it_is_encoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, forced = dg.load(folder), dg.load(folder, force=True)
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 500_000_000)
    positions = len(forced.turn("Hello", system="Be brief.").prompt_ids) + 1024
    with raises(FitError, f"cache for {positions:,} positions ... 500.0 MB"):
        session.ask("Hello", system="Be brief.")
    assert session.prefix is None
    assert session.system is None
    assert forced.turn("Hello").prompt_ids


@pytest.mark.slow
def test_memory_is_flat_over_twenty_answers_in_one_process(session: Session) -> None:
    """Bytes, not times: peaks and what is left after an answer stay those of the second one.

    A peak varies by a tenth with the moment at which MLX's threads let go of a buffer.
    """
    settings = dg.Settings(max_tokens=24, seed=1)
    peaks, left, before = list[int](), list[int](), settled()
    for _ in range(20):
        session.reset()
        reply = session.ask("Hello " * 20, settings=settings)
        peaks.append(reply.peak_memory_bytes - before)
        left.append(held() - before)
        assert mx.get_cache_memory() < 1_000_000  # cleared with each canvas, or it grows for ever
    assert reply.generated_tokens == 24
    assert max(peaks[2:]) <= 1.25 * peaks[1], f"peaks {peaks}"
    assert max(left[2:]) <= left[1] + SMALL, f"left {left}"


@pytest.mark.slow
def test_memory_is_flat_over_twenty_questions_that_share_a_cache(session: Session) -> None:
    """Without reset: the cache of a raw prompt is rolled back and filled again."""
    settings = dg.Settings(max_tokens=24, seed=1)
    peaks, left, before = list[int](), list[int](), settled()
    for number in range(20):
        prompt = "Hello " * 20 + chr(ord("A") + number)
        reply = session.ask(prompt, raw=True, settings=settings)
        peaks.append(reply.peak_memory_bytes - before)
        left.append(held() - before)
    assert max(peaks[2:]) <= 1.25 * peaks[1], f"peaks {peaks}"
    assert max(left[2:]) <= left[1] + SMALL, f"left {left}"


def test_a_conversation_keeps_its_cache_and_nothing_else(session: Session) -> None:
    """What stays after a turn grows by the keys and values of full buffers: [2, 1, 16] in float32
    a position in the one full layer, and two sliding layers of bounded size."""
    settings = dg.Settings(max_tokens=24, seed=1)
    session.ask("Hello", settings=settings)
    before = settled()
    for _ in range(8):
        session.ask("Hello again", settings=settings)
    assert session.prefix is not None
    grown = settled() - before
    buffers = sum(array.nbytes for array in session.prefix.arrays())
    assert grown <= buffers, f"{grown} bytes more, {buffers} in the cache"
    session.reset()
    assert settled() < before


def test_the_peak_of_a_reply_is_its_own(session: Session) -> None:
    """What was freed before the question is in no peak; what other tests still hold is."""
    before = settled()
    block = mx.zeros(50_000_000)
    mx.eval(block)
    del block
    reply = session.ask("Hello", settings=dg.Settings(max_tokens=8, seed=1))
    assert held() <= reply.peak_memory_bytes < before + 50_000_000


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models/my-model", "my-model"),
        ("hub/models--owner--some-model/snapshots/0123abcd", "owner/some-model"),
        ("hub/owner/snapshots/0123abcd", "0123abcd"),
    ],
)
def test_a_model_has_the_name_of_its_folder_or_repository(
    tmp_path: Path, folder: str, name: str
) -> None:
    assert name_of(tmp_path / folder) == name


def test_another_machine_model_revision_or_dtype_is_another_place(
    sudoku_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place_of(SUDOKU, None, None)
    assert place_of(SUDOKU, None, "float32") == here  # the checkpoint's own, asked for by name
    places = [here, place_of(SUDOKU, "abc", None), place_of(SUDOKU, None, "bfloat16")]
    places.append(place_of(sudoku_copy, None, None))
    config = json.loads((sudoku_copy / "config.json").read_text())
    (sudoku_copy / "config.json").write_text(json.dumps({**config, "architectures": []}))
    places.append(place_of(sudoku_copy, None, None))
    monkeypatch.setattr(loading, "this_identity", lambda: "another machine")
    places.append(place_of(SUDOKU, None, None))
    assert len(set(places)) == len(places)


@pytest.fixture
def sudoku_copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "config.json").write_bytes((SUDOKU / "config.json").read_bytes())
    return folder


# --- a download


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The consent that each model was looked for with; none is found."""
    given: list[Any] = []

    def look(model: str, *, consent: Any, **options: Any) -> None:
        given.append(consent)
        raise HubError("not found.")

    monkeypatch.setattr(loading, "find_model", look)
    return given


def test_nothing_is_fetched_unless_it_is_asked_for(asked: list[Any]) -> None:
    def consent(download: Download) -> bool:
        return False

    for options in ({}, {"consent": consent}, {"download": True}):
        with pytest.raises(HubError):
            dg.load("owner/model", **options)
    assert asked[:2] == [None, consent]
    assert asked[2](Download("owner/model", 9, 9)) is True


def test_a_download_has_bars_unless_the_hubs_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 16 GB without a word nobody knows whether it goes on."""
    with served(FakeHub(SUDOKU)) as hub:
        for number, is_seen in enumerate((True, False)):
            use(hub, tmp_path / str(number), monkeypatch)
            (enable_progress_bars if is_seen else disable_progress_bars)()
            try:
                dg.load("owner/model", download=True)
            finally:
                enable_progress_bars()
            assert ("downloading: 100%" in capsys.readouterr().err) is is_seen


@pytest.mark.parametrize("other", ["consent", "offline"])
def test_two_answers_to_one_question_are_refused(other: str, asked: list[Any]) -> None:
    with raises(SettingsError, f"download is given beside {other}, expected one"):
        dg.load("owner/model", download=True, **{other: True})
    assert not asked


def test_the_error_names_pythons_ways_to_a_model_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line's `--model` is of no use in a script."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(HubError) as caught:
        dg.load("nobody/has-this")
    assert_says(caught.value, "nobody/has-this ... local cache ... download=True ... tiny-chat")
    assert "--model" not in str(caught.value)
