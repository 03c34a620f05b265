"""The expert kernels: plan, gate and up, down, combine."""
