"""`--install-completion`: a file with the function, and a line that reads it at a shell's start."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from ...machine.files import WholeFile, own_file, read_bytes, replace_file
from ..errors import ArgumentError, FileError, reason
from .scripts import SCRIPTS, SHELLS

INSTALL, SHOW = "--install-completion", "--show-completion"
UNDO = "To undo it, remove that line and that file."


@dataclass(frozen=True)
class Place:
    """The file of a shell's function, and the file whose line reads it; fish needs no such line."""

    script: Path
    startup: Path | None

    @property
    def line(self) -> str:
        """The line, which does nothing once the file is gone."""
        file = shlex.quote(str(self.script))
        return f"if [ -r {file} ]; then . {file}; fi  # completion of mlx-diffgemma"


def install(shell: str) -> list[str]:
    """Install the completion of a shell; what was written, and how to undo it."""
    place = _place(shell)
    try:
        added = place.startup is not None and _add_line(place.startup, place.line)
        replace_file(place.script, SCRIPTS[shell].lstrip("\n").encode())
    except OSError as error:
        raise FileError(
            f"{reason(error)}; `mlx-diffgemma {SHOW} {shell}` prints what was to be written."
        ) from None
    lines = [f"wrote {place.script}"]
    if place.startup is None:
        return [*lines, f"New {shell} sessions read it. To undo it, remove that file."]
    lines += [f"{'added to' if added else 'already in'} {place.startup}:", f"  {place.line}"]
    here = f". {shlex.quote(str(place.script))}"
    return [*lines, f"New {shell} sessions read it; for this one: {here}", UNDO]


def named_shell(option: str, shell: str) -> str:
    """The shell that an option names, else the one in $SHELL; ArgumentError for another one."""
    expected = f"expected {', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
    if shell in SHELLS:
        return shell
    if shell:
        raise ArgumentError(f"{option} is {shell!r:.60}, {expected}.")
    own = os.environ.get("SHELL", "")
    if (name := os.path.basename(own)) in SHELLS:
        return name
    known = f"$SHELL is {own!r:.60}" if own else "$SHELL is not set"
    raise ArgumentError(f"{known}, {expected}; name one, as in `mlx-diffgemma {option} zsh`.")


def _place(shell: str) -> Place:
    script = own_file("XDG_DATA_HOME", ".local/share", f"completion.{shell}")
    try:
        home = Path.home()
    except RuntimeError:
        script = None
    if script is None:
        raise FileError("there is no home to install completion in; set $HOME.")
    if shell == "fish":
        base = os.environ.get("XDG_CONFIG_HOME", "")
        config = Path(base) if os.path.isabs(base) else home / ".config"
        return Place(config / "fish" / "completions" / "mlx-diffgemma.fish", None)
    if shell == "zsh":
        return Place(script, Path(os.environ.get("ZDOTDIR") or home) / ".zshrc")
    # Windows of a Mac's Terminal are login shells, which do not read .bashrc.
    return Place(script, home / (".bash_profile" if sys.platform == "darwin" else ".bashrc"))


def _add_line(file: Path, line: str) -> bool:
    """Put a line at the end of a file, once; True where it was not there."""
    before = read_bytes(file) if file.exists() else b""
    if line.encode() in before.splitlines():
        return False
    ended = b"" if before.endswith(b"\n") or not before else b"\n"
    with WholeFile(file) as out:
        out.write(before + ended + line.encode() + b"\n")
    return True
