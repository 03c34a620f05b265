"""OpenAI's Responses API: how its requests are read, and what answers them."""
