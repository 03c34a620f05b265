"""`serve`: the HTTP server, its options, and what it says."""
