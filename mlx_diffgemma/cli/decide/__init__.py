"""`decide`: typed questions about a state, answered with probabilities."""
