"""What losses on features are made of: attention_map.c, row_distances.c and triple_angles.c of csrc/kernels."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold

__all__ = ["attention_map_f32", "attention_map_grad_f32", "row_distances_f32", "row_pulls_f32", "triple_angles_f64"]

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
                by_x = (1.0 if v > 0.0 else -1.0 if v < 0.0 else v + 0.0) if power == 1 else v * raised(v, power - 2)
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


@njit(**FAST)
def cosine(a, inverse_a, b, inverse_b, opposite):  # type: ignore[no-untyped-def]
    return fma(0.0 - opposite, opposite, fma(b, b, a * a)) * (0.5 * inverse_a * inverse_b)


@njit(**FAST)
def triple_angles_f64(student, student_inverse, teacher, teacher_inverse, value, by_arm, by_opposite):  # type: ignore[no-untyped-def]
    m, wide = len(student), student.shape[1] * LANES
    by_arm[:] = 0.0
    by_opposite[:] = 0.0
    near_s, near_t = student_inverse.reshape(m, wide), teacher_inverse.reshape(m, wide)
    d_s, d_t, opposites = student.reshape(m, wide), teacher.reshape(m, wide), by_opposite.reshape(m, wide)
    for i in range(m):
        values = np.zeros(LANES)
        for j in range(m):
            if j == i:
                continue
            inverse, sums = near_s[i, j], np.zeros(LANES)
            for k in range(wide):
                near = near_s[j, k]
                c = cosine(d_s[i, j], inverse, d_s[j, k], near, d_s[i, k])
                x = c - cosine(d_t[i, j], near_t[i, j], d_t[j, k], near_t[j, k], d_t[i, k])
                if k == i:
                    x = 0.0
                g = -1.0 if x < -1.0 else 1.0 if x > 1.0 else x
                values[k % LANES] = fma(g, fma(g, -0.5, x), values[k % LANES])
                sums[k % LANES] = fma(g, fma(0.0 - c, inverse, near), sums[k % LANES])
                opposites[i, k] = fma(g, near * inverse, opposites[i, k])
            by_arm[i, j] = inverse * fold(sums)
        value[i] = fold(values)
