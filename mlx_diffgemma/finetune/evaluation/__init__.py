"""Accuracy of a model on cases: questions with the answer that is expected."""
