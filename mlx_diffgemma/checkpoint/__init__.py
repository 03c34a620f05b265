"""A checkpoint on this disk: its folder, its small files, and strict access to its tensors."""
