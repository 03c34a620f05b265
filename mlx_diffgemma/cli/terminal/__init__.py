"""The terminal: the live view, bars, standard output, signals."""
