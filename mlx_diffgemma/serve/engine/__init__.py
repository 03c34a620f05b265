"""The model behind the server: questions in a queue, answered by one thread as events."""
