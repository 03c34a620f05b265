"""`chat`: questions and slash commands, one conversation."""
