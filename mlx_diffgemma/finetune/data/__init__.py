"""Training data: lines of JSON to token ids, and batches of them with their noise."""
