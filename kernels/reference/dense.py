"""Dense float32 products."""

import numpy as np

from . import activations
from .activations import activate_f32, activate_f32_bound, activate_f32_chain, activate_f32_sample
from .arithmetic import LANES, TINY, U, fma, gamma, unpack

__all__ = ["activate_f32", "activate_f32_bound", "activate_f32_chain", "activate_f32_sample",
           "gemm_add_f32", "gemm_add_f32_bound", "gemm_add_f32_chain", "gemm_add_f32_sample", "gemm_f32",
           "gemm_f32_bound", "gemm_f32_chain", "gemm_f32_sample", "pack_f32", "pack_f32_bound", "pack_f32_sample"]


def pack_f32(w, packed):
    """packed[s, l, j] = w[l, 16*s + j], zero past the last column."""
    packed[...] = 0
    for column in range(w.shape[1]):
        packed[column // LANES, : w.shape[0], column % LANES] = w[:, column]


def pack_f32_bound(w, packed):
    return np.zeros(packed.shape)


def pack_f32_sample(rng, k, n):
    return (rng.standard_normal((k, n)).astype(np.float32),)


def _magnitude(x, w, y):
    """Σ|x||w| of each output."""
    return np.abs(x.astype(np.float64)) @ np.abs(unpack(w, y.shape[1]).astype(np.float64))


def gemm_f32(x, w, bias, activation, y):
    """y[i, j] = activation(Σ_l x[i, l]·w[l, j] + bias[j])."""
    product = x.astype(np.float64) @ unpack(w, y.shape[1]).astype(np.float64)
    y[...] = activations.exact(product + (0.0 if bias is None else bias), activation)


def gemm_f32_bound(x, w, bias, activation, y):
    """γ(k)·Σ|x||w| for the chain, U·|sum + bias| for the bias; then the activation."""
    k, magnitude = x.shape[1], _magnitude(x, w, y)
    chain = gamma(k) * magnitude + k * TINY
    error = chain if bias is None else chain + U * (magnitude * (1 + gamma(k)) + np.abs(bias)) + TINY
    return activations.bound(error, y, activation)


def gemm_f32_chain(x, w, bias, activation, y):
    """The three-line rule: one fma chain, l ascending, from +0; then the bias; then the activation."""
    gemm_add_f32_chain(x, w, np.float32(0), y)
    if bias is not None:
        y += bias
    y[...] = activations.chain(y, activation)


def _drawn(rng):
    """Draws operands of one magnitude, or of magnitudes from 2⁻³⁰ to 2³⁰."""
    spread = 30 * int(rng.integers(2))

    def draw(*shape):
        return np.ldexp(rng.standard_normal(shape), rng.integers(-spread, spread + 1, shape)).astype(np.float32)

    return draw


def _packed(w):
    packed = np.zeros((-(-w.shape[1] // LANES), w.shape[0], LANES), np.float32)
    pack_f32(w, packed)
    return packed


def gemm_f32_sample(rng, m, k, n):
    draw = _drawn(rng)
    w = _packed(draw(k, n))
    return draw(m, k), w, draw(n) if rng.random() < 0.7 else None, int(rng.integers(activations.KINDS))


def gemm_add_f32(x, w, start, y):
    """y[i, j] = start[i, j] + Σ_l x[i, l]·w[l, j]."""
    y[...] = start + x.astype(np.float64) @ unpack(w, y.shape[1]).astype(np.float64)


def gemm_add_f32_bound(x, w, start, y):
    """γ(k)·(|start| + Σ|x||w|): start is the first summand of the chain."""
    k = x.shape[1]
    return gamma(k) * (np.abs(start) + _magnitude(x, w, y)) + k * TINY


def gemm_add_f32_chain(x, w, start, y):
    """One fma chain, l ascending, from start."""
    w = unpack(w, y.shape[1])
    y[...] = start
    for l in range(x.shape[1]):
        y[...] = fma(x[:, l, None], w[None, l, :], y)


def gemm_add_f32_sample(rng, m, k, n):
    draw = _drawn(rng)
    return draw(m, k), _packed(draw(k, n)), draw(m, n)
