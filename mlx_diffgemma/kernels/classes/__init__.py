"""The kernels that read rows of logits by token classes, and draw from them with a bias."""
