"""A checkpoint on this disk: where it is found, and what its files say before a weight is read."""
