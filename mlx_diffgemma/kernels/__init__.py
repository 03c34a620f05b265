"""Metal kernels: dispatch, trials and verdicts, and a folder for each family of launches."""
