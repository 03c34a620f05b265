"""`help`: a topic, or what `--help` of a command says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import typer

from ..errors import ArgumentError
from ..parameters import Values, argument, flattened
from ..terminal.streams import window
from .page import page_lines
from .topics import TOPICS


@dataclass(frozen=True)
class HelpOptions:
    """The topic to explain."""

    topic: str | None = argument(
        "TOPIC",
        f"{', '.join(TOPICS)}, or a command. Without one, all of them are listed.",
        values=Values(lambda: TOPICS),
    )


@flattened()
def command(ctx: typer.Context, given: HelpOptions) -> int:
    """Explain a topic, or show the options of a command."""
    from ..terminal.output import write_lines

    words = [given.topic, *ctx.args] if given.topic else []
    root: Any = ctx.parent
    if not words:
        blocks = (
            "Topics, as in `mlx-diffgemma help sampling`:",
            [(name, topic.about) for name, topic in TOPICS.items()],
            "Commands, as in `mlx-diffgemma help generate`:",
            [(name, each.get_short_help_str()) for name, each in root.command.commands.items()],
        )
        write_lines(page_lines(blocks, window()[0]))
    elif words[0] in TOPICS:
        if len(words) > 1:
            raise ArgumentError(f"help takes one topic, got {len(words)} words; give one.")
        write_lines(page_lines(TOPICS[words[0]].blocks(), window()[0]))
    else:
        write_lines(_command_help(root, words))
    return 0


def _command_help(ctx: Any, words: Sequence[str]) -> Iterator[str]:
    """The help of a command, and of one below it; ArgumentError for a name that is none."""
    for word in words:
        commands = getattr(ctx.command, "commands", {})
        if word not in commands:
            raise ArgumentError(_unknown(word, [*TOPICS, *commands]))
        found = commands[word]
        ctx = found.context_class(found, parent=ctx, info_name=word, **found.context_settings)
    yield ctx.get_help()


def _unknown(word: str, names: Sequence[str]) -> str:
    near = get_close_matches(word.lower(), names, 1)
    ask = f"did you mean {near[0]}? " if near else ""
    return f"{word!r:.60} is no topic and no command; {ask}`mlx-diffgemma help` lists all of them."
