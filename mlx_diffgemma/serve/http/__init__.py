"""HTTP around the model: routes, who may ask, bodies in, streams out."""
