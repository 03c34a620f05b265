"""The loop on token ids alone, with noise of one's own: no tokenizer, no template, no text."""

import mlx.core as mx
import numpy as np

import mlx_diffgemma as dg


class Numpy:
    """A dg.Noise of numpy's generator: other numbers than the product's, the same each run."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        return mx.array(self.random.integers(0, vocab, length, np.int32))

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        return self.canvas(canvas, length, vocab)

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        return mx.array(self.random.uniform(1e-6, 1 - 1e-6, (length, 2)).astype(np.float32))


model = dg.load_model("tiny-chat")
prompt, settings = [2, 17, 25, 4], dg.Settings(max_tokens=64, max_denoising_steps=8)
for frame in dg.denoise(model, prompt, settings, Numpy(7)):
    print(frame)
