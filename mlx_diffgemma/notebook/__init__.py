"""Answers in a notebook: the canvas settles in the output of a cell."""
