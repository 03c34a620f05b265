"""Typed questions about a state, and their answers with probabilities."""
