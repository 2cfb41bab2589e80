"""Distillation of relations: the chains of csrc/kernels/dist_loss.c."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold
from .double import LOG2E, exp2, inverse_of, row_max, sum_terms

__all__ = ["dist_loss_f32", "dist_loss_f64", "dist_loss_grad_f32", "dist_loss_grad_f64"]

f64 = np.float64
LEAST_SPREAD = 2.0**-900


@njit(**FAST)
def probabilities(x, inverse_t, p):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        top = row_max(x[i])
        inverse_sum = 1.0 / sum_terms(x[i], top, inverse_t) if top > -np.inf else np.nan
        for j in range(x.shape[1]):
            p[i, j] = exp2(f64(x[i, j]) - top, inverse_t * LOG2E) * inverse_sum


@njit(**FAST)
def inverse_spread(squares):  # type: ignore[no-untyped-def]
    return 0.0 if squares <= LEAST_SPREAD else 1.0 / math.sqrt(squares)


@njit(**FAST)
def slope(scale, loss, inverse_p, inverse_q):  # type: ignore[no-untyped-def]
    """What q and p are multiplied by."""
    step = 0.0 if inverse_p == 0.0 else scale * inverse_q
    return step * ((1.0 - loss) * inverse_q), step * inverse_p


@njit(**FAST)
def relate_row(p, q):  # type: ignore[no-untyped-def]
    n = len(p)
    mean = 1.0 / n
    lanes_p, lanes_q, apart = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    for j in range(n):
        a, b = p[j] - mean, q[j] - mean
        lanes_p[j % LANES] = fma(a, a, lanes_p[j % LANES])
        lanes_q[j % LANES] = fma(b, b, lanes_q[j % LANES])
    inverse_p, inverse_q = inverse_spread(fold(lanes_p)), inverse_spread(fold(lanes_q))
    for j in range(n):
        w = (p[j] - mean) * inverse_p - (q[j] - mean) * inverse_q
        apart[j % LANES] = fma(w, w, apart[j % LANES])
    return 0.5 * fold(apart), inverse_p, inverse_q


@njit(**FAST)
def relate_class(p, q):  # type: ignore[no-untyped-def]
    m = len(p)
    base_p, base_q, mean_p, mean_q = p[0], q[0], 0.0, 0.0
    for i in range(m):
        mean_p += p[i] - base_p
        mean_q += q[i] - base_q
    mean_p /= m
    mean_q /= m
    squares_p, squares_q, apart = 0.0, 0.0, 0.0
    for i in range(m):
        a, b = (p[i] - base_p) - mean_p, (q[i] - base_q) - mean_q
        squares_p, squares_q = fma(a, a, squares_p), fma(b, b, squares_q)
    inverse_p, inverse_q = inverse_spread(squares_p), inverse_spread(squares_q)
    for i in range(m):
        w = ((p[i] - base_p) - mean_p) * inverse_p - ((q[i] - base_q) - mean_q) * inverse_q
        apart = fma(w, w, apart)
    return 0.5 * apart, inverse_p, inverse_q, base_p + mean_p, base_q + mean_q


@njit(**FAST)
def losses(student, teacher, temperature, row_scale, class_scale, row_loss, class_loss, grad):  # type: ignore[no-untyped-def]
    m, n = student.shape
    row_loss[:] = 0.0
    class_loss[:] = 0.0
    if m == 0 or n == 0:
        return
    inverse_t = inverse_of(temperature)
    p, q = np.empty((m, n)), np.empty((m, n))
    probabilities(student, inverse_t, q)
    probabilities(teacher, inverse_t, p)
    of_rows, of_classes = np.empty((m, 2)), np.empty((n, 3))
    for i in range(m):
        row_loss[i], inverse_p, inverse_q = relate_row(p[i], q[i])
        of_rows[i, 0], of_rows[i, 1] = slope(row_scale, row_loss[i], inverse_p, inverse_q)
    for j in range(n):
        loss, inverse_p, inverse_q, mean_p, mean_q = relate_class(p[:, j], q[:, j])
        class_loss[j] = loss
        of_q, of_p = slope(class_scale, loss, inverse_p, inverse_q)
        of_classes[j, 0], of_classes[j, 1], of_classes[j, 2] = of_q, of_p, of_p * mean_p - of_q * mean_q
    if grad is None:
        return
    g = np.empty(n)
    for i in range(m):
        lanes = np.zeros(LANES)
        for j in range(n):
            of_q, of_p = of_rows[i, 0] + of_classes[j, 0], of_rows[i, 1] + of_classes[j, 1]
            g[j] = (q[i, j] * of_q - p[i, j] * of_p) + of_classes[j, 2]
            lanes[j % LANES] = fma(q[i, j], g[j], lanes[j % LANES])
        along = fold(lanes)
        for j in range(n):
            grad[i, j] = (g[j] - along) * (q[i, j] * inverse_t)


@njit(**FAST)
def dist_loss_f64(student, teacher, temperature, row_loss, class_loss):  # type: ignore[no-untyped-def]
    losses(student, teacher, temperature, 0.0, 0.0, row_loss, class_loss, None)


@njit(**FAST)
def dist_loss_grad_f64(student, teacher, temperature, row_scale, class_scale, row_loss, class_loss, grad):  # type: ignore[no-untyped-def]
    losses(student, teacher, temperature, row_scale, class_scale, row_loss, class_loss, grad)


dist_loss_f32, dist_loss_grad_f32 = dist_loss_f64, dist_loss_grad_f64
