"""What the simulator raises."""


class SimError(Exception):
    """A kernel that does not compile or does something wrong: which, where, and what."""


class NoCompilerError(Exception):
    """No C++ compiler here that can compile kernels."""
