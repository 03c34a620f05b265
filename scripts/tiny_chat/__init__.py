"""Prompts of the kinds that tiny-chat was trained on, whose contents it never saw."""
