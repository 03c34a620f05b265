"""The options of generate and chat that hold an answer to a form, and what they do not go with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ArgumentError
from .options import STANDARD_INPUT, MediaOptions, require_one_stdin
from .parameters import Values, flag, option
from .settings_options import SamplerOptions

ANY_TOOL = "auto"
TOOL_CHOICES = (ANY_TOOL, "required")  # or the name of a tool
FORMS = ("schema", "pattern", "choices")  # of which an answer has one


@dataclass(frozen=True)
class FormOptions:
    """The form that an answer is held to, and the tools that it may call."""

    schema: Path | None = option(
        "--schema",
        "A file with a JSON schema that the answer satisfies; - is standard input. White space and "
        "a ```json fence stay allowed (the fence is not printed): a form that forbids what the "
        "model would write makes it wrong. Default: any text.",
        "FILE",
    )
    pattern: str | None = option(
        "--pattern",
        "A regular expression that the whole answer matches. Allow the words, blanks and line "
        "breaks that the model would write. Default: any text.",
        "RE",
    )
    choices: list[str] | None = option(
        "--choices",
        "The answers to choose from, commas between them; may be repeated. \\, is a comma within "
        "one; blanks around one do not count. Default: any text.",
        "A,B,C",
    )
    strict: bool = flag(
        "--strict",
        "Exit with 1 where the form strains the model by more than 10 nats; the answer is printed "
        "all the same. Default: a warning.",
    )
    tools: Path | None = option(
        "--tools",
        "A JSON file with declarations of tools that the model may call, a list or one; - is "
        "standard input. A call is printed as a line of JSON. Beside --schema, --pattern or "
        "--choices the answer is one or the other, and calls are held to their declarations. "
        "Default: none.",
        "FILE",
    )
    tool_choice: str | None = option(
        "--tool-choice",
        "auto: the model may call a tool; required: it must; NAME: it must call that one. "
        "Default: auto.",
        "auto|required|NAME",
        values=Values(lambda: TOOL_CHOICES),
    )

    def __post_init__(self) -> None:
        """ArgumentError for options that do not go together, before any file is read."""
        forms = self._forms
        if len(forms) > 1:
            both = " and ".join(forms)
            raise ArgumentError(f"{both} are given, an answer has one form; leave one of them out.")
        if self.tool_choice is not None and self.tools is None:
            raise ArgumentError("--tool-choice is given without --tools FILE; add the tools.")
        if self.strict and self.form is None:
            raise ArgumentError(
                "--strict is given without a form; add --schema, --pattern, --choices or "
                "--tool-choice required, or leave it out."
            )

    @property
    def form(self) -> str | None:
        """The option that holds the answer to a form, as it is typed; None for any text."""
        called = ["--tool-choice"] if self.tool_choice not in (None, ANY_TOOL) else []
        return next(iter(self._forms + called), None)

    @property
    def files(self) -> Mapping[str, Path | None]:
        """The files that are read, by the names of their options."""
        return {"schema": self.schema, "tools": self.tools}

    @property
    def stdin_option(self) -> str | None:
        """The option whose file is standard input, as it is typed; None where none is."""
        return next((f"--{name}" for name, f in self.files.items() if f == STANDARD_INPUT), None)

    @property
    def _forms(self) -> list[str]:
        """The options given of which an answer has one, as they are typed."""
        return [f"--{name}" for name in FORMS if getattr(self, name) is not None]


def require_files_for_chat(seen: MediaOptions, held: FormOptions) -> None:
    """ArgumentError where standard input, from which a chat's questions come, is an option's."""
    if taken := "--image" if seen.takes_stdin else held.stdin_option:
        raise ArgumentError(
            f"{taken} is -, and a chat's questions come from standard input; name a file."
        )


def require_compatible(seen: MediaOptions, held: FormOptions, sampler: SamplerOptions) -> None:
    """ArgumentError where two options read standard input, or both say how an answer ends."""
    if sampler.stop and held.form is not None:
        raise ArgumentError(
            f"--stop and {held.form} are given, and a stop text could cut what the form makes "
            "whole; leave one of them out."
        )
    image = {"--image": STANDARD_INPUT} if seen.takes_stdin else {}
    require_one_stdin(**image, **{f"--{name}": file for name, file in held.files.items()})
