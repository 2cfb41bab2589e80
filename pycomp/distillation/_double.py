"""log in float64 from operations that IEEE 754 rounds exactly: NumPy's own differs in the last bit from CPU to CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LOG2_HIGH, LOG2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
ATANH = tuple(1.0 / i for i in range(25, 1, -2))
"""1/25 ... 1/3"""
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def _log_ratio(f: Doubles) -> Doubles:
    """log((1 + f)/(1 - f)) for |f| <= 0.1716: 2 atanh f."""
    s = f * f
    p = np.full(f.shape, ATANH[0])
    for c in ATANH[1:]:
        p = p * s + c
    value: Doubles = 2.0 * (f + f * (s * p))
    return value


def log(x: Doubles) -> Doubles:
    """log x within 3 ulp or 2^-53 absolute for x >= 0; -infinity for 0."""
    positive = (x > 0) & (x < np.inf)
    m, k = np.frexp(np.where(positive, x, 1.0))
    low = m < ROOT_HALF
    m, k = np.where(low, 2.0 * m, m), k - low
    y = k * LOG2_HIGH + (k * LOG2_LOW + _log_ratio((m - 1.0) / (m + 1.0)))
    return np.where(positive, y, np.where(x == 0, -np.inf, np.where(x == np.inf, np.inf, np.nan)))
