"""exp and log: the chains of csrc/kernels/elementary.h, for one element."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, bits_float, float_bits, fma

f32 = np.float32
ZERO, ONE, HALF, INFINITY = f32(0), f32(1), f32(0.5), f32(np.inf)
EXP = tuple(f32(float.fromhex(c)) for c in (
    "0x1.62e430p-1", "0x1.ebfbdcp-3", "0x1.c6af7ap-5", "0x1.3b2dd4p-7", "0x1.5f0950p-10", "0x1.417810p-13"))
LOG = tuple(f32(float.fromhex(c)) for c in (
    "0x1.555554p-2", "-0x1.000226p-2", "0x1.99a01ep-3", "-0x1.547282p-3", "0x1.22d8d8p-3", "-0x1.0d8266p-3",
    "0x1.05620cp-3", "-0x1.38d1e2p-4"))
LOG2E, LOG2E_LOW = f32(float.fromhex("0x1.715476p+0")), f32(float.fromhex("0x1.4ae0cp-26"))
LOG2_HIGH, LOG2_LOW = f32(float.fromhex("0x1.62e4p-1")), f32(float.fromhex("0x1.7f7d1cp-20"))
EXP_MIN, EXP_MAX = f32(-104), f32(89)
NORMAL, LIFTED = f32(2.0**-126), f32(149)
ROOT_HALF_BITS = np.int32(0x3F3504F3)
ROOT_HALF, LOG2 = float.fromhex("0x1.6a09e667f3bcdp-1"), float.fromhex("0x1.62e42fefa39efp-1")
SERIES = tuple(1.0 / i for i in range(21, 1, -2))


@njit(**FAST)
def larger(a, b):  # type: ignore[no-untyped-def]
    """vf_max: b if either is NaN."""
    return a if a > b else b


@njit(**FAST)
def smaller(a, b):  # type: ignore[no-untyped-def]
    """vf_min: b if either is NaN."""
    return a if a < b else b


@njit(**FAST)
def power2(n):  # type: ignore[no-untyped-def]
    return bits_float(np.int32((n + 127) << 23))


@njit(**FAST)
def scale2(x, n):  # type: ignore[no-untyped-def]
    """x * 2^n with one rounding: the first factor is exact."""
    if x != x:
        return x
    whole = np.int32(n)
    half = whole >> 1
    return x * power2(half) * power2(whole - half)


@njit(**FAST)
def exp2(f):  # type: ignore[no-untyped-def]
    """2^f, |f| <= 1/2 and a little."""
    q = EXP[5]
    q = fma(q, f, EXP[4])
    q = fma(q, f, EXP[3])
    q = fma(q, f, EXP[2])
    q = fma(q, f, EXP[1])
    q = fma(q, f, EXP[0])
    return fma(q, f, ONE)


@njit(**FAST)
def exp(x):  # type: ignore[no-untyped-def]
    x = smaller(EXP_MAX, larger(EXP_MIN, x))
    h = x * LOG2E
    whole = f32(np.rint(h))
    return scale2(exp2((h - whole) - fma(-x, LOG2E_LOW, fma(-x, LOG2E, h))), whole)


@njit(**FAST)
def exponent_of(bits):  # type: ignore[no-untyped-def]
    """k, x = 2^k m with m in [sqrt 1/2, sqrt 2): vi_exponent."""
    return (bits - ROOT_HALF_BITS) >> 23


@njit(**FAST)
def log(x):  # type: ignore[no-untyped-def]
    if not x < INFINITY:
        return x * INFINITY
    if x == ZERO:
        return -INFINITY
    if x < ZERO:
        return f32(np.nan)
    small = x < NORMAL
    bits = float_bits(f32(float_bits(x)) if small else x)
    exponent = exponent_of(bits)
    k = f32(exponent) - (LIFTED if small else ZERO)
    f = bits_float(np.int32(bits - (exponent << 23))) - ONE
    p = LOG[7]
    p = fma(p, f, LOG[6])
    p = fma(p, f, LOG[5])
    p = fma(p, f, LOG[4])
    p = fma(p, f, LOG[3])
    p = fma(p, f, LOG[2])
    p = fma(p, f, LOG[1])
    p = fma(p, f, LOG[0])
    ff = f * f
    r = fma(ff * f, p, fma(k, LOG2_LOW, ff * -HALF))
    return fma(k, LOG2_HIGH, f + r)


@njit(**FAST)
def log64(x):  # type: ignore[no-untyped-def]
    """pc_log of csrc/kernels/double.h."""
    m, k = math.frexp(x)
    if m < ROOT_HALF:
        m *= 2.0
        k -= 1
    f = (m - 1.0) / (m + 1.0)
    s = f * f
    p = 1.0 / 23.0
    for c in SERIES:
        p = fma(p, s, c)
    return fma(float(k), LOG2, 2.0 * fma(f * s, p, f))


@njit(**FAST)
def exp_f32(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] = exp(x[i])


@njit(**FAST)
def log_f32(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] = log(x[i])
