"""`convert`: a checkpoint made into an MLX folder, planned or checked."""
