"""Arithmetic mean and median of numbers."""


def mean(values: list[float]) -> float:
    """[[24]]"""
    if not values:
        raise ValueError([[16]])
    [[32]]


def median(values: list[float]) -> float:
    """The middle value; the mean of the two in the middle where their number is even."""
    [[64]]


if __name__ == "__main__":
    print(mean([1.0, 2.0, 6.0]), median([6.0, 1.0, 2.0]))
