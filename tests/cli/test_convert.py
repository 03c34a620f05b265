"""`convert` as a user meets it: arguments, text, JSON, exit codes, interruptions."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import edit_json
from facts import assert_says
from puzzle import assert_one_line
from repository import COMMIT, REPO, serve
from waiting import SECONDS

from mlx_diffgemma.checkpoint import hub, remote

PLAN_KEYS = [
    "tensors",
    "tensor_count",
    "tensor_bytes",
    "token_bytes",
    "peak_memory_bytes",
    "dropped",
]
TENSOR_KEYS = ["name", "dtype", "shape", "source", "bits", "bytes"]


def described(run: Any, *arguments: object) -> dict[str, Any]:
    done = run("convert", *arguments, "--json")
    assert (done.exit_code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


# --- converting


def test_convert_then_generate(run: Any, tmp_path: Path) -> None:
    done = run("convert", "tiny-sudoku", tmp_path / "out", "--quantize", "8bit")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "294 tensors in 1 shard" in done.stdout
    answer = run(
        "generate", "abc", "--raw", "--model", tmp_path / "out", "--max-tokens", "5", "--steps", "2"
    )
    assert answer.exit_code == 0


def test_json_of_a_conversion(run: Any, tmp_path: Path) -> None:
    made = described(run, "tiny-sudoku", tmp_path / "out", "--verify")
    assert (made["source"], made["revision"], made["quantize"]) == ("tiny-sudoku", None, "4bit")
    assert made["tensor_count"] == 294
    size = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert made["file_bytes"] == size
    assert made["verification"]["decoder"]["positions"] == 16
    assert made["peak_memory_bytes"] > 0
    again = described(
        run, "tiny-sudoku", tmp_path / "out", "--overwrite", "--verify", "--against", "tiny-sudoku"
    )
    assert again["verification"] == made["verification"]


def test_default_is_the_published_recipe(run: Any, tmp_path: Path) -> None:
    assert run("convert", "tiny-sudoku", tmp_path / "out").exit_code == 0
    config = json.loads((tmp_path / "out/config.json").read_text())["quantization"]
    assert (config["bits"], config["group_size"], config["mode"]) == (4, 64, "affine")
    assert config["model.decoder.embed_tokens"] == {"group_size": 64, "bits": 8}
    assert "model.decoder.layers.0.experts.down_proj" not in config


def test_overwrite(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("convert", "tiny-sudoku", out).exit_code == 0
    assert_one_line(run("convert", "tiny-sudoku", out), 1, "exists", "--overwrite")
    assert run("convert", "tiny-sudoku", out, "--overwrite", "--quantize", "none").exit_code == 0
    assert "quantization" not in json.loads((out / "config.json").read_text())


def test_out_with_a_tilde(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("convert", "tiny-sudoku", "~/deep/out").exit_code == 0
    assert (tmp_path / "deep/out/config.json").exists()


def test_out_may_have_the_name_of_a_source_that_is_no_folder_here(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        hub, "_from_hub", lambda *_: hub.Source(hub.find_model("tiny-sudoku").folder)
    )
    for source in ("tiny-sudoku", "owner/model"):
        assert run("convert", source, source).exit_code == 0
        assert (tmp_path / source / "config.json").exists()


def test_out_in_the_home_of_nobody(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such user: a name like any other, as for SOURCE."""
    monkeypatch.chdir(tmp_path)
    assert run("convert", "tiny-sudoku", "~nobody-at-all/out").exit_code == 0
    assert (tmp_path / "~nobody-at-all/out/config.json").exists()


# --- a plan


def test_dry_run_writes_nothing(run: Any, tmp_path: Path) -> None:
    done = run("convert", "tiny-sudoku", tmp_path / "out", "--dry-run")
    assert (done.exit_code, done.stderr, list(tmp_path.iterdir())) == (0, "", [])
    for part in (
        "experts:",
        "6 x model.decoder.layers.*.experts.gate_up_proj",
        "as it is",
        "about",
    ):
        assert part in done.stdout
    assert "294 with" in done.stdout


def test_dry_run_says_what_a_token_reads(run: Any) -> None:
    """Mode ar's, so nothing of a checkpoint without it."""
    chat = ("convert", "tiny-chat", "--requantize", "--dry-run")
    (line,) = (line for line in run(*chat).stdout.splitlines() if line.startswith("a token"))
    assert_says(line, "a token ... reads ... in mode ar (arithmetic)")
    assert "a token" not in run("convert", "tiny-sudoku", "--dry-run").stdout
    fewer = [*chat[1:], "--attention-bits", "4", "--embed-bits", "4", "--mlp-bits", "4"]
    assert described(run, *fewer)["token_bytes"] < described(run, *chat[1:])["token_bytes"]
    assert described(run, "tiny-sudoku", "--dry-run")["token_bytes"] is None


