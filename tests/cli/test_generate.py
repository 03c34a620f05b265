"""`generate`: what comes out, and where."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from checkpoints import edit_json
from facts import assert_says
from puzzle import PUZZLE, SOLUTION, SOLVE, assert_one_line
from reply_keys import INNER_KEYS, REPLY_KEYS

import mlx_diffgemma as dg
from mlx_diffgemma.cli.answer.turn import summary


def as_json(result: Any) -> dict[str, Any]:
    """The one object on standard output."""
    assert result.stdout.count("\n") == 1
    value = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    assert isinstance(value, dict)
    return value


def timeless(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply without what differs from run to run."""
    measured = ("seconds", "tokens_per_second", "positions_per_second", "peak_memory_bytes")
    segments = [{**segment, "seconds": 0.0} for segment in reply["segments"]]
    kept = {key: value for key, value in reply.items() if key not in measured}
    return {**kept, "segments": segments}


# --- text


def test_a_puzzle_is_solved_on_standard_output_alone(spawn: Any) -> None:
    done = spawn(*SOLVE)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, SOLUTION, b"")


@pytest.mark.parametrize("form", [PUZZLE.replace(".", "0"), f" {PUZZLE[:40]}\n{PUZZLE[40:]}\n"])
def test_a_puzzle_may_come_through_standard_input(run: Any, form: str) -> None:
    for argument in ([], ["-"]):
        done = run("generate", *argument, "--model", "tiny-sudoku", "--seed", 1, input=form)
        assert (done.exit_code, done.stdout, done.stderr) == (0, SOLUTION, "")


def test_a_puzzle_may_come_from_a_file(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "puzzle.txt"
    file.write_text(f"\ufeff{PUZZLE}\r\n", encoding="utf-8")
    done = run("generate", "--prompt-file", file, "--model", "tiny-sudoku", "--seed", 1)
    assert (done.exit_code, done.stdout) == (0, SOLUTION)


def test_other_standard_input_is_left_alone(run: Any) -> None:
    assert run(*SOLVE, input="not a puzzle").stdout == SOLUTION


def test_standard_input_that_is_not_read_is_said(spawn: Any) -> None:
    """`git diff | ... generate PROMPT` left the diff out without a word."""
    done = spawn(*SOLVE, input=b"a diff")
    assert (done.returncode, done.stdout.decode()) == (0, SOLUTION)
    (line,) = done.stderr.decode().splitlines()
    assert_says(line, "note ... standard input ... not read ... - beside PROMPT")


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("123", "3 of 81 cells"),
        ("55" + PUZZLE[2:], "row 1 has two 5s"),
        ("x" + PUZZLE[1:], "'x' at line 1, character 1"),
    ],
)
def test_what_is_no_puzzle_is_one_line(run: Any, prompt: str, line: str) -> None:
    assert_one_line(run("generate", prompt, "--model", "tiny-sudoku"), 1, line)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--steps", 1), "row 1 has two 4s ... steps ... --steps than 1"),
        (("--max-tokens", 40), "36 digits, expected 81 ... cut at 40 tokens ... --max-tokens 90"),
    ],
)
def test_a_wrong_solution_is_not_shown(run: Any, options: tuple[object, ...], cause: str) -> None:
    """The line names the cause: another seed was offered where none could help."""
    done = run("generate", PUZZLE, *SOLVE[2:], *options)
    assert_one_line(done, 1, "not a valid solution", cause)
    assert "another --seed" not in done.stderr


def test_another_seed_is_offered_where_it_can_help(run: Any, sudoku_copy: Path) -> None:
    """The checkpoint's own steps were all taken, and the puzzle has a solution."""
    edit_json(sudoku_copy / "generation_config.json", max_denoising_steps=1)
    done = run("generate", PUZZLE, "--model", sudoku_copy, "--seed", 1)
    assert_one_line(done, 1, "not a valid solution ... row 1 has two 4s ... try another --seed")


def test_a_puzzle_without_a_solution_is_called_so(run: Any) -> None:
    done = run("generate", "532" + PUZZLE[3:], *SOLVE[2:], "--steps", 1)
    assert_one_line(done, 1, "not a valid solution", "the puzzle has no solution")
    assert "--seed" not in done.stderr


