"""Conversions to and from half types. Numba lacks float16: that is NumPy's, of the same bits."""

import numpy as np

from .quantization import to_bf16


def f16_to_f32(x, y):  # type: ignore[no-untyped-def]
    with np.errstate(all="ignore"):
        y[...] = x


f32_to_f16 = f64_to_f16 = f16_to_f32


def f32_to_bf16(x, y):  # type: ignore[no-untyped-def]
    to_bf16(x[None], y[None])
