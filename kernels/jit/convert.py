"""Conversions to and from half types. Numba lacks float16: that is NumPy's, of the same bits."""

import numpy as np

from .quantization import to_bf16


def f16_to_f32(x, y):  # type: ignore[no-untyped-def]
    with np.errstate(all="ignore"):
        y[...] = x


f32_to_f16 = f64_to_f16 = f16_to_f32


def f32_to_bf16(x, y):  # type: ignore[no-untyped-def]
    to_bf16(x[None], y[None])


def f64_to_bf16(x, y):  # type: ignore[no-untyped-def]
    """By float32, of the two next to what is inexact the odd one: rounding that is rounding once."""
    with np.errstate(all="ignore"):
        near = x.astype(np.float32)
    bits, back = near.view(np.uint32), near.astype(np.float64)
    bits -= np.abs(back) > np.abs(x)  # towards 0
    bits |= (back != x) & ~np.isnan(x)
    f32_to_bf16(near, y)
