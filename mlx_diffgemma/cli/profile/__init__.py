"""`profile`: the model measured on this machine."""
