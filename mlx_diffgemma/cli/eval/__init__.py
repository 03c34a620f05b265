"""`eval`: the accuracy of a model on cases, by steps, mode and skill."""
