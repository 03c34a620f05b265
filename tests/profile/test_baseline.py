"""An autoregressive model beside: a tiny random Gemma, run by mlx-lm in turn."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from facts import raises
from small import write_tokenizer

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.cli.profile.text import lines
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.machine.identity import this_machine
from mlx_diffgemma.profile import baseline as module
from mlx_diffgemma.profile.baseline import load_baseline
from mlx_diffgemma.profile.condition import Condition
from mlx_diffgemma.profile.measure import Meter
from mlx_diffgemma.profile.measurement import Measurement
from mlx_diffgemma.profile.report import to_json
from mlx_diffgemma.profile.run import run
from mlx_diffgemma.profile.schema import problems
from mlx_diffgemma.profile.workload import Workload

GEMMA = {
    "model_type": "gemma3_text",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 16,
    "sliding_window": 32,
    "sliding_window_pattern": 2,
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Gemma 3 text model with tiny-sudoku's tokenizer."""
    folder = tmp_path_factory.mktemp("gemma")
    sudoku = embedded_folder("tiny-sudoku")
    assert sudoku
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(sudoku / name, folder)
    (folder / "config.json").write_text(json.dumps(GEMMA))
    with module._quiet():
        from mlx.utils import tree_flatten
        from mlx_lm.models.gemma3_text import Model, ModelArgs

        network = Model(ModelArgs.from_dict(GEMMA))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(network.parameters())))
    return folder


@pytest.fixture(scope="module")
def measured(shallow: Session, gemma: Path) -> Measurement:
    calm = Condition(None, None, None)
    found = Measurement(shallow, "deep", Workload(steps=2, context=150), this_machine(), calm)
    found.baseline = load_baseline("gemma", gemma, shallow)
    run(found)
    return found


def test_both_are_measured_on_the_same_prompts(measured: Measurement) -> None:
    assert measured.baseline
    profile = to_json(measured)
    assert list(problems(profile)) == []
    found = profile["baseline"]
    assert (found["name"], found["answers"]) == ("gemma", 5)
    assert [len(ms) for ms in found["answers_token_ms"]] == [8] * 5
    assert {record.prompt_tokens for record in measured.baseline.records} == {150}
    expected = profile["step_ms"]["p50"] / found["token_ms"]["p50"]
    assert found["break_even_tokens_per_step"] == pytest.approx(expected)
    rate = profile["tokens_per_second_without_prefill"]
    assert found["ratio"] == pytest.approx(rate / found["tokens_per_second"])
    token, written = (profile[which]["token_ms"]["p50"] for which in ("baseline", "ar"))
    assert found["ar_ratio"] == pytest.approx(token / written)
    assert f"mode ar takes {written:.4g} ms: {token / written:.3g} times" in said(profile)


def said(profile: dict[str, Any]) -> str:
    return "\n".join(lines(profile))


def test_steps_that_were_asked_for_make_nobody_faster(measured: Measurement) -> None:
    """With one step a canvas diffusion would win anywhere."""
    profile = to_json(measured)
    assert "diffusion breaks even at" in said(profile)
    assert "--steps adaptive shows" in said(profile)
    assert "is faster here" not in said(profile)
    profile["workload"]["kind"] = "adaptive"
    winner = "diffusion" if profile["baseline"]["ratio"] > 1 else "autoregressive"
    assert f"{winner} is faster here" in said(profile)
    assert f"measured were {profile['tokens_per_step']:.3g}" in said(profile)


def test_turns_are_taken_as_abba(
    measured: Measurement, monkeypatch: pytest.MonkeyPatch, shallow: Session, gemma: Path
) -> None:
    order: list[str] = []

    def noted(owner: Any, method: str, letter: str) -> None:
        real = getattr(owner, method)

        def call(*arguments: Any, **options: Any) -> Any:
            order.append(letter)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, method, call)

    noted(Meter, "answer", "A")
    noted(module.Baseline, "answer", "B")
    again = Measurement(shallow, "", measured.workload, measured.machine, measured.before)
    again.baseline = load_baseline("gemma", gemma, shallow)
    run(again)
    assert "".join(order) == "ABAB" + "ABBAABBAAB"


def test_adaptive_prompts_keep_their_own_length(gemma: Path, shallow: Session) -> None:
    baseline = load_baseline("gemma", gemma, shallow)
    workload = Workload(steps=None, prompts=5, seeds=1, max_tokens=8)
    calm = Condition(None, None, None)
    found = Measurement(shallow, "deep", workload, this_machine(), calm, baseline=baseline)
    run(found)
    own = [len(record.question.tokens) for record in found.records]
    assert sorted(record.prompt_tokens for record in baseline.records) == sorted(own)
    assert any(a != b for a, b in pairwise(own))


def test_a_folder_names_the_checkpoint_that_it_was_made_of(
    gemma: Path, shallow: Session, tmp_path: Path, measured: Measurement
) -> None:
    """Those of as_gemma4.py alone: any conversion leaves a manifest."""
    copy = Path(shutil.copytree(gemma, tmp_path / "copy"))
    assert load_baseline("copy", copy, shallow).source is None
    noted = {"layout": "gemma4_text", "source": "tiny-chat"}
    (copy / "conversion.json").write_text(json.dumps(noted))
    assert load_baseline("copy", copy, shallow).source == "tiny-chat"
    (copy / "conversion.json").write_text(json.dumps({"source": {"id": "tiny-chat"}}))
    assert load_baseline("copy", copy, shallow).source is None
    profile = to_json(measured)
    assert "autoregressive: gemma, 5 answers" in said(profile)
    profile["baseline"]["source"] = "tiny-chat"
    assert list(problems(profile)) == []
    assert "autoregressive: gemma (tiny-chat as Gemma 4), 5 answers" in said(profile)
    del profile["baseline"]["source"], profile["baseline"]["ar_ratio"]  # of an earlier version
    assert list(problems(profile)) == []
    assert "autoregressive: gemma, 5 answers" in said(profile)
    assert "mode ar takes" not in said(profile)


def test_what_is_no_baseline(gemma: Path, shallow: Session, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(gemma, tmp_path / "copy"))

    def refused(error: type[Exception], facts: str, folder: Path = copy) -> None:
        with raises(error, facts, most=1000):  # with what mlx-lm says
            load_baseline("x", folder, shallow)

    facts = "--baseline x ... DiffusionGemma ... scripts/bench/as_gemma4.py"
    refused(dg.ProfileError, facts, Path(shallow.info.path))
    (copy / "config.json").write_text(json.dumps(GEMMA | {"model_type": "bert"}))
    refused(dg.ProfileError, "model_type 'bert' ... cannot be loaded ... mlx-lm")
    (copy / "config.json").write_text(json.dumps(GEMMA | {"hidden_size": 48}))
    refused(dg.ProfileError, "cannot be loaded ... mlx-lm")
    (copy / "config.json").write_text(json.dumps(GEMMA))
    write_tokenizer(copy)
    refused(dg.ProfileError, "139 ids ... 128 ... another")
    (copy / "tokenizer.json").unlink()
    refused(dg.CheckpointError, "tokenizer.json")
    (copy / "config.json").unlink()
    refused(dg.CheckpointError, "config.json")


def test_both_must_fit(gemma: Path, shallow: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 2_000_000_000)
    with pytest.raises(dg.FitError, match="does not fit beside the model"):
        load_baseline("x", gemma, shallow)
    assert load_baseline("x", gemma, shallow, force=True)