def test_an_answer_that_is_cut_says_so(run: Any, random_folder: Path) -> None:
    """One line with the way on; JSON has it in finish_reason."""
    base = ("generate", "Hi", "--model", random_folder, "--seed", 3)
    cut = run(*base, "--max-tokens", 12)
    assert_says(cut.stderr[:-1], "cut at 12 tokens ... --max-tokens 24 --seed 3")
    more = run(*base, "--max-tokens", 24)
    assert more.stdout.startswith(cut.stdout[:-1])
    assert len(more.stdout) > len(cut.stdout)
    done = run(*base, "--max-tokens", 12, "--json")
    assert (done.stderr, as_json(done)["finish_reason"]) == ("", "length")
    seen = run(*base, "--max-tokens", 1, "--visual").stderr.splitlines()[-2:]
    assert_says(seen[0], "cut at 1 token ... --max-tokens 8")
    assert_says(seen[1], "1 token in ... 3 steps, cut at --max-tokens, seed 3")


def test_an_answer_that_fills_the_context_says_so(run: Any, random_folder: Path) -> None:
    done = run("generate", "x" * 2030, "--raw", "--model", random_folder, "--seed", 3)
    assert_says(done.stderr[:-1], "cut at 16 tokens, the context is full; shorten the prompt")


def test_a_solution_with_all_its_digits_was_not_cut(run: Any) -> None:
    done = run(*SOLVE, "--max-tokens", 89)  # one fewer than with the end
    assert (done.exit_code, done.stdout, done.stderr) == (0, SOLUTION, "")


def test_a_draft_is_no_part_of_the_json(run: Any) -> None:
    assert_one_line(run(*SOLVE, "--keep-draft", "--json"), 2, "--keep-draft and --json ... --trace")


def test_a_wrong_solution_is_data(run: Any) -> None:
    done = run(*SOLVE, "--steps", 1, "--json")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: not a valid solution: ")
    assert done.stderr.count("\n") == 1
    assert as_json(done)["steps"] == [1]


def test_text_ends_with_one_line_break(run: Any, random_folder: Path) -> None:
    arguments = ("generate", "Hi", "--model", random_folder, "--max-tokens", 20, "--seed", 3)
    text = as_json(run(*arguments, "--json"))["text"]
    assert run(*arguments).stdout == text + ("" if text.endswith("\n") else "\n")


def test_raw_takes_a_prompt_as_it_is(run: Any) -> None:
    base = ("generate", "12", "--raw", "--model", "tiny-sudoku", "--max-tokens", 1, "--steps", 1)
    assert as_json(run(*base, "--json"))["prompt_tokens"] == 2
    assert run(*base).exit_code == 0  # no puzzle, so nothing to be wrong about


def test_the_system_text_is_part_of_the_prompt(run: Any, random_folder: Path) -> None:
    base = ("generate", "Hi", "--model", random_folder, "--max-tokens", 1, "--json")
    longer = as_json(run(*base, "--system", "Be short."))["prompt_tokens"]
    assert longer > as_json(run(*base))["prompt_tokens"]


def test_a_stop_text_ends_the_answer(run: Any, random_folder: Path) -> None:
    base = ("generate", "Hi", "--model", random_folder, "--max-tokens", 16, "--seed", 3, "--json")
    text = as_json(run(*base))["text"]
    stop = text[3:5]
    reply = as_json(run(*base, "--stop", stop, "--stop", "never there"))
    assert (reply["text"], reply["finish_reason"]) == (text[: text.index(stop)], "stop")
    assert reply["sampler"]["stop"] == [stop, "never there"]


# --- JSON


