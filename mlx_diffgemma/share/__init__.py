"""Several Macs, one answer: who computes what, counted collectives, and the fences."""
