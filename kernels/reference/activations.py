"""What products end in: 0, nothing; 1, relu; 2, gelu; 3, gelu by tanh; 4, silu."""

import math

import numpy as np

from .arithmetic import TINY, U, fma64

KINDS = 5
SLOPE = (1.0, 1.0, 1.13, 1.13, 1.1)
"""No activation is steeper."""

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def exact(y, activation):
    """In float64. relu: NaN stays NaN and -0 becomes +0."""
    if activation == 0:
        return y
    if activation == 1:
        return np.where(y <= 0, 0.0, y)
    y = np.asarray(y, np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if activation == 2:
            value = y * (_erfc(-y / math.sqrt(2)) / 2)
        else:
            # (1 + tanh(a))/2 = 1/(1 + exp(-2a))
            argument = y if activation == 4 else 2 * math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)
            value = y / (1 + np.exp(-argument))
    return np.where(y == -np.inf, -0.0, value)


def bound(error, y, activation):
    """Of the activation of a value that is off by ``error``: 1 ulp more where the activation is not exact."""
    if activation < 2:
        return error
    return SLOPE[activation] * (1 + 4 * U) * error + 2 * U * np.abs(y) + TINY


# -- the chain of csrc/kernels/activation.h
EXP2 = tuple(float.fromhex(c) for c in (
    "0x1.417810p-13", "0x1.5f0950p-10", "0x1.3b2dd4p-7", "0x1.c6af7ap-5", "0x1.ebfbdcp-3", "0x1.62e430p-1", "0x1p+0"))
MILLS = tuple(float.fromhex(c) for c in (
    "0x1.16aebc7bbd895p-6", "-0x1.0b02ae9bfa6bap-4", "0x1.d6a3167f8a39cp-5", "0x1.4f1ede8575003p-6",
    "0x1.40e68225d319fp-6", "0x1.533d6f73721dcp-4", "0x1.2c92f15332ce8p-4", "0x1.85f601e250680p-4",
    "0x1.97aeb5cd694c6p-4", "0x1.988f04ca90826p-4"))
LOG2E, HALF_LOG2E = float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.71547652b82fep-1")
TANH1, TANH3 = float.fromhex("0x1.26aec21bce759p+1"), float.fromhex("0x1.a5a7cf7572a98p-4")
ENDS = {2: np.float32(14.6), 3: np.float32(10.8), 4: np.float32(109)}


def _polynomial(coefficients, x):
    value = np.full(x.shape, coefficients[0])
    for c in coefficients[1:]:
        value = fma64(value, x, c)
    return value


def _reciprocal(x):
    w = (np.float32(1) / x.astype(np.float32)).astype(np.float64)
    return fma64(w, 1 - x * w, w)


def chain(y, activation):
    """In float32, literally: max(x, 0) less the tail t·m·2⁻ⁿ·r, in float64."""
    if activation < 2:
        return exact(y, activation).astype(np.float32)
    x = np.asarray(y, np.float32)
    t = np.fmin(np.abs(x), ENDS[activation]).astype(np.float64)
    a = {2: lambda: t * t * HALF_LOG2E, 3: lambda: t * fma64(t * t, TANH3, TANH1), 4: lambda: t * LOG2E}[activation]()
    whole = np.rint(a.astype(np.float32))
    m = _polynomial(EXP2, whole - a)
    scale = np.ldexp(np.float32(1), -whole.astype(np.int32)).astype(np.float64)
    if activation == 2:
        w = _reciprocal(fma64(t, 0.25, 1.0))
        r = _polynomial(MILLS, w) * w
    else:
        r = _reciprocal(fma64(m, scale, 1.0))
    tail = -t * m * r
    negative = np.ldexp(tail.astype(np.float32), -whole.astype(np.int32))
    with np.errstate(invalid="ignore"):
        return np.where(x < 0, negative, fma64(tail, scale, x).astype(np.float32)).astype(np.float32)


# -- the kernel
def activate_f32(x, activation, y):
    """y = activation(x)."""
    y[...] = exact(x.astype(np.float64), activation)


def activate_f32_bound(x, activation, y):
    return bound(np.zeros(y.shape), np.where(np.isfinite(y), y, 0), activation)


def activate_f32_chain(x, activation, y):
    y[...] = chain(x, activation)


def activate_f32_sample(rng, n):
    x = (rng.standard_normal(n) * rng.choice([1e-6, 1.0, 10.0])).astype(np.float32)
    x[1::7] = rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -14.2, -10.6, -108.9, 3e38, -3e38, 1e-45]),
                         len(x[1::7]))
    return x, int(rng.integers(KINDS))
