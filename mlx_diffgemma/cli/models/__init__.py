"""`pull`, `list` and `rm`: models in the Hub's local cache, and what they take of this machine."""
