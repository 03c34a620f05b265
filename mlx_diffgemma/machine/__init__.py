"""The machine at hand: device, memory, identity, files, dtypes, and choices that suit it."""
