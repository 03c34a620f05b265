"""The machine at hand: device, identity, files of its own, and what suits it."""
