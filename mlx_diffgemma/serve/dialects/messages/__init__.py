"""Anthropic's Messages API: how its requests are read, and what answers them."""
