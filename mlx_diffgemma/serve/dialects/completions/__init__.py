"""Completions of OpenAI's API: a text goes on, or the gap in front of a suffix is filled."""
