"""Messages on standard error: one line in a pipe, rows of whole words on a terminal."""

import pytest
from rich.cells import cell_len

from mlx_diffgemma.cli.terminal import streams

PATH = "/a/folder/with/a/long/name/model-00001-of-00003.safetensors"
ERROR = f"error: {PATH}: 12 bytes, expected 1,024; the file is cut off, fetch it again."


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(streams, "is_terminal", lambda stream: True)
    return monkeypatch


@pytest.mark.parametrize("columns", [1, 20, 40, 79])
def test_a_pipe_gets_one_line(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    streams.say(ERROR)
    assert capsys.readouterr().err == ERROR + "\n"


@pytest.mark.parametrize("columns", [5, 20, 40, 79, 200])
def test_a_terminal_breaks_it_between_words(
    columns: int, terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors were broken by the terminal, within words."""
    terminal.setenv("COLUMNS", str(columns))
    streams.say(ERROR)
    rows = capsys.readouterr().err.splitlines()
    assert " ".join(rows).split() == ERROR.split()
    for row in rows:
        assert cell_len(row) <= columns or max(map(len, row.split())) > columns - 20, row
    assert sum(PATH in row for row in rows) == 1  # whole, to be copied


def test_a_draft_is_dim(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "20")
    streams.tell("three words  here, and more", dim=True)
    assert capsys.readouterr().err == "\x1b[2mthree words  here,\nand more\x1b[0m\n"


def test_a_column_stays_a_column(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns, expected in (
        (24, "/seed     shows or sets\n          the seed\n"),
        (16, "/seed     shows\nor sets the seed\n"),
    ):
        terminal.setenv("COLUMNS", str(columns))
        streams.tell("/seed     shows or sets the seed", 10)
        assert capsys.readouterr().err == expected
