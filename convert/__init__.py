"""From a Hugging Face checkpoint to a quantised MLX folder, in bounded memory.

read: a source's headers, and its rows; layout: the tensors that a target holds; bind: which of the
source's make which of the target's; quantize: how many bits a tensor gets; table: one entry for
each tensor of the target; plan: the entries in shards; transfer and write: rows in, shards out;
state: what is left after an interruption; run: all of it; verify: a check of what was written.
"""
