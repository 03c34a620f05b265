"""`info`: a checkpoint described without reading a weight."""
