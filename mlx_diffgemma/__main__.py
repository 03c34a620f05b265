"""`python -m mlx_diffgemma`, the same as the command `mlx-diffgemma`."""

from mlx_diffgemma.cli.app import main

if __name__ == "__main__":
    main()
