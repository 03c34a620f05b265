"""The config file's values as defaults of options: where they count, rest, and are wrong."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main
from puzzle import PUZZLE, assert_one_line

from mlx_diffgemma.cli.app import app
from mlx_diffgemma.cli.configured import ConfiguredCommand
from mlx_diffgemma.machine.user_config import KEYS, config_file

ASK = ("generate", "What is 17 + 25?")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def configure() -> Callable[..., Path]:
    """Writes the config file; its path."""

    def call(**values: object) -> Path:
        file = config_file()
        assert file is not None
        file.parent.mkdir(exist_ok=True)
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        file.write_text("".join(lines))
        return file

    return call


class Asked(Exception):  # noqa: N818 - no error
    """What a session was asked for, by the names of its arguments."""


class FakeSession:
    """A session that only notes what it is asked for."""

    def turn(self, text: str, **asked: Any) -> None:
        raise Asked(vars(asked["settings"]) | asked)

    def restore(self, messages: Any, system: str | None) -> None:
        raise Asked({"system": system})


@pytest.fixture
def asked(run: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs a command up to its question; what it asks for."""
    loading = "mlx_diffgemma.cli.answer.loading.load_session"
    monkeypatch.setattr(loading, lambda *_: FakeSession())

    def call(*arguments: object) -> dict[str, Any]:
        done = run(*arguments)
        assert isinstance(done.exception, Asked), done.stderr
        return dict(done.exception.args[0])

    return call


def options_of_groups() -> set[str]:
    """The fields of all groups of options."""
    modules = [
        import_module(f"mlx_diffgemma.cli.{name}")
        for name in ("options", "settings_options", "profile.options", "chat.options", "generate")
    ]
    groups = [each for module in modules for each in vars(module).values() if is_dataclass(each)]
    return {field.name for group in groups for field in fields(group)}


def test_every_key_is_the_field_of_an_option() -> None:
    assert set(KEYS) <= options_of_groups()


def test_every_command_that_answers_takes_what_it_has() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    taking = {name for name, each in commands.items() if isinstance(each, ConfiguredCommand)}
    assert taking == {"generate", "chat", "fill", "replay"}


# --- which value counts


def test_values_of_the_file_are_defaults(asked: Any, configure: Any) -> None:
    configure(model="tiny-chat", mode="ar", seed=7, max_tokens=100, think=True, system="Be brief.")
    got = asked(*ASK)
    assert (got["mode"], got["seed"], got["max_tokens"]) == ("ar", 7, 100)
    assert (got["think"], got["system"]) == (True, "Be brief.")


def test_what_is_typed_comes_first(asked: Any, configure: Any) -> None:
    configure(model="no/where", mode="ar", seed=7, think=True, system="Be brief.")
    typed = ("--model", "tiny-chat", "--mode", "diffusion", "--seed", 8, "--no-think")
    got = asked(*ASK, *typed, "--system", "")
    assert (got["mode"], got["seed"]) == ("diffusion", 8)
    assert (got["think"], got["system"]) == (False, "")


def test_a_value_that_is_the_default_typed_counts_as_typed(asked: Any, configure: Any) -> None:
    """`--mode diffusion` is what counts without a file, and was typed all the same."""
    configure(model="tiny-chat", mode="ar")
    got = asked(*ASK, "--mode", "diffusion", "--steps", 3)
    assert (got["mode"], got["max_denoising_steps"]) == ("diffusion", 3)


def test_an_answer_is_made_with_them(run: Any, configure: Any) -> None:
    configure(model="tiny-chat", mode="ar", seed=7, max_tokens=3)
    done = run(*ASK, "--json")
    assert done.exit_code == 0, done.stderr
    got = json.loads(done.stdout)
    assert (got["mode"], got["seed"], got["generated_tokens"]) == ("ar", 7, 3)


# --- a value rests where it does not go with the rest


def test_raw_has_no_use_for_system_and_think(run: Any, asked: Any, configure: Any) -> None:
    """A file with a system text once made `--raw` a wrong argument."""
    configure(model="tiny-chat", system="Be brief.", think=True, seed=1)
    got = asked(*ASK, "--raw")
    assert (got["system"], got["think"], got["seed"]) == (None, False, 1)
    assert_one_line(run(*ASK, "--raw", "--system", "x"), 2, "--system cannot go with --raw")


