"""KL to the mean of several teachers: the chains of csrc/kernels/ensemble.c."""

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold
from .divergence import LEAST, divergence
from .double import LOG2E, exp2, inverse_of, log, row_max, sum_terms
from .elementary import larger, log64

__all__ = ["ensemble_kl_f32", "ensemble_kl_f64", "ensemble_kl_grad_f32", "ensemble_kl_grad_f64"]

f64 = np.float64


@njit(**FAST)
def loss_of_row(s, teachers, shares, temperature, scale, grad):  # type: ignore[no-untyped-def]
    nothing = 0.0
    if scale != 0.0:
        top = row_max(s)
        if top != top:
            nothing = np.nan
        elif top > -np.inf:
            inverse_t, known = inverse_of(temperature), 1.0
            tops, weights = np.empty(len(shares)), np.empty(len(shares))
            for k in range(len(shares)):
                tops[k] = row_max(teachers[k])
                if tops[k] != tops[k]:
                    known = np.nan
                    break
                if tops[k] == -np.inf:
                    known = 0.0
                if known == 0.0:
                    continue
                weights[k] = shares[k] / sum_terms(teachers[k], tops[k], inverse_t)
            if known == 1.0:
                return loss_of_finite(s, teachers, top, tops, weights, inverse_t, scale, grad)
            nothing = known
    if grad is not None:
        grad[:] = nothing
    return nothing


@njit(**FAST)
def loss_of_finite(s, teachers, top, tops, weights, inverse_t, scale, grad):  # type: ignore[no-untyped-def]
    total = sum_terms(s, top, inverse_t)
    log_sum, inverse_sum, lanes = log64(total), 1.0 / total, np.zeros(LANES)
    for i in range(len(s)):
        from_top, p = f64(s[i]) - top, 0.0
        q = exp2(from_top, inverse_t * LOG2E) * inverse_sum
        for k in range(len(weights)):
            p = fma(exp2(f64(teachers[k, i]) - tops[k], inverse_t * LOG2E), weights[k], p)
        log_p = log(larger(p, LEAST))
        lanes[i % LANES] += divergence(p, q, log_p + fma(from_top, -inverse_t, log_sum))
        if grad is not None:
            grad[i] = (q - p) * (scale * inverse_t)
    kl = fold(lanes)
    return scale * (0.0 if kl < 0.0 else kl)


@njit(**FAST)
def ensemble_kl_f64(student, teachers, shares, temperature, scale, loss):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teachers[i], shares, temperature[i], scale[i], None)


@njit(**FAST)
def ensemble_kl_grad_f64(student, teachers, shares, temperature, scale, loss, grad):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teachers[i], shares, temperature[i], scale[i], grad[i])


ensemble_kl_f32, ensemble_kl_grad_f32 = ensemble_kl_f64, ensemble_kl_grad_f64
