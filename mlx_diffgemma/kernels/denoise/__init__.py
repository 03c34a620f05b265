"""The denoising kernels: logit statistics, the draw, and the commit of a step."""
