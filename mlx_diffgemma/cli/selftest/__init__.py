"""`selftest`: every Metal kernel checked on this machine."""