def test_json_has_exactly_the_promised_keys(run: Any) -> None:
    reply = as_json(run(*SOLVE, "--json"))
    assert list(reply) == REPLY_KEYS
    assert list(reply["seconds"]) == INNER_KEYS["seconds"]
    assert list(reply["sampler"]) == INNER_KEYS["sampler"]
    assert list(reply["model"]) == ["path", "revision", "quantization", "layers", "parameters"]
    assert reply["kernels"] in ("ops", "metal")
    assert reply["version"] == dg.__version__
    assert reply["text"] + "\n" == SOLUTION
    assert (reply["thinking"], reply["tool_calls"], reply["finish_reason"]) == (None, [], "stop")
    assert reply["generated_tokens"] == len(reply["token_ids"]) == 90
    assert reply["canvases"] == len(reply["steps"]) == 1


@pytest.fixture(params=["copy", "converted"])
def other_sudoku(request: pytest.FixtureRequest) -> Path:
    """tiny-sudoku from another folder than its own."""
    name = {"copy": "sudoku_copy", "converted": "sudoku_8bit"}[request.param]
    return cast(Path, request.getfixturevalue(name))


@pytest.mark.slow
def test_a_copy_and_a_conversion_know_their_task(run: Any, other_sudoku: Path) -> None:
    """Once they took a puzzle for any text and answered with nonsense, exit code 0."""
    done = run("generate", PUZZLE, "--model", other_sudoku, "--seed", 1)
    assert (done.exit_code, done.stdout, done.stderr) == (0, SOLUTION, "")
    done = run("fill", PUZZLE, "--model", other_sudoku, "--seed", 1)
    assert (done.exit_code, done.stdout) == (0, SOLUTION)
    done = run("generate", PUZZLE, "--model", other_sudoku, "--seed", 1, "--steps", 1)
    assert_one_line(done, 1, "not a valid solution")
    for command in ("generate", "fill"):
        done = run(command, "Why is the sky blue?", "--model", other_sudoku)
        assert_one_line(done, 1, "no part of a puzzle")
    done = run(
        "generate", "Why?", "--model", other_sudoku, "--raw", "--max-tokens", 1, "--steps", 1
    )
    assert done.exit_code == 0


def test_a_task_of_another_version_is_one_line(run: Any, sudoku_copy: Path) -> None:
    edit_json(sudoku_copy / "config.json", mlx_diffgemma={"task": "chess"})
    for command in ("generate", "fill"):
        done = run(command, PUZZLE, "--model", sudoku_copy)
        assert_one_line(done, 1, "mlx_diffgemma.task ... 'chess' ... sudoku")


def test_a_seed_gives_the_same_answer(run: Any) -> None:
    first, second = (as_json(run(*SOLVE, "--json")) for _ in range(2))
    assert timeless(first) == timeless(second)
    assert first["seed"] == 1


@pytest.mark.slow
def test_without_a_seed_each_answer_has_its_own(run: Any) -> None:
    base = ("generate", PUZZLE, "--model", "tiny-sudoku", "--json")
    first, second = (as_json(run(*base)) for _ in range(2))
    assert first["seed"] != second["seed"]
    again = as_json(run(*base, "--seed", first["seed"]))
    assert timeless(again) == timeless(first)


def test_every_option_reaches_the_sampler(run: Any) -> None:
    settings = {
        "max_tokens": ("--max-tokens", 89),
        "max_denoising_steps": ("--steps", 40),
        "entropy_bound": ("--entropy-bound", 0.2),
        "t_min": ("--t-min", 0.3),
        "t_max": ("--t-max", 0.7),
        "stability_threshold": ("--stability", 0),
        "confidence_threshold": ("--confidence", 0.01),
    }
    options = [part for option in settings.values() for part in option]
    reply = as_json(run(*SOLVE, *options, "--exact-self-conditioning", "--json"))
    expected = {name: value for name, (_, value) in settings.items()}
    assert reply["sampler"] == expected | {
        "stop": [],
        "exact_self_conditioning": True,
        "ar": None,
    }


def test_unset_options_are_the_checkpoints(run: Any, random_folder: Path) -> None:
    reply = as_json(run("generate", "Hi", "--model", random_folder, "--max-tokens", 1, "--json"))
    assert reply["sampler"]["max_denoising_steps"] == 3


def test_dtype_is_what_is_computed_in(run: Any, random_folder: Path) -> None:
    base = ("generate", "Hi", "--model", random_folder, "--max-tokens", 8, "--seed", 1, "--json")
    assert run(*base, "--dtype", "bfloat16").exit_code == 0


