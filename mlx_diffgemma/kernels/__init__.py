"""What the model computes with: matrices, functions, and the project's own Metal kernels."""
