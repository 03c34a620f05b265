"""`help`: topics of one screen, and the help of commands."""