def test_the_default_model_comes_from_the_environment(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    assert run("generate", PUZZLE, "--seed", 1).stdout == SOLUTION


# --- the view


def test_the_view_goes_to_standard_error(run: Any) -> None:
    done = run(*SOLVE, "--visual")
    assert (done.exit_code, done.stdout) == (0, SOLUTION)
    *steps, last = done.stderr.splitlines()
    assert all(
        line.startswith(f"canvas 1 step {n:>2}/48  accepted ") for n, line in enumerate(steps, 1)
    )
    assert last.endswith(f"{len(steps)} steps, seed 1")


def test_without_a_terminal_there_is_no_view(run: Any) -> None:
    assert run(*SOLVE).stderr == ""
    assert run(*SOLVE, "--no-visual").stderr == ""


def test_what_a_template_ignores_is_one_line_beside_the_answer(
    run: Any, random_folder: Path
) -> None:
    base = ("generate", "Hi", "--model", random_folder, "--seed", 1, "--max-tokens", 8)
    plain, noted = run(*base), run(*base, "--think")
    assert (noted.exit_code, noted.stdout) == (0, plain.stdout)
    note, rest = noted.stderr.split("\n", 1)
    assert_says(note, "note: the chat template ignores think")
    assert rest == plain.stderr


# --- modes


@pytest.mark.parametrize(
    ("mode", "segments", "canvases"),
    [
        (("diffusion",), ["diffusion"], 1),
        (("ar",), ["ar"], 0),
        (("auto", "--auto-times", "inf,1"), ["ar"], 0),
        (("auto", "--auto-times", "1,inf"), ["diffusion"], 1),
    ],
)
def test_each_mode_answers(
    run: Any, mode: tuple[str, ...], segments: list[str], canvases: int
) -> None:
    given = ("--model", "tiny-chat", "--seed", 1, "--json")
    reply = as_json(run("generate", "What is 17 + 25?", *given, "--mode", *mode))
    assert (reply["text"], reply["mode"]) == ("17 + 25 = 42.", mode[0])
    assert (reply["finish_reason"], reply["generated_tokens"]) == ("stop", 14)
    assert [segment["mode"] for segment in reply["segments"]] == segments
    assert (reply["canvases"], len(reply["steps"])) == (canvases, canvases)
    assert (reply["sampler"]["ar"] is None) == (mode[0] == "diffusion")
    assert (reply["router"] is None) == (mode[0] != "auto")
    if mode[0] == "auto":
        times = [reply["router"][name] for name in ("step_ms", "token_ms")]
        assert times == [None if given == "inf" else 1.0 for given in mode[2].split(",")]
        assert [each["mode"] for each in reply["router"]["decisions"]] == segments


def test_options_of_mode_ar_reach_its_sampler(run: Any, random_folder: Path) -> None:
    options = ("--temperature", 0.5, "--top-k", 0, "--top-p", 0.5, "--min-p", 0)
    given = ("generate", "Hi", "--model", random_folder, "--max-tokens", 2, "--seed", 1, "--json")
    reply = as_json(run(*given, "--mode", "ar", *options))
    assert reply["sampler"]["ar"] == {"temperature": 0.5, "top_k": 0, "top_p": 0.5, "min_p": 0.0}


def test_an_answer_is_summed_up_in_each_mode(random_folder: Path) -> None:
    """A terminal's last line; here of what a Reply says."""
    session = dg.load(random_folder)
    for settings, way in (
        (dg.Settings(seed=1, max_tokens=8), "tokens/s, 3 steps, cut at --max-tokens, seed 1"),
        (dg.Settings(seed=1, max_tokens=3, mode="ar"), "tokens/s, ar, cut at --max-tokens, seed 1"),
        (
            dg.Settings(seed=1, max_tokens=9, mode="auto", auto_times=(1, 1000)),
            "tokens/s, auto: 3 steps and 1 token by ar, cut at --max-tokens, seed 1",
        ),
    ):
        session.reset()
        assert summary(session.ask("Hi", settings=settings)).endswith(way)