def test_dry_run_as_json(run: Any, tmp_path: Path) -> None:
    plan = described(run, "tiny-sudoku", "--dry-run")
    assert list(plan) == PLAN_KEYS
    assert {tuple(tensor) for tensor in plan["tensors"]} == {tuple(TENSOR_KEYS)}
    assert plan["tensor_count"] == len(plan["tensors"]) == 294
    assert plan["tensor_bytes"] == sum(tensor["bytes"] for tensor in plan["tensors"])
    made = described(run, "tiny-sudoku", tmp_path / "out")
    assert made["tensor_bytes"] == plan["tensor_bytes"]
    weight = next(t for t in plan["tensors"] if t["name"].endswith("0.experts.down_proj.weight"))
    assert (weight["dtype"], weight["bits"]) == ("U32", 4)
    assert weight["source"] == "model.decoder.layers.0.experts.down_proj"


def test_dry_run_says_the_bytes_of_the_shards(run: Any, tmp_path: Path) -> None:
    text = run("convert", "tiny-sudoku", "--dry-run").stdout
    run("convert", "tiny-sudoku", tmp_path / "out")
    assert f"{(tmp_path / 'out/model.safetensors').stat().st_size:,} bytes" in text


# --- a check


def test_verify_alone_and_against(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("convert", "tiny-sudoku", out)
    alone = described(run, "--verify", out)
    assert (alone["hashed_files"], alone["decoder"]) == (7, None)
    against = described(run, out, "--verify", "--against", "tiny-sudoku")
    assert against["decoder"]["same_choice"] == 16
    done = run("convert", "--verify", out, "--against", "tiny-sudoku")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "experts            4-bit affine" in done.stdout
    assert "KL from the source" in done.stdout


def test_verify_fails_with_one_line(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("convert", "tiny-sudoku", out)
    with (out / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    assert_one_line(run("convert", "--verify", out), 1, "sha256", "has changed")


def test_verify_of_nothing_there(run: Any, tmp_path: Path) -> None:
    assert_one_line(run("convert", "--verify", tmp_path / "none"), 1, "no such folder")
    assert_one_line(run("convert", "--verify", tmp_path), 1, "config.json", "not found")


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SOURCE and OUT are missing"),
        (["tiny-sudoku"], "OUT is missing"),
        (["--verify"], "--verify needs a folder"),
        (["a", "b", "--against", "c"], "--against belongs to --verify"),
        (["a", "--verify", "--overwrite"], "--overwrite is for converting"),
        (["a", "--verify", "--quantize", "8bit"], "--quantize is for converting"),
        (["a", "--verify", "--keep-embed-vision"], "--keep-embed-vision is for converting"),
        (["a", "b", "--dry-run", "--verify"], "--dry-run writes nothing"),
        (["a", "b", "--quantize", "7bit"], "--quantize"),
        (
            ["a", "b", "--quantize", "mxfp4", "--experts-bits", "8"],
            "--experts-bits is 8, but mxfp4",
        ),
        (
            ["a", "b", "--quantize", "none", "--group-size", "64"],
            "--group-size is 64, but --quantize",
        ),
        (["a", "b", "--group-size", "7"], "--group-size is 7 ... affine has 32 or 64 or 128"),
        (["a", "b", "--embed-bits", "x"], "--embed-bits"),
        (["a", "b", "c"], "c"),
    ],
)
def test_arguments_that_do_not_go_together(run: Any, arguments: list[str], words: str) -> None:
    assert_one_line(run("convert", *arguments), 2, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "out"], "nowhere: no such folder"),
        (["tiny-sudoku", "out", "--revision", "main"], "has no revision main"),
        (
            ["owner/model", "out", "--dry-run"],
            "owner/model ... not in the local cache",
        ),
    ],
)
def test_sources_that_are_not_there(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(run("convert", *arguments), 1, words)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_target_is_found_before_a_download(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_from_hub", lambda *_: pytest.fail("asked the Hub"))
    assert_one_line(run("convert", "owner/model", tmp_path), 1, "exists")


# --- from the Hub


def test_a_repository_is_downloaded_and_named(
    run: Any, tmp_path: Path, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id and commit stand in the manifest; the size is said before."""
    snapshot = Path(shutil.copytree(random_folder, tmp_path / "0123abcd"))
    asked = []

    def from_hub(
        name: str, offline: bool, consent: hub.Consent | None, revision: str | None, *_: object
    ) -> Any:
        asked.append((name, revision))
        assert consent is not None
        assert consent(hub.Download(name, 1_000_000, 2_000_000))
        return hub.Source(snapshot, snapshot.name)

    monkeypatch.setattr(hub, "_from_hub", from_hub)
    monkeypatch.setattr(remote, "fetch_headers", lambda *_: hub.Source(snapshot, snapshot.name))
    done = run("convert", "owner/model", tmp_path / "out", "--revision", "v1")
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert_says(line, "downloading owner/model ... 1.0 MB ... Ctrl-C")
    assert asked == [("owner/model", "v1")]
    manifest = json.loads((tmp_path / "out/conversion.json").read_text())
    assert manifest["source"]["id"] == "owner/model"
    assert manifest["source"]["revision"] == "0123abcd"


def test_a_download_that_does_not_fit_is_refused(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_hub(name: str, offline: bool, consent: hub.Consent, *_: object) -> None:
        consent(hub.Download(name, 52_000_000_000, 2_000_000_000))

    monkeypatch.setattr(hub, "_from_hub", from_hub)
    done = run("convert", "owner/model", tmp_path / "out")
    assert_one_line(done, 1, "52.00 GB", "2.00 GB free", "HF_HOME")


def test_a_download_that_leaves_no_room_for_out_is_refused(
    run: Any, tmp_path: Path, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the night of the download, not after it."""
    asked: list[Any] = []

    def from_hub(name: str, offline: bool, consent: hub.Consent, *_: object) -> None:
        consent(hub.Download(name, 52_000_000_000, 54_000_000_000, 2_000_000_000))

    def fetch_headers(name: str, revision: str | None, folder: Path) -> hub.Source:
        asked.append((name, revision))
        return hub.Source(random_folder, "0123abcd")

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50_000_000_001))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_from_hub", from_hub)
    monkeypatch.setattr(remote, "fetch_headers", fetch_headers)
    done = run("convert", "owner/model", tmp_path / "deep/out", "--revision", "v1")
    assert_one_line(done, 1, "beside the download of 50.00 GB", "50.00 GB free", "make room")
    assert asked == [("owner/model", "v1")]
    assert list(tmp_path.iterdir()) == []


def test_what_headers_can_say_is_said_before_a_download(
    run: Any, tmp_path: Path, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(random_folder, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "gemma4"}))

    def from_hub(name: str, offline: bool, consent: hub.Consent, *_: object) -> None:
        consent(hub.Download(name, 52_000, 54_000_000_000))

    monkeypatch.setattr(hub, "_from_hub", from_hub)
    monkeypatch.setattr(remote, "fetch_headers", lambda *_: hub.Source(other, "0123abcd"))
    assert_one_line(run("convert", "owner/model", tmp_path / "out"), 1, "model_type 'gemma4'")


