"""An answer as it settles: a frame for each denoising step, a committed one for each canvas."""

import mlx_diffgemma as dg

session = dg.load("tiny-chat")
turn = session.turn("What is the opposite of early?", seed=7)
for frame in turn:
    if frame.committed:
        print(turn.fresh().text)  # text that is new, and stays
    else:
        print(f"step {frame.step}: {frame.num_accepted} of {frame.num_denoised} accepted")
print(turn.reply())
