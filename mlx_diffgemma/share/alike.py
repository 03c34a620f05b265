"""Exponentials with the same bits on every machine, for what each rank decides by itself.

Libraries may differ in an exponential's last bit. Additions, products and scaling by powers of two
are exact to the bit in float64 (IEEE 754), and numpy makes each of them in a loop of its own, so
that none is fused.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOG2_E = 1 / math.log(2)
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 33 bits: its products with 11 bits are exact
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
DEGREE = 13  # of Taylor's series: what it leaves out below e^(ln 2 / 2) is under 5e-18
LEAST = -745.0  # below, float64 has no number but 0


def exp(x: NDArray[Any]) -> NDArray[np.float64]:
    """e^x of float64 numbers x <= 0, -inf among them, to 1e-15 of itself; NaN of NaN."""
    bounded = np.maximum(x, LEAST)
    with np.errstate(invalid="ignore"):  # of NaN, which has no power
        powers = np.rint(bounded * LOG2_E)
        rest = (bounded - powers * LN2_HIGH) - powers * LN2_LOW
        series = np.ones_like(rest)
        for number in range(DEGREE, 0, -1):
            series = series * rest / number + 1
        made = np.ldexp(series, powers.astype(np.int32))
    return np.where(x < LEAST, 0.0, made)
