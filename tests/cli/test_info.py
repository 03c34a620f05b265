"""`info`, and the inventory behind it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import assert_one_line
from repository import COMMIT, REPO, refused, serve

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.conversation.loading import place_of
from mlx_diffgemma.machine.chips import find_chip
from mlx_diffgemma.machine.choices import Choices, ModeTimes
from mlx_diffgemma.machine.tuning import require_storable, store
from mlx_diffgemma.model.inventory import take_inventory
from mlx_diffgemma.model.memory import plan_memory

KEYS = [
    "path",
    "revision",
    "download",
    "model_type",
    "dtype",
    "parameters",
    "layers",
    "canvas_length",
    "context_length",
    "vocab_size",
    "experts",
    "images",
    "quantization",
    "parts",
    "sampler",
    "stop_ids",
    "tokenizer",
    "chat_template",
    "memory",
    "dropped",
    "recipes",
    "modes",
    "token",
    "times",
    "shared",
]
PARTS = (
    "embedding",
    "attention",
    "dense MLP",
    "experts",
    "router",
    "self-conditioning",
    "norms",
)


def described(run: Any, *arguments: object) -> dict[str, Any]:
    done = run("info", *arguments, "--json")
    assert (done.exit_code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def lines_of(run: Any, *arguments: object) -> dict[str, str]:
    """The lines of the report's first block, by their names."""
    block = run("info", *arguments).stdout.partition("\n\n")[0]
    return {line[:14].strip(): line[14:] for line in block.splitlines()}


def line_of(text: str, start: str) -> str:
    """The only line that begins so, spaces before it left out."""
    (line,) = (line for line in text.splitlines() if line.strip().startswith(start))
    return line


def test_json_of_the_embedded_model(run: Any) -> None:
    facts = described(run, "tiny-sudoku")
    assert list(facts) == KEYS
    assert facts["parameters"] == dg.load("tiny-sudoku").info.parameters
    assert facts["layers"] == {"total": 6, "sliding": 3, "full": 3}
    assert (facts["canvas_length"], facts["context_length"], facts["vocab_size"]) == (90, 512, 128)
    assert facts["experts"] == {"total": 8, "used": 2}
    assert (facts["dtype"], facts["quantization"], facts["stop_ids"]) == ("float32", None, [1])
    assert (facts["tokenizer"], facts["chat_template"], facts["dropped"]) == (True, True, [])
    assert tuple(part["name"] for part in facts["parts"]) == (*PARTS, "vision")
    assert {tuple(part["packing"]) for part in facts["parts"]} == {("float16",)}
    *text, vision = facts["parts"]
    assert sum(part["parameters"] for part in text) == facts["parameters"]
    assert vision["parameters"] == 365_280
    assert sum(part["bytes"] for part in facts["parts"]) == 2 * (facts["parameters"] + 365_280)
    assert facts["images"] == {"tokens": 99, "budgets": [70, 99, 140, 280, 560, 1120]}
    memory = facts["memory"]
    parts = memory["weights_bytes"] + memory["cache_bytes"] + memory["workspace_bytes"]
    assert memory["needed_bytes"] == parts
    assert (memory["context"], memory["fits"], memory["largest_context"]) == (512, True, 512)


def test_text_of_the_embedded_model(run: Any) -> None:
    done = run("info", "tiny-sudoku")
    assert (done.exit_code, done.stderr) == (0, "")
    for part in (*PARTS, "1,823,420", "6: 3 sliding, 3 full", "48 steps", "fits", "float16"):
        assert part in done.stdout
    assert not re.search(r"\b0\.0 ", done.stdout)


# --- a token of mode ar


def test_a_token_by_parts(run: Any) -> None:
    """The table's third column, and the JSON: all of the dense parts, 2 of 8 experts."""
    facts = described(run, "tiny-chat")
    token = facts["token"]
    assert facts["modes"] == ["diffusion", "ar"]
    on_disk = {part["name"]: part["bytes"] for part in facts["parts"]}
    for part in ("embedding", "attention", "dense MLP"):
        assert token["parts"][part] == on_disk[part]
    assert token["parts"]["experts"] == pytest.approx(on_disk["experts"] / 4, abs=1)
    assert sum(token["parts"].values()) == pytest.approx(token["weight_bytes"], abs=3)
    assert (token["prefix"], token["chip"], token["estimated"]) == (1024, None, None)
    text = run("info", "tiny-chat").stdout
    assert_says(line_of(text, "part "), "on disk ... a token ... packing")
    assert_says(line_of(text, "a token of mode ar"), "behind 1,024 positions")
    assert_says(line_of(text, "bound"), "none ... not in the table")


