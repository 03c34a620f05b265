"""`--install-completion` and `--show-completion`: what is written, once, and what refuses it."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from puzzle import assert_one_line

from mlx_diffgemma.cli.completion.scripts import SCRIPTS

STARTUP = {
    "zsh": ".zshrc",
    "bash": ".bash_profile" if sys.platform == "darwin" else ".bashrc",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, with a blank in its name."""
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    return home


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(("shell", "startup"), STARTUP.items())
def test_one_line_is_added_once(run: Any, home: Path, shell: str, startup: str) -> None:
    file = home / startup
    file.write_bytes(b"export A=\xff")  # no text, and no end of line
    file.chmod(0o644)
    script = home / ".local/share/mlx-diffgemma" / f"completion.{shell}"
    for said in ("added to", "already in"):
        done = run("--install-completion", shell)
        assert (done.exit_code, done.stderr) == (0, "")
        assert f"wrote {script}" in done.stdout
        assert f"{said} {file}" in done.stdout
        assert "To undo it" in done.stdout
    first, added = file.read_bytes().splitlines()
    assert first == b"export A=\xff"
    assert added.startswith(f"if [ -r '{script}' ]; then . '{script}'".encode())
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert script.read_text().strip() == SCRIPTS[shell].strip()
    assert files(home) == sorted([startup, str(script.relative_to(home))])


def test_a_link_stays_one(run: Any, home: Path) -> None:
    """Start-up files are often links into a repository of their own."""
    real = home / "dotfiles"
    real.write_text("")
    (home / ".zshrc").symlink_to(real)
    assert run("--install-completion", "zsh").exit_code == 0
    assert (home / ".zshrc").is_symlink()
    assert "completion.zsh" in real.read_text()


def test_fish_needs_a_file_alone(run: Any, home: Path) -> None:
    assert run("--install-completion", "fish").exit_code == 0
    assert files(home) == [".config/fish/completions/mlx-diffgemma.fish"]


def test_zsh_may_have_its_files_elsewhere(
    run: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZDOTDIR", str(home / "z"))
    (home / "z").mkdir()
    assert run("--install-completion", "zsh").exit_code == 0
    assert (home / "z" / ".zshrc").is_file()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_shown_as_it_would_be_written(
    run: Any, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--show-completion", shell).stdout.strip() == SCRIPTS[shell].strip()
    monkeypatch.setenv("SHELL", f"/opt/bin/{shell}")
    assert run("--show-completion").stdout.strip() == SCRIPTS[shell].strip()


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_another_shell_is_one_line(
    run: Any, option: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_one_line(run(option, "tcsh"), 2, f"{option} is 'tcsh', expected zsh, bash or fish")
    monkeypatch.setenv("SHELL", "/bin/ksh")
    assert_one_line(
        run(option), 2, f"$SHELL is '/bin/ksh', expected zsh, bash or fish ... {option}"
    )
    monkeypatch.delenv("SHELL")
    assert_one_line(run(option), 2, "$SHELL is not set, expected zsh, bash or fish")
    assert files(home) == []


def test_a_file_that_cannot_be_written_is_one_line(run: Any, home: Path) -> None:
    (home / ".zshrc").mkdir()
    done = run("--install-completion", "zsh")
    assert_one_line(done, 1, f"{home / '.zshrc'}: Is a directory ... --show-completion zsh")
    (home / ".local").write_text("")
    (home / ".zshrc").rmdir()
    assert_one_line(run("--install-completion", "zsh"), 1, "Not a directory ... --show-completion")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_permission_is_one_line(run: Any, home: Path) -> None:
    (home / ".zshrc").write_text("")
    (home / ".zshrc").chmod(0o400)
    done = run("--install-completion", "zsh")
    assert_one_line(done, 1, "Permission denied ... --show-completion zsh")
