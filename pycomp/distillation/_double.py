"""exp, log and their kin in float64 from operations that IEEE 754 rounds exactly, so that no CPU gives other bits.

NumPy's own differ in the last bit from one instruction set to the next, and so does its ``sum``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LOG2E = float.fromhex("0x1.71547652b82fep+0")
LOG2_HIGH, LOG2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
FACTORIALS = tuple(1.0 / float(np.prod(np.arange(1, i + 1, dtype=np.float64))) for i in range(14, 0, -1))
"""1/14! ... 1/1!"""
ATANH = tuple(1.0 / i for i in range(25, 1, -2))
"""1/25 ... 1/3"""
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def _series(r: Doubles) -> Doubles:
    """(e^r - 1)/r for |r| <= log(2)/2: what Taylor's series lacks is below 2^-56."""
    p = np.full(r.shape, FACTORIALS[0])
    for c in FACTORIALS[1:]:
        p = p * r + c
    return p


def _reduced(x: Doubles) -> tuple[Doubles, NDArray[np.int32]]:
    """r and n with x = r + n log 2; the high part of n log 2 is exact."""
    n = np.rint(x * LOG2E)
    return (x - n * LOG2_HIGH) - n * LOG2_LOW, n.astype(np.int32)


def exp(x: Doubles) -> Doubles:
    """e^x within 2 ulp; 0 below -745.2, infinity above 709.8; NaN stays."""
    finite = np.clip(np.where(np.isnan(x), 0.0, x), -746.0, 710.0)
    r, n = _reduced(finite)
    half = n >> 1  # the scale in two steps: it may be subnormal
    with np.errstate(over="ignore", under="ignore"):
        y = np.ldexp(np.ldexp(1.0 + r * _series(r), half), n - half)
    return np.where(np.isnan(x), x, np.where(x < -746.0, 0.0, np.where(x > 710.0, np.inf, y)))


def expm1(x: Doubles) -> Doubles:
    """e^x - 1 within 5 ulp."""
    near = np.abs(x) <= 0.34657359
    small = np.where(near, x, 0.0)
    return np.where(near, small * _series(small), exp(x) - 1.0)


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
