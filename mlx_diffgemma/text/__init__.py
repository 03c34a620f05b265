"""Text in and out: the tokenizer, the chat template, thoughts and tool calls."""
