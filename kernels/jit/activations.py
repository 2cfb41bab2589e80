"""What products end in: the chains of csrc/kernels/activation.h, for one element."""

import numpy as np
from numba import njit

from .arithmetic import FAST, fma
from .double import LOG2E
from .elementary import EXP, scale2

f32, f64 = np.float32, np.float64
EXP2 = tuple(f64(c) for c in reversed(EXP))
MILLS = tuple(float.fromhex(c) for c in (
    "0x1.16aebc7bbd895p-6", "-0x1.0b02ae9bfa6bap-4", "0x1.d6a3167f8a39cp-5", "0x1.4f1ede8575003p-6",
    "0x1.40e68225d319fp-6", "0x1.533d6f73721dcp-4", "0x1.2c92f15332ce8p-4", "0x1.85f601e250680p-4",
    "0x1.97aeb5cd694c6p-4", "0x1.988f04ca90826p-4"))
HALF_LOG2E = LOG2E / 2
TANH1, TANH3 = float.fromhex("0x1.26aec21bce759p+1"), float.fromhex("0x1.a5a7cf7572a98p-4")
GELU_END, GELU_TANH_END, SILU_END = f32(14.6), f32(10.8), f32(109)


@njit(**FAST)
def _reciprocal(x):  # type: ignore[no-untyped-def]
    w = f64(f32(1) / f32(x))
    return fma(w, 1.0 - x * w, w)


@njit(**FAST)
def _exp2_minus(a):  # type: ignore[no-untyped-def]
    """2^-a as m 2^n."""
    whole = f32(np.rint(f32(a)))
    f = f64(whole) - a
    q = EXP2[0]
    for c in EXP2[1:]:
        q = fma(q, f, c)
    return fma(q, f, 1.0), -whole


@njit(**FAST)
def _less_tail(x, t, m, n, r):  # type: ignore[no-untyped-def]
    tail = -t * m * r
    if x < 0:
        return scale2(f32(tail), n)
    return f32(fma(tail, f64(scale2(f32(1), n)), f64(x)))


@njit(**FAST)
def _gated(x, t, a):  # type: ignore[no-untyped-def]
    m, n = _exp2_minus(a)
    return _less_tail(x, t, m, n, _reciprocal(fma(m, f64(scale2(f32(1), n)), 1.0)))


@njit(**FAST)
def _until(x, end):  # type: ignore[no-untyped-def]
    """The smaller of |x| and ``end``; ``end`` for NaN."""
    t = abs(x)
    return f64(t) if t < end else f64(end)


@njit(**FAST)
def _smooth(x, activation):  # type: ignore[no-untyped-def]
    if activation == 2:
        t = _until(x, GELU_END)
        m, n = _exp2_minus(t * t * HALF_LOG2E)
        w = _reciprocal(fma(t, 0.25, 1.0))
        s = MILLS[0]
        for c in MILLS[1:]:
            s = fma(s, w, c)
        return _less_tail(x, t, m, n, s * w)
    if activation == 3:
        t = _until(x, GELU_TANH_END)
        return _gated(x, t, t * fma(t * t, TANH3, TANH1))
    t = _until(x, SILU_END)
    return _gated(x, t, t * LOG2E)


@njit(**FAST)
def activate(v, activation):  # type: ignore[no-untyped-def]
    if activation == 0:
        return v
    if activation == 1:
        return f32(0) if v <= 0 else v  # NaN stays NaN
    return _smooth(v, activation)


@njit(**FAST)
def activate_f32(x, activation, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] = activate(x[i], activation)
