"""`selftest`: the command, its text, and its verdict."""
