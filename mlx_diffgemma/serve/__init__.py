"""The HTTP server: requests of four dialects, one model in one thread, events on their way out."""
