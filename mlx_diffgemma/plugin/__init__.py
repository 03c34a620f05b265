"""The model `diffgemma` of the command `llm`: `llm -m diffgemma "Why is the sky blue?"`."""
