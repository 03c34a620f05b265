"""The command line: `mlx-diffgemma`, one module a command. Nothing below it prints.

The answer goes to standard output and nothing else does. Modules here import MLX and the Hub's
library inside functions, so that `--help` need not wait for them.
"""
