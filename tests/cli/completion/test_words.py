"""The words that may stand at the cursor."""

from pathlib import Path

import pytest

from mlx_diffgemma.assets import EMBEDDED
from mlx_diffgemma.cli.app import app
from mlx_diffgemma.cli.completion.scripts import SHELLS
from mlx_diffgemma.cli.completion.words import Offer, offer, program_of
from mlx_diffgemma.cli.help.topics import TOPICS
from mlx_diffgemma.generation.settings import MODES

PROGRAM = program_of(app)
NAMES = {info.name for info in (*app.registered_commands, *app.registered_groups)}


def offered(line: str) -> Offer:
    """What is offered at the end of a line, which may end in a blank."""
    *words, current = line.split(" ")
    return offer(PROGRAM, words, current)


def words(line: str) -> list[str]:
    return [word for word, _ in offered(line).words]


def test_commands_come_first_with_their_help() -> None:
    assert set(words("")) == NAMES
    assert all(text for _, text in offered("").words)
    assert words("profile ") == ["compare"]


def test_every_option_of_a_command_is_offered() -> None:
    """Compared with what Typer makes of the same functions."""
    import typer.main

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o[0] == "-"}
        assert set(words(f"{name} -")) == known | {"--help"}, name


def test_an_option_that_is_typed_is_not_offered_again() -> None:
    assert "--seed" not in words("generate --seed 3 -")
    assert "--think" not in words("generate --no-think -")
    assert "--stop" in words("generate --stop a -")


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("generate --mode ", MODES),
        ("generate --mode=", MODES),
        ("generate --mode = ", MODES),  # as bash splits it
        ("generate --seed 3 --mode d", MODES),
        ("generate --dtype ", ("float32", "bfloat16", "float16")),
        ("fuse --quantize ", ("keep", "4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4")),
        ("help ", tuple(TOPICS)),
        ("--show-completion ", SHELLS),
        ("generate --system ", ()),
        ("generate ", ()),
        ("generate --think= ", ()),
        ("nonsense --mode ", ()),
        ("info tiny-chat --context 3 ", ()),
    ],
)
def test_values_are_those_of_the_option(line: str, values: tuple[str, ...]) -> None:
    got = offered(line)
    assert tuple(word for word, _ in got.words)[: len(values)] == values
    assert bool(values) == bool(got.words)
    assert not got.files


@pytest.mark.parametrize(
    "line",
    [
        "generate --prompt-file ",
        "generate --image a.png --image ",
        "replay ",
        "convert tiny-chat ",
        "profile compare a.json ",
        "finetune --data ",
    ],
)
def test_files_are_left_to_the_shell(line: str) -> None:
    assert offered(line) == Offer(files=True)


def test_a_dash_behind_two_is_no_option() -> None:
    assert offered("replay -- -") == Offer(files=True)


# --- models


@pytest.mark.parametrize(
    "line", ["generate --model ", "chat --model=", "info ", "convert ", "eval --model "]
)
def test_models_are_embedded_cached_and_in_folders(line: str, hub: Path) -> None:
    got = offered(line)
    assert [word for word, _ in got.words] == [*EMBEDDED, "owner/na-me"]
    assert got.files


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache with one model and one data set."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--owner--na-me").mkdir()
    (tmp_path / "datasets--owner--data").mkdir()
    return tmp_path


def test_without_a_cache_there_are_the_embedded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert words("info ") == [*EMBEDDED]
