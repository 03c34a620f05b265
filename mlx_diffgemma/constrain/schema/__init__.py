"""JSON schemas as patterns of the texts that they allow; what cannot be enforced is refused."""
