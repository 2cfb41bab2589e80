"""Conversions to and from half types."""

import numpy as np

from .quantization import to_bf16


def f16_to_f32(x, y):
    """y = x."""
    y[...] = x


def f64_to_f16(x, y):
    """y = x, half to even."""
    with np.errstate(all="ignore"):
        y[...] = x.astype(np.float16)


def exact(x, y):
    return np.zeros(y.shape)


def f16_to_f32_sample(rng, n):
    return (rng.integers(0, 1 << 16, n).astype(np.uint16).view(np.float16),)


def f64_to_f16_sample(rng, n):
    """Halves, what lies half way between two, and next to it; any numbers; special ones."""
    bits = rng.integers(0, 0x7C00, n)
    low, high = (b.astype(np.uint16).view(np.float16).astype(np.float64) for b in (bits, bits + 1))
    x = np.where(rng.random(n) < 0.3, low, (low + np.where(np.isfinite(high), high, 65536.0)) / 2)
    x *= 1 + rng.choice([0.0, 2.0**-52, -(2.0**-52), 2.0**-30, -(2.0**-23)], n)
    x[1::5] = (rng.standard_normal(n) * 2.0 ** rng.integers(-40, 20, n))[1::5]
    x[3::11] = rng.choice([0.0, np.inf, np.nan, 1e300, 5e-324, 65519.99, 65520.0, 3.5e38], len(x[3::11]))
    return (np.copysign(x, rng.standard_normal(n)),)


def f32_to_f16_sample(rng, n):
    with np.errstate(over="ignore"):
        return (f64_to_f16_sample(rng, n)[0].astype(np.float32),)


def f32_to_bf16(x, y):
    y[...] = to_bf16(x)


def f32_to_bf16_sample(rng, n):
    """Any bits, half way between two bfloat16, and next to it."""
    bits = rng.integers(0, 1 << 32, n).astype(np.uint32)
    half = rng.random(n) < 0.5
    bits[half] = (bits[half] & 0xFFFF0000) + 0x8000 + rng.integers(-1, 2, int(half.sum())).astype(np.uint32)
    return (bits.view(np.float32),)


def f64_to_bf16(x, y):
    """y = x, half to even, in steps of 2^-7 of the power of two below x, no smaller than 2^-126."""
    step = np.ldexp(1.0, np.maximum(np.frexp(x)[1] - 1, -126) - 7)
    with np.errstate(all="ignore"):
        y[...] = to_bf16((np.rint(x / step) * step).astype(np.float32))


def f64_to_bf16_sample(rng, n):
    """What lies half way between two bfloat16, and next to it by more or less than a float32 shows; any numbers."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        x = f32_to_bf16_sample(rng, n)[0].astype(np.float64)
    x *= 1 + rng.choice([0.0, 2.0**-52, -(2.0**-52), 2.0**-30, -(2.0**-23)], n)
    x[1::5] = f64_to_f16_sample(rng, n)[0][1::5]
    return (x,)


f32_to_f16 = f64_to_f16
f16_to_f32_bound = f32_to_f16_bound = f32_to_bf16_bound = f64_to_f16_bound = f64_to_bf16_bound = exact
