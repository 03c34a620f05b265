"""The user's config file: what it says, and one line on all that may be wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says, raises

from mlx_diffgemma.errors import ConfigFileError
from mlx_diffgemma.machine.user_config import config_file, read_user_config

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the config file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "mlx-diffgemma" / "config.toml"
    file.parent.mkdir()

    def call(content: str | bytes) -> Path:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return call


def test_every_key_is_read(write: Write) -> None:
    values: dict[str, Any] = {
        "model": "tiny-chat",
        "system": "Sei kurz: ü.",
        "max_tokens": 400,
        "think": True,
        "seed": 2**64 - 1,
        "mode": "ar",
        "theme": "dark",
        "gentle": False,
    }
    text = "".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        for key, value in values.items()
    )
    write(text)
    assert read_user_config().values == values


def test_what_editors_of_other_systems_leave_is_no_fault(write: Write) -> None:
    write(b"\xef\xbb\xbfseed = 3\r\n# a comment\r\n")
    assert read_user_config().values == {"seed": 3}


def test_no_file_and_no_home_are_no_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert (read_user_config().text, read_user_config().values) == (None, {})
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setattr(Path, "home", no_home)
    assert config_file() is None
    assert read_user_config().values == {}


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("model = tiny-chat\n", "line 1, column 9: model: Invalid value ... in quotes"),
        ("seed = 1\nmax_tokens = 4OO", "line 2, column 15: max_tokens"),
        ('system = "Be brief.\n', "line 1 ... system"),
        ('system = "Be', "line 1, column 13: system: Unterminated string"),
        ("seed\n", "line 1, column 5: Expected '='"),
        ("seed = 1\nseed = 2\n", "line 2 ... seed ... twice"),
        ("seed = " + "9" * 5000, "line 1 ... seed"),
        ("m = " + "[" * 3000, "too deep"),
        ("max_token = 3", "line 1: max_token is no key ... did you mean max_tokens?"),
        ("\n# x\nmax-tokens = 3", "line 3: max-tokens is no key ... did you mean max_tokens?"),
        ("xyz = 3", "line 1: xyz is no key ... model, system, max_tokens, think"),
        ("[generate]\nseed = 3", "line 1: generate is no key"),
        ("think = 'yes'", "line 1: think is 'yes', expected true or false"),
        ("think = 1", "line 1: think is 1, expected true or false"),
        ("seed = true", "line 1: seed is true, expected a whole number"),
        ("seed = 1.0", "line 1: seed is 1.0, expected a whole number"),
        ("mode = ['ar']", "line 1: mode is ['ar'], expected a text in quotes"),
        ("mode.a = 'ar'", "line 1: mode is a table, expected a text in quotes"),
        ("model = ''", "line 1: model is empty"),
        (b"system = 'Gr\xfc\xdfe'", "not UTF-8: byte 0xfc at 12"),
    ],
)
def test_a_broken_file_is_one_line_with_line_and_key(
    write: Write, text: str | bytes, facts: str
) -> None:
    file = write(text)
    with raises(ConfigFileError, file, facts):
        read_user_config()


def test_a_line_in_a_text_is_no_key(write: Write) -> None:
    """A search for `mode =` found it there, and named the wrong line."""
    file = write('system = """\nmode = "x"\n"""\n\nmode = 3\n')
    with raises(ConfigFileError, f"{file} line 5: mode is 3"):
        read_user_config()


def test_a_folder_in_its_place_is_one_line(write: Write) -> None:
    file = write("")
    file.unlink()
    file.mkdir()
    with raises(ConfigFileError, f"{file} cannot be read: Is a directory"):
        read_user_config()


def test_a_place_is_that_of_the_value(write: Write) -> None:
    write("# mine\n\nseed = 1\nthink = true\n")
    config = read_user_config()
    assert_says(config.place("think"), "config.toml line 4")
