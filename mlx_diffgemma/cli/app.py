"""`mlx-diffgemma`: the commands, and the exit code of each."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from ..errors import one_line
from . import fill, generate, replay
from .calibrate import command as calibrate
from .chat import command as chat
from .completion.install import INSTALL, SHOW, install, named_shell
from .completion.scripts import SCRIPTS, SHELLS, VARIABLE, answer
from .configured import ConfiguredCommand
from .convert import command as convert
from .decide import command as decide
from .errors import (
    BAD_ARGUMENTS,
    BROKEN_PIPE,
    FAILED,
    exit_code,
    reason,
)
from .eval import command as evaluation
from .explain import explain, kernel_warnings_said
from .finetune import command as finetune
from .first import first_lines
from .fuse import command as fuse
from .help import command as help_command
from .info import command as info
from .macs.ended import leave_code
from .models import commands as models
from .parameters import Values, flag, flattened, option
from .profile import command as profile
from .selftest import command as selftest
from .serve import command as serve
from .terminal.output import write_lines
from .terminal.signals import default_signals, end_at_first_signal, forget_interrupts
from .terminal.streams import detach, say

PROGRAM = "mlx-diffgemma"

# Typer's base class for wrong arguments, its own or click's, whichever its version is built on.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


class Commands(TyperGroup):
    """The commands; an error that is no bug becomes one line and an exit code.

    Replaces Typer's own main, which would answer errors and Ctrl-C in its way before we can.
    """

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any
    ) -> NoReturn:
        """Parse, run and exit."""
        extra.pop("standalone_mode", None)
        code = FAILED  # of a bug, which has a traceback
        try:
            code = self._exit_code(list(sys.argv[1:] if args is None else args), extra)
            code = _flushed(code)
        finally:
            leave_code(code)
        sys.exit(code)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's; an option of completion may stand without a shell.

        Nothing at all is answered here: Typer's reading of options takes longer than the answer.
        """
        if not args:
            write_lines(first_lines())
            raise typer.Exit
        if args[0] in (INSTALL, SHOW) and (len(args) == 1 or args[1].startswith("-")):
            args = [args[0], "", *args[1:]]
        return super().parse_args(ctx, args)

    def _exit_code(self, args: list[str], extra: Mapping[str, Any]) -> int:
        forget_interrupts()
        try:
            made = self.make_context(PROGRAM, list(args), obj=tuple(args), **extra)
            with kernel_warnings_said(), made as context:
                return self.invoke(context) or 0
        except typer.Exit as end:
            return end.exit_code
        except BrokenPipeError:  # whoever read the answer has seen enough
            detach(sys.stdout)
            return BROKEN_PIPE
        except UsageError as error:
            say(_usage_line(error))
            return BAD_ARGUMENTS
        except (Exception, KeyboardInterrupt) as error:
            if (known := explain(error)) is None:
                raise
            say(known[0])
            return known[1]


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
UNQUOTED = {"allow_extra_args": True}  # words without quotes: the command says what is missing
OWN = ConfiguredCommand  # answers as a user likes them; what is measured, or trained, is not
app.command("generate", cls=OWN, short_help="Answer one prompt.", context_settings=UNQUOTED)(
    generate.command
)
app.command("chat", cls=OWN, short_help="Talk with a model.")(chat.command)
app.command("fill", cls=OWN, short_help="Fill the holes of a template.", context_settings=UNQUOTED)(
    fill.command
)
app.command(
    "decide", short_help="Answer typed questions with probabilities.", context_settings=UNQUOTED
)(decide.command)
app.command("calibrate", short_help="Fit the probabilities of decide to known answers.")(
    calibrate.command
)
app.command("serve", short_help="Answer HTTP requests of other programs.")(serve.command)
app.command("replay", cls=OWN, short_help="Play a saved trace.")(replay.command)
app.command("convert", short_help="Make a quantised MLX folder of a checkpoint.")(convert.command)
app.command("finetune", short_help="Train a model on examples.")(finetune.command)
app.command("eval", short_help="Measure a model's accuracy on cases.")(evaluation.command)
app.command("fuse", short_help="Put an adapter into the weights of a new folder.")(fuse.command)
app.command("info", short_help="Describe a model and the memory it needs.")(info.command)
app.command("pull", short_help="Fetch a model from the Hugging Face Hub.")(models.pull_command)
app.command("list", short_help="List the models on this machine.")(models.list_command)
app.command("rm", short_help="Remove a model from the local cache.")(models.rm_command)
app.add_typer(profile.app, name="profile", short_help="Measure a model on this machine.")
app.command("selftest", short_help="Check the Metal kernels on this machine.")(selftest.command)
app.command("help", short_help="Explain a topic, or a command.", context_settings=UNQUOTED)(
    help_command.command
)


