"""Bad arguments: exit code 2 and one line; a wrong model: exit code 1 and one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import edit_json
from puzzle import PUZZLE, SOLVE, assert_one_line

OF_IMAGES = {"PIL", "av", "pillow_heif"}
LAZY = {"huggingface_hub", "mlx", "mlx_lm", "numpy", "tokenizers", "transformers"} | OF_IMAGES


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--steps", "0"], "--steps is 0 ... at least 1"),
        (["--steps", "-1"], "--steps is -1"),
        (["--steps", "1.5"], "--steps"),
        (["--max-tokens", "0"], "--max-tokens is 0"),
        (["--max-tokens", "-1"], "--max-tokens is -1"),
        (["--t-min", "0.5", "--t-max", "0.5"], "--t-min 0.5 must be below --t-max 0.5"),
        (["--t-min", "0.9"], "--t-min 0.9 must be below t_max 0.8 in"),
        (["--t-min", "-0.1"], "--t-min is -0.1"),
        (["--t-max", "0.3"], "t_min 0.4 in ... must be below --t-max 0.3"),
        (["--entropy-bound", "0"], "--entropy-bound is 0.0"),
        (["--entropy-bound", "-1"], "--entropy-bound is -1.0"),
        (["--entropy-bound", "nan"], "--entropy-bound is nan"),
        (["--stability", "-1"], "--stability is -1"),
        (["--confidence", "0"], "--confidence is 0.0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", str(2**64)], "--seed is 18446744073709551616"),
        (["--seed", "one"], "--seed"),
        (["--stop", ""], "--stop has ''"),
        (["--dtype", "int8"], "--dtype"),
        (["--top-p", "0.9"], "--top-p"),
        (["--stepps", "3"], "--steps"),
        (["--steps"], "--steps"),
        (["another prompt"], "another prompt"),
        (["--prompt-file", "puzzle.txt"], "PROMPT and --prompt-file are both given"),
    ],
)
def test_a_bad_option_is_one_line(run: Any, options: list[str], part: str) -> None:
    assert_one_line(run(*SOLVE, *options), 2, part)


def test_an_unknown_command_is_one_line(run: Any) -> None:
    assert_one_line(run("generat", "Hi"), 2, "generat", "mlx-diffgemma --help")


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_one_line(run: Any, tmp_path: Path, prompt: str) -> None:
    file = tmp_path / "empty"
    file.write_text(prompt)
    for source in (["generate", prompt], ["generate", "--prompt-file", file], ["generate"]):
        done = run(*source, "--model", "tiny-sudoku", input=prompt)
        assert_one_line(done, 1, "the prompt is empty")


def test_a_prompt_that_cannot_be_read_is_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"Gr\xfc\xdfe")
    for name, part in (("none", "No such file"), (".", "Is a directory"), ("latin", "0xfc at 2")):
        done = run("generate", "--prompt-file", tmp_path / name, "--model", "tiny-sudoku")
        assert_one_line(done, 1, "the prompt cannot be read", part)
    done = run("generate", "--model", "tiny-sudoku", input=b"Gr\xfc\xdfe")
    assert_one_line(done, 1, "standard input is not UTF-8")


def test_what_exceeds_the_context_is_one_line(run: Any) -> None:
    done = run(*SOLVE, "--max-tokens", "5000")
    assert_one_line(done, 1, "the model has 512", "lower --max-tokens")


# --- models


def test_a_missing_folder_is_one_line(run: Any, tmp_path: Path) -> None:
    for model in (tmp_path / "none", "none", ""):
        assert_one_line(run("generate", "Hi", "--model", model), 1)
        assert_one_line(run("info", model), 1)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_one_line(run: Any, sudoku_copy: Path, name: str) -> None:
    (sudoku_copy / name).unlink()
    assert_one_line(run("generate", "Hi", "--model", sudoku_copy), 1, str(sudoku_copy))
    assert_one_line(run("info", sudoku_copy), 1, str(sudoku_copy))


def test_a_missing_tokenizer_is_one_line(run: Any, sudoku_copy: Path) -> None:
    (sudoku_copy / "tokenizer.json").unlink()
    assert_one_line(run("generate", "Hi", "--model", sudoku_copy), 1, "tokenizer.json")


@pytest.mark.parametrize("size", [0, 7, 100, 20_000])
def test_a_truncated_file_is_one_line(run: Any, sudoku_copy: Path, size: int) -> None:
    file = sudoku_copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert_one_line(run("generate", "Hi", "--model", sudoku_copy), 1, "model.safetensors")
    assert_one_line(run("info", sudoku_copy), 1, "model.safetensors")


def test_another_model_is_refused_by_name(run: Any, sudoku_copy: Path) -> None:
    edit_json(sudoku_copy / "config.json", model_type="llama")
    assert_one_line(run("generate", "Hi", "--model", sudoku_copy), 1, "'llama'", "diffusion_gemma")
    assert_one_line(run("info", sudoku_copy), 1, "'llama'", "diffusion_gemma")


def test_broken_json_is_one_line(run: Any, sudoku_copy: Path) -> None:
    (sudoku_copy / "config.json").write_text("{\n")
    assert_one_line(run("generate", "Hi", "--model", sudoku_copy), 1, "config.json")
    assert_one_line(run("info", sudoku_copy), 1, "config.json")


@pytest.mark.parametrize("offline", [[], ["--offline"]])
def test_a_repository_that_is_not_here_is_one_line(run: Any, offline: list[str]) -> None:
    for command in (["generate", "Hi", "--model", "no/where"], ["info", "no/where"], ["info"]):
        done = run(*command, *offline)
        assert_one_line(done, 1, "not in the local cache", "--model tiny-chat")


def test_a_model_that_does_not_fit_is_refused_unless_forced(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 1_000)
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 1)
    assert_one_line(run(*command), 1, "this machine can give", "--force")
    assert run(*command, "--force").exit_code == 0


# --- the program itself


def test_help_names_commands_and_defaults(run: Any) -> None:
    done = run("--help")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "generate" in done.stdout
    assert "info" in done.stdout
    text = " ".join(run("generate", "--help").stdout.split())
    for part in ("48 for the published one", "0.1 for the published one", "0.8", "0.005", "nats"):
        assert part in text


def test_version(run: Any) -> None:
    import mlx_diffgemma

    assert run("--version").stdout == f"mlx-diffgemma {mlx_diffgemma.__version__}\n"


def test_help_imports_nothing_heavy(spawn: Any) -> None:
    for arguments in (["--help"], ["generate", "--help"], ["info", "--help"]):
        imported = spawn(*arguments, env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr.decode()
        names = {
            line.rpartition("|")[2].strip().partition(".")[0] for line in imported.splitlines()
        }
        assert "typer" in names
        assert names & LAZY == set()


def test_errors_below_a_command_are_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def load(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("mlx_diffgemma.conversation.loading.load_source", load)
        return run(*SOLVE)

    metal = "[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum."
    assert_one_line(fail(RuntimeError(metal)), 1, "out of memory", "metal::malloc")
    assert_one_line(fail(MemoryError()), 1, "out of memory;")
    assert_one_line(fail(OSError(5, "Input/output error", "/disk/file")), 1, "/disk/file: Input")
    assert isinstance(fail(RuntimeError("a bug")).exception, RuntimeError)


def test_a_model_without_a_chat_template_is_one_line(run: Any, sudoku_copy: Path) -> None:
    edit_json(sudoku_copy / "tokenizer_config.json", chat_template=None)
    assert_one_line(run("generate", PUZZLE, "--model", sudoku_copy), 1, "--raw")


@pytest.mark.parametrize(
    ("key", "value", "option", "good"),
    [
        ("max_denoising_steps", 0, "--steps", 5),
        ("sampler_config.entropy_bound", "x", "--entropy-bound", 0.1),
        ("t_min", True, "--t-min", 0.1),
        ("t_max", [0.8], "--t-max", 0.8),
        ("stability_threshold", 1.5, "--stability", 1),
        ("confidence_threshold", 1e308, "--confidence", 0.1),
    ],
)
def test_a_bad_value_in_generation_config_is_blamed_on_its_file(
    run: Any, sudoku_copy: Path, key: str, value: Any, option: str, good: float
) -> None:
    """Once `--steps is 0`, exit code 2, though nobody had typed it; the option helps."""
    (sudoku_copy / "model.safetensors").write_bytes(b"")
    file, name = sudoku_copy / "generation_config.json", key.rpartition(".")[2]
    edit_json(file, **({"sampler_config": {name: value}} if "." in key else {name: value}))
    command = ("generate", PUZZLE, "--model", sudoku_copy)
    for done in (run(*command), run("info", sudoku_copy)):
        assert_one_line(done, 1, f"{file}: {key} is", "expected", option)
    assert_one_line(run(*command, option, good), 1, "model.safetensors")  # the next fault


def test_a_sampler_option_that_is_wrong_is_named_as_typed(run: Any) -> None:
    """One mapping from fields to options serves every message; it once lacked seed and stop."""
    for command in (["generate", PUZZLE], ["chat"], ["fill", PUZZLE]):
        done = run(*command, "--model", "tiny-sudoku", "--seed", -1)
        assert_one_line(done, 2, "--seed is -1 ... from 0 to 18446744073709551615")


def test_settings_are_checked_before_weights_are_read(
    run: Any, random_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(random_folder, tmp_path / "folder"))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "generation_config.json").write_text(json.dumps({"t_max": 0.6}))
    done = run("generate", "Hi", "--model", folder, "--t-min", "0.7")
    file = folder / "generation_config.json"
    assert_one_line(done, 2, f"--t-min 0.7 must be below t_max 0.6 in {file}")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("generate", "Hi", "--system", "Be brief."), "--system"),
        (("generate", "Hi", "--think"), "--think"),
        (("generate", "Hi", "--system", "Be brief.", "--think"), "--system and --think"),
        (("fill", "a[[1]]", "--system", "Be brief."), "--system"),
    ],
)
def test_raw_drops_no_other_option(run: Any, arguments: tuple[str, ...], named: str) -> None:
    """Said before a model is looked for; --raw took them away without a word."""
    done = run(*arguments, "--raw", "--model", "no/such/folder")
    assert_one_line(done, 2, named, "cannot go with --raw")


@pytest.mark.parametrize("command", ["convert tiny-sudoku x", "info tiny-sudoku", "selftest"])
def test_a_report_has_no_draft_to_keep(run: Any, command: str) -> None:
    """An option that a command does not know is refused, not taken and left out."""
    assert_one_line(run(*command.split(), "--keep-draft"), 2, "--keep-draft")


# --- modes


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (("--temperature", 0.5), "--temperature ... ar or auto ... diffusion ... --mode"),
        (("--temperature", 0), "--temperature ... ar or auto ... diffusion ... --mode"),
        (("--top-k", 0), "--top-k ... ar or auto ... diffusion ... --mode"),
        (("--lookup",), "--lookup ... ar or auto ... diffusion ... --mode"),
        (("--mode", "ar", "--steps", 3), "--steps ... diffusion or auto ... ar ... --mode"),
        (("--mode", "ar", "--t-min", 0), "--t-min ... diffusion or auto ... ar ... --mode"),
        (("--mode", "ar", "--auto-times", "1,2"), "--auto-times ... auto ... ar ... --mode auto"),
        (("--mode", "ar", "--top-k", -1), "--top-k is -1 ... at least 0"),
        (("--mode", "ar", "--top-p", 0), "--top-p is 0.0 ... above 0 up to 1"),
        (("--mode", "ar", "--temperature", "nan"), "--temperature is nan ... at least 0"),
        (("--mode", "auto", "--auto-times", "1"), "--auto-times ... 1.0 ... 447,18.1"),
        (("--mode", "auto", "--auto-times", "a,b"), "--auto-times is 'a,b' ... STEP_MS,TOKEN_MS"),
        (("--mode", "auto", "--auto-times", "-1,2"), "--auto-times ... -1.0 ... above 0"),
        (("--mode", "auto", "--auto-times", "inf,inf"), "--auto-times ... inf ... at most one"),
        (("--mode", "AR"), "--mode ... 'AR' ... 'diffusion', 'ar', 'auto'"),
    ],
)
def test_an_option_of_another_mode_is_bad_usage(
    run: Any, options: tuple[object, ...], facts: str
) -> None:
    """Before a model is looked for."""
    assert_one_line(run("generate", "Hi", "--model", "no/where", *options), 2, facts)


def test_a_mode_that_a_checkpoint_does_not_have_is_refused_before_it_is_loaded(run: Any) -> None:
    for command in (("generate", "."), ("chat",)):
        done = run(*command, "--model", "tiny-sudoku", "--mode", "ar")
        assert_one_line(done, 2, "tiny-sudoku ... next-token loss ... --mode is ar ... diffusion")


@pytest.mark.parametrize("option", ["--mode", "--temperature", "--lookup", "--auto-times"])
def test_a_template_has_no_mode(run: Any, option: str) -> None:
    """It is always denoised: its help does not show what it does not take."""
    assert option not in run("fill", "--help").stdout.replace("--model", "")
    assert option in run("generate", "--help").stdout
    assert_one_line(run("fill", "[[...]]", option, "1"), 2, f"No such option: {option}")


COMMANDS = ("generate", "chat", "fill", "serve", "finetune", "eval", "fuse", "info", "profile")


@pytest.mark.parametrize("command", COMMANDS)
def test_m_is_short_for_model(run: Any, command: str) -> None:
    assert "-m, --model MODEL" in run(command, "--help").stdout


def test_the_short_name_means_the_same(run: Any, random_folder: Path) -> None:
    command = ("generate", "Hi", "--max-tokens", 8, "--seed", 1)
    assert (
        run(*command, "-m", random_folder).stdout == run(*command, "--model", random_folder).stdout
    )
    assert run("info", "-m", random_folder).stdout == run("info", random_folder).stdout


def test_info_takes_one_model(run: Any) -> None:
    assert_one_line(run("info", "tiny-chat", "-m", "tiny-chat"), 2, "MODEL", "--model")
