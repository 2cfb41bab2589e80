"""KL between standardised logits: the chains of csrc/kernels/standardized.c."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold
from .divergence import divergence
from .double import LOG2E, MOST, exp2, inverse_of, row_max, sum_terms
from .elementary import log64

__all__ = ["standardized_kl_f32", "standardized_kl_f64", "standardized_kl_grad_f32", "standardized_kl_grad_f64"]

f64 = np.float64


@njit(**FAST)
def begin_side(x, inverse_t):  # type: ignore[no-untyped-def]
    """Maximum, mean less it, inverse deviation, slope, log and inverse of the sum of terms.

    The inverse deviation is NaN for a row with -inf beside others.
    """
    top = row_max(x)
    if not top > -np.inf:
        return top, 0.0, 0.0, 0.0, 0.0, 0.0
    lanes, squares = np.zeros(LANES), np.zeros(LANES)
    for i in range(len(x)):
        lanes[i % LANES] += f64(x[i]) - top
    mean = fold(lanes) / f64(len(x))
    for i in range(len(x)):
        off = (f64(x[i]) - top) - mean
        squares[i % LANES] = fma(off, off, squares[i % LANES])
    deviation = math.sqrt(fold(squares) / f64(len(x)))
    if not deviation < np.inf:
        return top, mean, np.nan, 0.0, 0.0, 0.0
    inverse = inverse_of(deviation) if deviation > 0.0 else 0.0
    slope = min(inverse * inverse_t, MOST)
    terms = sum_terms(x, top, slope)
    return top, mean, inverse, slope, log64(terms), 1.0 / terms


@njit(**FAST)
def loss_of_row(s, t, temperature, scale, grad):  # type: ignore[no-untyped-def]
    inverse_t, nothing = inverse_of(temperature), 0.0
    if scale != 0.0:
        top_s, mean, inverse, slope_s, log_s, inverse_sum_s = begin_side(s, inverse_t)
        top_t, _, inverse_teacher, slope_t, log_t, inverse_sum_t = begin_side(t, inverse_t)
        finite = top_s > -np.inf and top_t > -np.inf
        if math.isnan(top_s + top_t) or (finite and math.isnan(inverse + inverse_teacher)):
            nothing = np.nan
        elif finite:
            sums, moments = np.zeros(LANES), np.zeros(LANES)
            gaps, apart = np.empty(len(s)), log_t - log_s
            for i in range(len(s)):
                from_s, from_t = f64(s[i]) - top_s, f64(t[i]) - top_t
                q = exp2(from_s, slope_s * LOG2E) * inverse_sum_s
                p = exp2(from_t, slope_t * LOG2E) * inverse_sum_t
                d = fma(from_t, slope_t, 0.0 - fma(from_s, slope_s, apart))
                gaps[i] = q - p
                sums[i % LANES] += divergence(p, q, d)
                moments[i % LANES] = fma(gaps[i], from_s, moments[i % LANES])
            kl = fold(sums)
            if grad is not None:
                along, step = inverse * fold(moments) / f64(len(s)), scale * inverse_t * inverse
                for i in range(len(s)):
                    z = ((f64(s[i]) - top_s) - mean) * inverse
                    grad[i] = fma(z, -along, gaps[i]) * step
            return scale * (0.0 if kl < 0.0 else kl)
    if grad is not None:
        grad[:] = nothing
    return nothing


@njit(**FAST)
def standardized_kl_f64(student, teacher, temperature, scale, loss):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teacher[i], temperature[i], scale[i], None)


@njit(**FAST)
def standardized_kl_grad_f64(student, teacher, temperature, scale, loss, grad):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teacher[i], temperature[i], scale[i], grad[i])


standardized_kl_f32, standardized_kl_grad_f32 = standardized_kl_f64, standardized_kl_grad_f64
