"""A question about a picture. It needs Pillow, which the extra `image` brings."""

from pathlib import Path

import mlx_diffgemma as dg

picture = Path(__file__).with_name("sudoku.png")
session = dg.load("tiny-sudoku")  # reads the digits in the picture, then solves them
turn = session.turn("", images=picture, seed=1)
reply = dg.show(turn)  # in a notebook the cell shows the digits settle
print(turn.puzzle)
print(reply.text)
print("solved" if turn.problem() is None else turn.problem())