def test_a_dry_run_fetches_headers_alone(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the Hub's library: it is asked for small files and headers."""
    repository = serve(monkeypatch, random_folder)
    plan = described(run, REPO, "--dry-run", "--revision", "v1")
    assert plan == described(run, random_folder, "--dry-run")
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "headers")
    assert repository.asked == [("info", "v1"), *((name, COMMIT) for name in names)]


def test_errors_of_a_dry_run_name_the_repository(
    run: Any, sudoku_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_json(sudoku_copy / "config.json", model_type="gemma4")
    serve(monkeypatch, sudoku_copy)
    assert_one_line(run("convert", REPO, "--dry-run"), 1, f"{REPO}/config.json ... 'gemma4'")


# --- interrupted

# Stops after a block until the parent has sent its signal.
SLOW = """
import sys, time
import mlx_diffgemma.convert.plan as plan
import mlx_diffgemma.convert.transfer as transfer
plan.MAX_SHARD_BYTES = plan.make_plan.__kwdefaults__["max_shard_bytes"] = 400_000
shards = int(sys.argv[1])
fast, done = transfer.converted, []

def slow(entry, first, blocks):
    done.append(entry)
    if len(done) == shards:
        print("SLOW", file=sys.stderr, flush=True)
        while True:  # a signal right before a sleep is seen when the sleep is over
            time.sleep(0.01)
    return fast(entry, first, blocks)

transfer.converted = slow
sys.argv = ["mlx-diffgemma", *sys.argv[2:]]
from mlx_diffgemma.cli.app import main
main()
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminate"]
)
@pytest.mark.parametrize("entries", [3, 100])
def test_interrupted(tmp_path: Path, number: signal.Signals, code: int, entries: int) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW, str(entries), "convert", "tiny-sudoku", str(out)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=-1, stderr=-1, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "SLOW\n"
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stdout) == (code, "")
    (line,) = stderr.splitlines()
    assert_says(line, "interrupted")
    assert not out.exists()
    if entries == 3:
        assert_says(line, "nothing is left")
        assert list(tmp_path.iterdir()) == []
    else:
        assert_says(line, "shards are kept ... same command")
        assert (tmp_path / "out.partial").is_dir()
