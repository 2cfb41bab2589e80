"""exp, log and softmax of float64: the chains of csrc/kernels/double.h, double_rows.h and softmax_double.c."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, float_bits, fma, fold
from .elementary import LOG2, exponent_of, larger, log64

f32, f64 = np.float32, np.float64
LOG2E = float.fromhex("0x1.71547652b82fep+0")
ATANH = tuple(float.fromhex(c) for c in (
    "0x1.39fd25d62ab23p-4", "0x1.7462be245eae3p-4", "0x1.c71c62c42db89p-4", "0x1.2492492e0b70cp-3",
    "0x1.99999999951f5p-3", "0x1.5555555555558p-2"))
ATANH_FIRST = float.fromhex("0x1.2b6776a1bf0b9p-4")
EXP2 = tuple(float.fromhex(c) for c in (
    "0x1.e6065056e8f53p-28", "0x1.b524dcae950b6p-24", "0x1.62bfd46ef13e9p-20", "0x1.ffcbfc74460bfp-17",
    "0x1.4309130972ab4p-13", "0x1.5d87fe78a2cb1p-10", "0x1.3b2ab6fba1dcfp-7", "0x1.c6b08d704a0cbp-5",
    "0x1.ebfbdff82c598p-3", "0x1.62e42fefa39efp-1", "0x1p+0"))
EXP2_FIRST = float.fromhex("0x1.ea045749d10d2p-32")
INTEGER, LEAST_EXPONENT, MOST = 1.5 * 2.0**52, -996.0, float(np.finfo(np.float64).max) / 2


@njit(**FAST)
def exp2(x, c):  # type: ignore[no-untyped-def]
    """2^(x c)."""
    n = fma(x, c, INTEGER)
    if not n > INTEGER + LEAST_EXPONENT:
        return 0.0
    k = INTEGER - n
    f = fma(x, c, k)
    p = EXP2_FIRST
    for coefficient in EXP2:
        p = fma(p, f, coefficient)
    return math.ldexp(p, int(-k))


@njit(**FAST)
def exp(z):  # type: ignore[no-untyped-def]
    return exp2(z, LOG2E)


@njit(**FAST)
def log(w):  # type: ignore[no-untyped-def]
    """log w for 2^-126 <= w <= 2: vd_log_each."""
    k = exponent_of(float_bits(f32(w)))
    m = math.ldexp(w, -k)
    f = (m - 1.0) / (m + 1.0)
    s = f * f
    p = ATANH_FIRST
    for c in ATANH:
        p = fma(p, s, c)
    half = fma(f * s, p, f)
    return fma(f64(k), LOG2, half + half)


@njit(**FAST)
def row_max(x):  # type: ignore[no-untyped-def]
    """The largest element, NaN if any is NaN or +inf."""
    top = -np.inf
    for v in x:
        if not v < np.inf:
            return np.nan
        top = larger(f64(v), top)
    return top


@njit(**FAST)
def sum_terms(x, top, inverse_t, hole=-1):  # type: ignore[no-untyped-def]
    """Of all elements but the one at ``hole``."""
    lanes = np.zeros(LANES)
    for i in range(len(x)):
        if i != hole:
            lanes[i % LANES] += exp2(f64(x[i]) - top, inverse_t * LOG2E)
    return fold(lanes)


@njit(**FAST)
def inverse_of(temperature):  # type: ignore[no-untyped-def]
    return min(1.0 / temperature, MOST)


@njit(**FAST)
def softmax_f64(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        top, inverse_t = row_max(x[i]), inverse_of(temperature[i])
        if not top > -np.inf:
            y[i] = top if top != top else 0.0
            continue
        inverse = 1.0 / sum_terms(x[i], top, inverse_t)
        for j in range(x.shape[1]):
            y[i, j] = exp2(x[i, j] - top, inverse_t * LOG2E) * inverse


@njit(**FAST)
def log_softmax_f64(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        top, inverse_t = row_max(x[i]), inverse_of(temperature[i])
        if not top > -np.inf:
            y[i] = top
            continue
        minus_log = -log64(sum_terms(x[i], top, inverse_t))
        for j in range(x.shape[1]):
            y[i, j] = fma(x[i, j] - top, inverse_t, minus_log)


@njit(**FAST)
def logsumexp_f64(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        top, inverse_t = row_max(x[i]), inverse_of(temperature[i])
        y[i] = top * inverse_t + log64(sum_terms(x[i], top, inverse_t)) if top > -np.inf else top
