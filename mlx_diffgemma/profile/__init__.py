"""Measuring: what a step costs on this machine, part by part, against what the chip could do."""
