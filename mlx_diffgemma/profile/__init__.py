"""Measuring: the cost of a step on this machine, part by part, against the peak of its chip."""
