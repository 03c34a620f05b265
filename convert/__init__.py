"""From a Hugging Face checkpoint to a quantised MLX folder, in bounded memory.

layout: what a checkpoint must hold; quantize: who gets how many bits; plan: both as one table;
read, write, state: rows in, shards out, and what is left after an interruption; run: all of it.
"""
