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


def fma(a, b, c):
    """``a*b + c`` in float32 with one rounding.

    The product of two float32 is exact in float64. The sum is rounded to odd in float64: where it is inexact and its
    last bit is even, it moves one step towards the discarded part. Rounding that to float32 is then the rounding of
    the exact value (Boldo and Melquiond 2008).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c = np.asarray(c, np.float64)
    with np.errstate(all="ignore"):
        total = product + c
        back = total - product
        error = (product - (total - back)) + (c - back)
        even = (total.view(np.int64) if total.ndim else np.array(total).view(np.int64)) & 1 == 0
        moved = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
        odd = np.where(np.isfinite(total) & (error != 0) & even, moved, total)
        return odd.astype(np.float32)


def activate(y, activation):
    """0: y; 1: max(y, 0), NaN stays NaN and -0 becomes +0."""
    return np.where(y <= 0, 0.0, y) if activation == 1 else y


def unpack(w, n):
    """The matrix that pack_f32 laid out: [slices, k, 16] -> [k, n]."""
    return w.transpose(1, 0, 2).reshape(w.shape[1], w.shape[0] * LANES)[:, :n]
