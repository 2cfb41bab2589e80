"""Dense float32 products: the chains of csrc/kernels/gemm.c."""

import numpy as np
from numba import njit

from .activations import activate, activate_f32
from .arithmetic import FAST, fma

__all__ = ["activate_f32", "gemm_add_f32", "gemm_f32", "pack_f32"]


@njit(**FAST)
def pack_f32(w, packed):  # type: ignore[no-untyped-def]
    k, n = w.shape
    for s in range(packed.shape[0]):
        for l in range(k):
            for j in range(16):
                packed[s, l, j] = w[l, 16 * s + j] if 16 * s + j < n else np.float32(0)


@njit(**FAST)
def _advance(acc, row, w):  # type: ignore[no-untyped-def]
    """Sixteen chains by all of a row."""
    for l in range(row.shape[0]):
        for j in range(16):
            acc[j] = fma(row[l], w[l, j], acc[j])


@njit(**FAST)
def gemm_f32(x, w, bias, activation, y):  # type: ignore[no-untyped-def]
    m, n = y.shape
    acc = np.empty(16, np.float32)
    for i in range(m):
        for s in range(w.shape[0]):
            acc[:] = 0
            _advance(acc, x[i], w[s])
            for j in range(min(16, n - 16 * s)):
                v = acc[j]
                if bias is not None:
                    v += bias[16 * s + j]
                y[i, 16 * s + j] = activate(v, activation)


@njit(**FAST)
def gemm_add_f32(x, w, start, y):  # type: ignore[no-untyped-def]
    m, n = y.shape
    acc = np.zeros(16, np.float32)
    for i in range(m):
        for s in range(w.shape[0]):
            lanes = min(16, n - 16 * s)
            for j in range(lanes):
                acc[j] = start[i, 16 * s + j]
            _advance(acc, x[i], w[s])
            for j in range(lanes):
                y[i, 16 * s + j] = acc[j]
