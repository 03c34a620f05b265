"""Traces: written while an answer comes, read again, made into pictures."""
