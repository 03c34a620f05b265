"""The network: numbers in, numbers out."""
