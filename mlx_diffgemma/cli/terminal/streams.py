"""What standard streams are; imported at every start, so it imports nothing."""


def is_terminal(stream: object) -> bool:
    """Whether a standard stream is open and a terminal."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())
