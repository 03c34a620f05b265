"""The options of `chat` alone, with their help."""

from dataclasses import dataclass
from pathlib import Path

from ..parameters import flag, option


@dataclass(frozen=True)
class ChatOptions:
    """The conversation to go on with, and the lines of earlier ones."""

    load: Path | None = option(
        "--load", "Go on with a conversation that /save has written.", "FILE"
    )
    no_history: bool = flag(
        "--no-history",
        "Neither know the lines of earlier chats nor keep those of this one. Default: on a "
        "terminal, the last 1,000 are kept.",
    )
