"""A puzzle that tiny-sudoku solves with seed 1, and what every failing command must look like."""

from typing import Any

from facts import assert_says

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = (
    "534678912\n672195348\n198342567\n859761423\n426853791\n713924856\n961537284\n287419635\n"
    "345286179\n"
)
SOLVE = ("generate", PUZZLE, "--model", "tiny-sudoku", "--seed", "1")


def assert_one_line(result: Any, code: int, *facts: object) -> None:
    """Exit code, empty standard output, and one line on standard error: `error:` and the facts."""
    stdout, stderr = (_text(part) for part in (result.stdout, result.stderr))
    got = result.exit_code if hasattr(result, "exit_code") else result.returncode
    assert (got, stdout) == (code, ""), stderr
    assert stderr.startswith("error: "), stderr
    assert stderr.endswith("\n"), stderr
    assert_says(stderr[:-1], "error:", *facts)


def _text(output: str | bytes) -> str:
    return output.decode() if isinstance(output, bytes) else output
