"""What losses on features are made of: the chains of csrc/kernels/features.c."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, fma

__all__ = ["attention_map_f32", "attention_map_grad_f32", "row_distances_f32", "row_pulls_f32"]

f32, f64 = np.float32, np.float64


@njit(**FAST)
def raised(x, exponent):  # type: ignore[no-untyped-def]
    r = 1.0
    for _ in range(exponent):
        r = r * abs(f64(x))
    return r


@njit(**FAST)
def attention_map_f32(x, power, y):  # type: ignore[no-untyped-def]
    y[:] = 0.0
    for i in range(x.shape[0]):
        for l in range(x.shape[1]):
            for j in range(x.shape[2]):
                y[i, j] = fma(raised(x[i, l, j], power - 1), abs(f64(x[i, l, j])), y[i, j])


@njit(**FAST)
def attention_map_grad_f32(x, power, slope, grad):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        for l in range(x.shape[1]):
            for j in range(x.shape[2]):
                v = f64(x[i, l, j])
                by_x = (1.0 if v > 0.0 else -1.0 if v < 0.0 else 0.0) if power == 1 else v * raised(v, power - 2)
                grad[i, l, j] = by_x * slope[i, j]


@njit(**FAST)
def row_distances_f32(x, panels, d):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        for j in range(x.shape[0]):
            squares = 0.0
            for l in range(x.shape[1]):
                apart = f64(x[i, l]) - f64(x[j, l])
                squares = fma(apart, apart, squares)
            d[i, j] = math.sqrt(squares)


@njit(**FAST)
def row_pulls_f32(x, pull, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        for l in range(x.shape[1]):
            total = 0.0
            for j in range(x.shape[0]):
                total = fma(pull[i, j], f64(x[i, l]) - f64(x[j, l]), total)
            y[i, l] = f32(total)
