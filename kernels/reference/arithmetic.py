"""What NumPy lacks for writing a chain of float32 operations literally, and the constants of error bounds."""

import numpy as np

LANES = 16
"""Of every vector."""

U = 2.0**-24
"""Unit roundoff of float32."""

TINY = 2.0**-150
"""Half of the smallest float32: what one rounding may lose where the result is subnormal."""


def gamma(n):
    """``n*U / (1 - n*U)``: the relative error of a chain of n roundings (Higham 2002, lemma 3.1)."""
    return n * U / (1 - n * U)


def _sum(a, b):
    """``a + b`` rounded, and what the rounding left out, exactly (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _odd_sum(a, b):
    """``a + b`` rounded to odd: where it is inexact and its last bit even, one step towards the discarded part."""
    total, error = _sum(a, b)
    even = np.asarray(total).view(np.int64) & 1 == 0
    moved = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(np.isfinite(total) & (error != 0) & even, moved, total)


def fma(a, b, c):
    """``a*b + c`` in float32 with one rounding.

    The product of two float32 is exact in float64, and a sum that was rounded to odd there rounds to float32 as the
    exact value does (Boldo and Melquiond, 2008).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    with np.errstate(all="ignore"):
        return _odd_sum(product, np.asarray(c, np.float64)).astype(np.float32)


def fma64(a, b, c):
    """``a*b + c`` in float64 with one rounding, for products far from overflow and underflow.

    Their algorithm for it: the product in two parts (Dekker), and the sum of the three with its low part to odd.
    """
    a, b, c = (np.asarray(v, np.float64) for v in (a, b, c))
    with np.errstate(invalid="ignore"):
        high, low = a * b, _product_error(a, b)
        carried, low = _sum(c, low)
        total, rest = _sum(high, carried)
        exact = np.where(np.isfinite(total), total + _odd_sum(rest, low), total)
        return np.where(exact == 0, high + c, exact)  # the sign of a zero


def _product_error(a, b):
    """``a*b`` less its rounding, exactly: both are cut into halves of 26 bits (Veltkamp)."""
    def halves(v):
        high = v * 134217729.0
        high -= high - v
        return high, v - high

    (a1, a2), (b1, b2) = halves(a), halves(b)
    return a2 * b2 - (((a * b - a1 * b1) - a2 * b1) - a1 * b2)


def unpack(w, n):
    """The matrix that pack_f32 laid out: [slices, k, 16] -> [k, n]."""
    return w.transpose(1, 0, 2).reshape(w.shape[1], w.shape[0] * LANES)[:, :n]
