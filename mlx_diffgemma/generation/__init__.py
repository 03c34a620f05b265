"""The parts that both modes share: settings, noise, the prompt and its budget, frames."""
