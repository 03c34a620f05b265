"""Answers with a form: automata over tokens, and what they leave of a model's distributions."""
