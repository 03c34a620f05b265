"""A conversation with a loaded model: prompts in, frames and replies out."""
