"""Completion of commands, options, values and names by zsh, bash and fish."""
