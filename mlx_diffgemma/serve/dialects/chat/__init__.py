"""Chat completions of OpenAI's API: how a request is read, and how it is answered."""
