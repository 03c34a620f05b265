"""A template: everything but its holes stays to the letter, and is in view on both sides."""

import mlx_diffgemma as dg

session = dg.load("tiny-chat")
template = "The opposite of early is [[6]]."  # a hole of at most six tokens
asked = "Fill in: What is the opposite of early?"
filled = session.fill(template, prompt=asked, seed=7, max_denoising_steps=4)
print(filled.text)
print(filled.holes)
