"""The sampler and the loop: a network's logits in, committed canvases out."""