def test_a_token_on_a_known_chip(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = find_chip("Apple M4 Pro")
    monkeypatch.setattr("mlx_diffgemma.cli.info.facts.this_chip", lambda: chip)
    token = described(run, "tiny-chat")["token"]
    read = token["weight_bytes"] + token["cache_bytes"]
    assert token["tokens_per_second"] == pytest.approx(273e9 / read, rel=1e-3)
    assert token["estimated"]["token_ms"] > 1e3 / token["tokens_per_second"]
    text = run("info", "tiny-chat").stdout
    assert_says(line_of(text, "bound"), "tokens ... M4 Pro (arithmetic)")
    assert_says(line_of(text, "estimated"), "ms ... a step ... ms")
    assert token["text_experts"] == 5  # of 8
    assert token["step_bytes"] > token["text_step_bytes"] > 0.6 * token["step_bytes"]
    assert token["text_step_ms"] <= token["estimated"]["step_ms"]
    everything, assumed = text.splitlines()[-2:]
    assert_says(everything, "all its 8 experts; estimated ... ms")
    assert_says(assumed, "uses 5 ... published for text (assumed); estimated ... ms")


def test_a_checkpoint_without_mode_ar_says_so(run: Any) -> None:
    facts = described(run, "tiny-sudoku")
    assert (facts["modes"], facts["token"]) == (["diffusion"], None)
    assert {recipe["token_bytes"] for recipe in facts["recipes"]} == {None}
    text = run("info", "tiny-sudoku").stdout
    assert_says(line_of(text, "mode ar"), "none ... next-token loss")
    assert "a token" not in text.partition("\n\n")[2]


def test_measured_times_are_shown(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change nothing in how the model runs, so that its memory is not "as tuned"."""
    times = ModeTimes(60.0, 15.0, 40.0, ((1, 15.0), (8, 30.0)))
    choices = Choices(times=times)
    monkeypatch.setattr("mlx_diffgemma.cli.answer.loading.recalled", lambda *_: choices)
    assert described(run, "tiny-chat")["times"] == {
        "step_ms": 60.0,
        "token_ms": 15.0,
        "commit_ms": 40.0,
        "rows_ms": [[1, 15.0], [8, 30.0]],
    }
    text = run("info", "tiny-chat").stdout
    assert_says(line_of(text, "measured"), "15 ms ... a step 60 ms")
    assert "as tuned" not in text


def test_memory_follows_context_and_dtype(run: Any) -> None:
    small = described(run, "tiny-sudoku", "--context", 1)["memory"]
    large = described(run, "tiny-sudoku", "--context", 512)["memory"]
    half = described(run, "tiny-sudoku", "--context", 512, "--dtype", "float16")["memory"]
    assert small["cache_bytes"] < large["cache_bytes"] == 2 * half["cache_bytes"]
    # A CPU holds the experts in float32, whatever the activations are.
    assert half["weights_bytes"] < large["weights_bytes"] < 2 * half["weights_bytes"]


@pytest.mark.parametrize("context", ["0", "-1", "513", "1.5", "many"])
def test_a_bad_context_is_one_line(run: Any, context: str) -> None:
    assert_one_line(run("info", "tiny-sudoku", "--context", context), 2, "--context")


def test_a_model_that_does_not_fit_is_described(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 1_000)
    done = run("info", "tiny-sudoku")
    assert (done.exit_code, "does not fit" in done.stdout) == (0, True)
    assert "not enough for the weights" in done.stdout
    memory = described(run, "tiny-sudoku")["memory"]
    assert (memory["fits"], memory["largest_context"]) == (False, 0)


def test_a_machine_that_does_not_say_what_it_has(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: None)
    memory = described(run, "tiny-sudoku")["memory"]
    values = [memory[key] for key in ("available_bytes", "fits", "largest_context")]
    assert values == [None, None, None]
    assert "does not say" in run("info", "tiny-sudoku").stdout


def test_every_layout_that_loads_is_counted_as_when_loaded(run: Any, tmp_path: Path) -> None:
    from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint

    sizes = Sizes("ssf", hidden_size=64, intermediate_size=64, moe_intermediate_size=64)
    four = Packing("affine", 4, 32)
    source = write_checkpoint(tmp_path / "source", replace(sizes, vision=True))
    folders = [
        source,
        write_checkpoint(tmp_path / "strays", sizes, strays=True),
        write_checkpoint(tmp_path / "each", sizes, dtype="bfloat16", per_expert=True, shards=3),
        quantise_folder(source, tmp_path / "four", four, published(four)),
        quantise_folder(source, tmp_path / "fp4", fp4 := Packing("mxfp4", 4, 32), lambda _: fp4),
    ]
    for folder in folders:
        loaded = _loaded_parameters(folder)
        facts = described(run, folder)
        assert facts["parameters"] == loaded, folder
        on_disk = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        assert sum(part["bytes"] for part in facts["parts"]) < on_disk
        assert (facts["tokenizer"], facts["chat_template"]) == (False, False)
        assert run("info", folder).exit_code == 0


def _loaded_parameters(folder: Path) -> int:
    from mlx_diffgemma.model.weights import load_network

    return load_network(folder).num_parameters


def test_packing_is_told_part_by_part(run: Any, tmp_path: Path) -> None:
    from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint

    sizes = Sizes("sf", hidden_size=64, intermediate_size=64, moe_intermediate_size=64, head_dim=16)
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    four = Packing("affine", 4, 32)
    folder = quantise_folder(source, tmp_path / "four", four, published(four))
    facts = described(run, folder)
    packing = {part["name"]: part["packing"] for part in facts["parts"]}
    assert facts["quantization"] == "4-bit affine, groups of 32"
    assert packing["experts"] == ["4-bit affine, groups of 32"]
    assert packing["attention"] == packing["dense MLP"] == ["8-bit affine, groups of 64"]
    assert packing["router"] == ["8-bit affine, groups of 64", "bfloat16"]
    assert packing["norms"] == ["bfloat16"]
    assert "8-bit affine, groups of 64 + bfloat16" in run("info", folder).stdout


def test_vision_is_told_apart_and_strays_are_listed(run: Any, tmp_path: Path) -> None:
    from checkpoints import Sizes, write_checkpoint

    folder = write_checkpoint(tmp_path, Sizes("sf", vision=True), strays=True)
    facts = described(run, folder)
    assert facts["parts"][-1]["name"] == "vision"
    assert "lm_head.weight" in facts["dropped"]
    text = run("info", folder).stdout
    assert f"{len(facts['dropped'])} superfluous tensors" in text


def test_what_an_image_may_take_is_told(run: Any, tmp_path: Path) -> None:
    """The budget of the checkpoint's own processor beside Gemma 4's."""
    from checkpoints import Sizes, vision_aside, write_checkpoint

    folder = vision_aside(write_checkpoint(tmp_path, Sizes("sf", vision=True)))
    (folder / "processor_config.json").write_text('{"image_processor": {"max_soft_tokens": 99}}')
    facts = described(run, folder)
    assert facts["images"] == {"tokens": 99, "budgets": [70, 99, 140, 280, 560, 1120]}
    assert facts["parts"][-1]["packing"] == ["float32"]
    images = lines_of(run, folder)["images"]
    assert images == "at most 99 tokens each; 70, 99, 140, 280, 560 or 1,120 with --image-tokens"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vision_config": None}, "none: the folder has a vision tower ... no vision_config"),
        ({"image_token_id": None}, "none: config.json names no image_token_id"),
    ],
)
def test_why_no_image_can_be_asked_about(
    run: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    from checkpoints import Sizes, edit_json, write_checkpoint

    folder = write_checkpoint(tmp_path, Sizes("sf", vision=True))
    edit_json(folder / "config.json", **change)
    assert described(run, folder)["images"] is None
    assert_says(lines_of(run, folder)["images"], said)


def test_text_only_folders_see_no_image(run: Any, tmp_path: Path) -> None:
    """With and without a tower in config.json."""
    from checkpoints import Sizes, random_tensors, write_checkpoint

    sizes = Sizes("sf", vision=True)
    tensors = {n: array for n, array in random_tensors(sizes).items() if "vision" not in n}
    copy = write_checkpoint(tmp_path / "copy", sizes, tensors=tensors)
    text = write_checkpoint(tmp_path / "text", Sizes("sf"))
    for folder, said in ((copy, "none: config.json has a vision tower"), (text, "none: text only")):
        facts = described(run, folder)
        assert facts["images"] is None
        assert "vision" not in [part["name"] for part in facts["parts"]]
        assert_says(lines_of(run, folder)["images"], said)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: t.pop("model.decoder.layers.1.mlp.up_proj.weight"), "missing"),
        (lambda t: t.pop("model.decoder.layers.1.experts.down_proj"), "missing"),
        (
            lambda t: t.pop("model.encoder.language_model.layers.0.layer_scalar"),
            "model.encoder.language_model.layers.0.layer_scalar: missing",
        ),
        (
            lambda t: t.update(
                {"model.decoder.layers.0.extra.weight": t["model.decoder.norm.weight"]}
            ),
            "not part of the model",
        ),
    ],
)
def test_missing_and_foreign_tensors_are_one_line(
    run: Any, tmp_path: Path, change: Any, part: str
) -> None:
    from checkpoints import Sizes, random_tensors, write_checkpoint

    sizes = Sizes("sf")
    tensors = random_tensors(sizes)
    change(tensors)
    assert_one_line(run("info", write_checkpoint(tmp_path, sizes, tensors=tensors)), 1, part)


def test_a_checkpoint_that_is_not_packed_is_told_what_would_fit(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are those that a conversion has, vision left out; a packed folder has no such."""
    from checkpoints import Sizes, write_checkpoint

    sizes = Sizes("sf", hidden_size=64, intermediate_size=64, moe_intermediate_size=64, head_dim=16)
    source = write_checkpoint(tmp_path / "source", replace(sizes, vision=True), dtype="bfloat16")
    recipes = {recipe["name"]: recipe for recipe in described(run, source)["recipes"]}
    names = ["4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4"]
    assert list(recipes)[:-2] == names
    least = list(recipes)[-1]
    assert least == "4bit --attention-bits 4 --embed-bits 4 --mlp-bits 4"
    for name in ("4bit", "mxfp8", least):
        out = tmp_path / name.replace(" ", "")
        assert run("convert", source, out, "--quantize", *name.split()).exit_code == 0
        packed = described(run, out)
        assert packed["memory"]["weights_bytes"] == recipes[name]["weights_bytes"]
        assert packed["token"]["weight_bytes"] == recipes[name]["token_bytes"]
        assert packed["recipes"] == []
    four = recipes["4bit"]["weights_bytes"]
    least = described(run, source, "--context", 1)["memory"]
    room = four + least["cache_bytes"] + least["workspace_bytes"]
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: room)
    text = run("info", source).stdout
    assert re.search(r"\n  4bit .* enough for a context of \d", text)
    assert re.search(r"\n  8bit .* not enough for the weights", text)


def test_what_was_tuned_is_planned_as_it_will_be_loaded(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `chat` refused by what `profile --tune` had chosen, and `info` had other numbers."""
    from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint

    source = write_checkpoint(tmp_path / "source", Sizes("sf", hidden_size=64), dtype="bfloat16")
    four = Packing("affine", 4, 32)
    folder = quantise_folder(source, tmp_path / "four", four, published(four))
    plain = described(run, folder)["memory"]
    choices = Choices(dense_weights="16-bit", prefill_chunk=4096)
    store(require_storable(), place_of(folder, None, None), choices)
    tuned = described(run, folder)["memory"]
    assert tuned["weights_bytes"] == plan_memory(folder, choices=choices).weights.held_bytes
    assert tuned["weights_bytes"] > plain["weights_bytes"]
    assert tuned["cache_bytes"] == plain["cache_bytes"]  # all positions there are, in one chunk
    assert "as tuned for this machine" in run("info", folder).stdout
    assert described(run, folder, "--no-tune")["memory"] == plain


# --- a repository that is not on this machine


def test_a_repository_is_described_as_its_download_would_be(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `info REPO` needed the whole download first."""
    repository = serve(monkeypatch, random_folder)
    here = described(run, random_folder)
    there = described(run, REPO, "--revision", "v1")
    download = there.pop("download")
    assert here.pop("download") is None
    assert (there.pop("path"), there.pop("revision")) == (None, COMMIT)
    assert (here.pop("path"), here.pop("revision")) == (str(random_folder), None)
    assert there == here
    files = [f for f in random_folder.iterdir() if f.suffix in (".json", ".safetensors")]
    assert download["repository"] == REPO
    assert download["bytes"] == sum(file.stat().st_size for file in files)
    assert download["missing_bytes"] == download["bytes"]
    assert download["free_bytes"] > 0
    assert repository.asked[0] == ("info", "v1")


def test_text_of_a_repository(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, random_folder)
    done = run("info", REPO)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines()[:4])
    assert lines["model"] == f"{REPO} (revision {COMMIT}), not on this machine"
    assert "free disk" in lines["download"]
    assert "/tmp" not in done.stdout


def test_the_recipes_of_a_repository_are_told(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a missing tokenizer, which a download would miss too."""
    from checkpoints import Sizes, write_checkpoint

    folder = write_checkpoint(tmp_path / "there", Sizes("sf", vision=True), per_expert=True)
    serve(monkeypatch, folder)
    there = described(run, REPO)
    assert there["recipes"] == described(run, folder)["recipes"] != []
    assert (there["tokenizer"], there["chat_template"]) == (False, False)
    assert "missing: copy tokenizer.json" in run("info", REPO).stdout


def test_offline_says_how_to_get_it(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = serve(monkeypatch, random_folder)
    done = run("info", REPO, "--offline")
    assert_one_line(done, 1, REPO, "--offline ... pull owner/model")
    assert repository.asked == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("GatedRepoError", "owner/model ... gated"),
        ("RepositoryNotFoundError", "owner/model ... no such repository"),
        ("OfflineModeIsEnabled", "owner/model ... not in the local cache ... $HF_HUB_OFFLINE"),
        ("HfHubHTTPError", "owner/model cannot be fetched ... not in the local cache ... again"),
    ],
)
def test_a_repository_that_is_not_to_be_had_is_one_line(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, facts: str
) -> None:
    serve(monkeypatch, random_folder, {"info": refused(name)})
    assert_one_line(run("info", REPO), 1, facts)


def test_a_folder_has_no_revision(run: Any) -> None:
    assert_one_line(run("info", "tiny-sudoku", "--revision", "v1"), 1, "has no revision v1")


# --- a Mac that would give more


def test_the_setting_that_would_do_is_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 900_000_000)
    monkeypatch.setattr("mlx_diffgemma.model.memory.raised_limit", lambda needed: 1024)
    assert described(run, "tiny-sudoku")["memory"]["wired_limit_mb"] == 1024
    assert "sudo sysctl iogpu.wired_limit_mb=1024" in run("info", "tiny-sudoku").stdout


def test_no_setting_is_told_where_it_fits(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.raised_limit", lambda needed: 1024)
    assert described(run, "tiny-sudoku")["memory"]["wired_limit_mb"] is None


def test_parts_add_up(random_folder: Path) -> None:
    inventory = take_inventory(random_folder, read_config(random_folder))
    assert inventory.parameters == _loaded_parameters(random_folder)
    assert tuple(part.name for part in inventory.parts) == PARTS


# --- several Macs


def shared(run: Any, *arguments: object) -> dict[tuple[str | None, str], dict[str, Any]]:
    needs = described(run, *arguments)["shared"]["needs"]
    return {(need["recipe"], need["share"]): need for need in needs}


def test_nobody_asks_for_several_macs(run: Any) -> None:
    assert described(run, "tiny-sudoku")["shared"] is None


def test_each_mac_holds_all_by_rows_and_its_layers_by_layers(run: Any) -> None:
    memory = described(run, "tiny-sudoku")["memory"]
    two, three = (shared(run, "tiny-sudoku", "--macs", n) for n in (2, 3))
    rows, layers, fewer = two[None, "rows"], two[None, "layers"], three[None, "layers"]
    assert rows["weights_bytes"] == three[None, "rows"]["weights_bytes"] == memory["weights_bytes"]
    assert rows["needed_bytes"] == memory["needed_bytes"]
    assert layers["cache_bytes"] < memory["cache_bytes"]
    layer = layers["weights_bytes"] - fewer["weights_bytes"]  # 3 of 6 layers, and 2
    assert memory["weights_bytes"] > layers["weights_bytes"] > 3 * layer > 0
    assert {recipe for recipe, _ in two} > {None, "4bit", "8bit"}


def test_each_mac_holds_a_part_of_all_tensors(run: Any) -> None:
    memory = described(run, "tiny-sudoku")["memory"]
    tensor = shared(run, "tiny-sudoku", "--macs", 2)[None, "tensor"]
    assert 0.5 < tensor["weights_bytes"] / memory["weights_bytes"] < 0.65
    assert 2 * tensor["cache_bytes"] == memory["cache_bytes"]  # of half the heads


def test_more_macs_than_layers_share_rows_alone(run: Any) -> None:
    facts = described(run, "tiny-sudoku", "--macs", 7)["shared"]
    assert {need["share"] for need in facts["needs"]} == {"rows"}
    assert {each["recipe"] for each in facts["refused"]} >= {None, "4bit"}
    assert "7 Macs share by tensor" in facts["refused"][0]["reason"]


def test_the_report_for_several_macs_is_called_arithmetic(run: Any) -> None:
    text = run("info", "tiny-sudoku", "--macs", 2).stdout
    part = text[text.index("2 Macs that answer together") :]
    assert "arithmetic" in part.splitlines()[0]
    assert re.search(r"2 x 8 GB +512$", part, re.MULTILINE)
    assert max(map(len, part.splitlines())) <= 80
