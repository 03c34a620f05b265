"""`help`: topics of one screen that stay true, and the help of commands."""

import re
from typing import Any

import pytest
import typer.main
from puzzle import assert_one_line

from mlx_diffgemma.checkpoint.generation import SamplerDefaults, TokenDefaults
from mlx_diffgemma.cli.app import app
from mlx_diffgemma.cli.help.page import page_lines
from mlx_diffgemma.cli.help.topics import TOPICS

ROWS = 24
COMMAND = re.compile(r"`?mlx-diffgemma (\w+)")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {
    name
    for command in (*COMMANDS.values(), typer.main.get_command(app))
    for parameter in command.params
    for name in (*parameter.opts, *parameter.secondary_opts)
}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_one_screen(run: Any, topic: str) -> None:
    done = run("help", topic)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert 5 < len(lines) < ROWS
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_names_options_and_commands_that_there_are(run: Any, topic: str) -> None:
    text = run("help", topic).stdout
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= OPTIONS
    assert set(COMMAND.findall(text)) <= {*COMMANDS, "MODEL"}


def test_sampling_has_the_numbers_of_the_code(run: Any) -> None:
    text = run("help", "sampling").stdout
    for value in (*vars(SamplerDefaults()).values(), *vars(TokenDefaults()).values()):
        assert re.search(rf"--[a-z-]+ {value:g}\b", text), value


def test_a_narrow_window_gets_narrow_lines() -> None:
    for topic in TOPICS.values():
        words = [row[0] for rows in topic.blocks() if not isinstance(rows, str) for row in rows]
        for line in page_lines(topic.blocks(), 40):
            assert len(line) <= 40 or " " not in line.strip() or line.strip() in words


def test_no_word_is_lost_where_it_is_narrow() -> None:
    def words(columns: int) -> list[str]:
        return [word for line in page_lines(blocks, columns) for word in line.split()]

    for topic in TOPICS.values():
        blocks = topic.blocks()
        assert words(30) == words(80)


def test_alone_it_lists_topics_and_commands(run: Any) -> None:
    text = run("help").stdout
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert rows == [*TOPICS, *COMMANDS]


@pytest.mark.parametrize("command", [["generate"], ["profile"], ["profile", "compare"], ["help"]])
def test_help_of_a_command_is_its_own(run: Any, command: list[str]) -> None:
    assert run("help", *command).stdout == run(*command, "--help").stdout


def test_an_unknown_topic_names_the_nearest(run: Any) -> None:
    assert_one_line(run("help", "sampilng"), 2, "'sampilng' ... did you mean sampling?")
    assert_one_line(run("help", "Generat"), 2, "'Generat' ... did you mean generate?")
    assert_one_line(run("help", "profile", "compar"), 2, "'compar' ... did you mean compare?")
    assert_one_line(run("help", "xyz"), 2, "'xyz' ... mlx-diffgemma help")
    assert_one_line(run("help", "keys", "memory"), 2, "one topic, got 2")