def test_a_mode_rests_beside_an_option_of_another(run: Any, asked: Any, configure: Any) -> None:
    configure(model="tiny-chat", mode="ar")
    assert asked(*ASK, "--steps", 3)["mode"] == "diffusion"
    assert asked(*ASK, "--top-k", 3)["mode"] == "ar"
    configure(model="tiny-chat", mode="diffusion")
    done = run(*ASK, "--top-k", 3)
    assert_one_line(done, 2, "--top-k is for mode ar or auto ... --mode ar or auto")


def test_a_model_of_one_task_is_asked_in_its_own_way(asked: Any, configure: Any) -> None:
    """With a system text or a thought, for which it was not trained, it errs more often."""
    configure(model="tiny-sudoku", mode="ar", system="Be brief.", think=True, max_tokens=4000)
    got = asked("generate", PUZZLE)
    assert (got["mode"], got["max_tokens"]) == ("diffusion", None)
    assert (got["system"], got["think"]) == (None, False)


def test_a_conversation_that_is_loaded_keeps_its_system_text(
    asked: Any, configure: Any, tmp_path: Path
) -> None:
    file = tmp_path / "talk.json"
    file.write_bytes((ROOT / "docs/examples/conversation.json").read_bytes())
    configure(model="tiny-chat", system="Of the file.")
    assert asked("chat", "--load", file)["system"] == "Answer in one or two sentences."
    assert asked("chat")["system"] == "Of the file."


def test_more_tokens_than_the_model_holds_are_as_many_as_fit(
    run: Any, asked: Any, configure: Any
) -> None:
    configure(model="tiny-chat", max_tokens=5000)
    assert asked(*ASK)["max_tokens"] is None
    assert asked(*ASK, "--max-tokens", 5000)["max_tokens"] == 5000


# --- a value that is wrong


def test_a_value_that_is_no_choice_names_file_and_key(run: Any, asked: Any, configure: Any) -> None:
    """Once `Invalid value for '--mode'`, which nobody had typed."""
    file = configure(seed=1, mode="fast")
    facts = f"{file} line 2: mode is 'fast', expected diffusion, ar or auto"
    assert_one_line(run("generate", "Hi"), 1, facts)
    assert_one_line(run("info", "tiny-chat", "--settings"), 1, f"{file} line 2: mode is 'fast'")
    assert asked(*ASK, "--model", "tiny-chat", "--mode", "ar")["seed"] == 1


def test_a_value_out_of_its_range_names_file_and_key(run: Any, configure: Any) -> None:
    file = configure(max_tokens=0)
    facts = f"{file} line 1: max_tokens is 0, expected a whole number of at least 1"
    for command in (("generate", "Hi"), ("chat",), ("info", "tiny-chat", "--settings")):
        assert_one_line(run(*command), 1, facts)
    assert_one_line(run("generate", "Hi", "--max-tokens", 0), 2, "--max-tokens is 0")


def test_a_value_that_does_not_fit_is_blamed_on_the_file(run: Any, configure: Any) -> None:
    file = configure(model="tiny-chat", max_tokens=1900)
    done = run("generate", "one " * 300)
    assert_one_line(done, 1, "the model has 2,048 ... lower max_tokens", f"({file} line 2)")


@pytest.mark.parametrize(
    "command", [("generate", "Hi"), ("chat",), ("fill", "a [[1]]"), ("info",), ("eval",)]
)
def test_a_broken_file_is_one_line(run: Any, configure: Any, command: tuple[str, ...]) -> None:
    file = configure()
    file.write_text("seed = 1\nmax_token = 400\n")
    if command == ("eval",):
        cases = file.with_name("cases.jsonl")
        cases.write_text('{"prompt": "Hi", "completion": "Hello"}\n')
        command = ("eval", "--data", str(cases))
    facts = f"{file} line 2: max_token is no key of this file; did you mean max_tokens?"
    assert_one_line(run(*command), 1, facts)


@pytest.mark.parametrize(
    "command", ["--help", "--version", "generate --help", "help config", "info tiny-chat"]
)
def test_who_needs_no_value_does_not_read_the_file(run: Any, configure: Any, command: str) -> None:
    configure().write_text("broken")
    done = run(*command.split())
    assert done.exit_code == 0, done.stderr
    assert "config.toml" not in done.stderr
