"""`calibrate`: temperatures that make a model's probabilities honest, fitted to labelled rows."""
