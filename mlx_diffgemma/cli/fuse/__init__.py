"""`fuse`: an adapter put into the weights of a folder of its own."""
