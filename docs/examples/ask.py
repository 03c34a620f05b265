"""A conversation: each question sees the ones before it."""

import mlx_diffgemma as dg

session = dg.load("tiny-chat")  # a repository that is not here yet: download=True fetches it

reply = session.ask("What is 17 + 25?", seed=7)
print(reply.text)
print(reply)  # in short: tokens, steps, and why it ended

reply = session.ask("What is the opposite of early?", seed=7, max_tokens=64)
print(reply.text, f"({reply.seconds.total:.2f} s, seed {reply.seed})")
print(session.context_used, "of", session.context_length, "positions are encoded")