@dataclass(frozen=True)
class ProgramOptions:
    """What the program does without a command."""

    version: bool = flag("--version", "Print the version.")
    install_completion: str | None = option(
        INSTALL,
        "Let a shell complete commands, options, models and files: zsh, bash or fish. Default: the "
        "one in $SHELL.",
        "[SHELL]",
        values=Values(lambda: SHELLS),
    )
    show_completion: str | None = option(
        SHOW, f"Print what {INSTALL} would write.", "[SHELL]", values=Values(lambda: SHELLS)
    )

    def lines(self) -> Sequence[str]:
        """The lines of the option that is given, which may install something; none without one."""
        if self.version:
            from ..version import __version__

            return [f"{PROGRAM} {__version__}"]
        if self.install_completion is not None:
            return install(named_shell(INSTALL, self.install_completion))
        if self.show_completion is not None:
            return [SCRIPTS[named_shell(SHOW, self.show_completion)].strip("\n")]
        return []


@app.callback(invoke_without_command=True)
@flattened()
def program(ctx: typer.Context, given: ProgramOptions) -> int:
    """DiffusionGemma on Apple silicon: text by denoising a canvas, seen while it happens.

    Try it without a download: mlx-diffgemma generate --model tiny-chat "What is 17 + 25?"
    """
    if lines := given.lines():
        write_lines(lines)
        raise typer.Exit
    if ctx.invoked_subcommand is None:  # behind a lone `--`
        write_lines(first_lines())
    return 0


def main() -> None:
    """The console script; with a shell's name in the environment, what it completes a line with."""
    if shell := os.environ.get(VARIABLE):
        sys.exit(answer(app, shell, sys.argv[1:]))
    _keep_standard_numbers()
    # On Linux numpy's BLAS threads wait for each other actively: beside any other process a product
    # may take fifty times as long, and alone one thread is hardly slower (docs/log.md).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    end_at_first_signal()
    try:
        app(prog_name=PROGRAM)
    except KeyboardInterrupt as interrupt:  # it came when all was done
        sys.exit(exit_code(interrupt))
    finally:
        default_signals()


def _keep_standard_numbers() -> None:
    """Put nothing in the place of a standard stream that is closed (`<&-`).

    The next file opened would get its number: MLX takes 0 for a file that cannot be opened, and
    what a library writes to 2 would end up in a trace. Python's own streams stay None.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    while nowhere <= 2:
        nowhere = os.open(os.devnull, os.O_RDWR)
    os.close(nowhere)


def _flushed(code: int) -> int:
    """The exit code once all that was printed is written: Python's own flush at exit says 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        detach(sys.stdout)
        if isinstance(error, BrokenPipeError):
            code = code or BROKEN_PIPE
        elif code == 0:
            say(f"error: standard output: {reason(error)}.")
            code = FAILED
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        detach(sys.stderr)
    return code


def _usage_line(error: Exception) -> str:
    """One line on wrong arguments, with the command that explains them."""
    message = one_line(cast(Any, error).format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else PROGRAM
    return f"error: {message}; see `{command} --help`."
