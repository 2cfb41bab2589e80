"""Decoupled distillation: the chains of csrc/kernels/decoupled.c."""

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold
from .divergence import divergence, ratios
from .double import LOG2E, exp2, inverse_of, row_max, sum_terms
from .elementary import log64

__all__ = ["decoupled_kl_f32", "decoupled_kl_f64", "decoupled_kl_grad_f32", "decoupled_kl_grad_f64"]

f64 = np.float64


@njit(**FAST)
def begin_side(x, label, inverse_t):  # type: ignore[no-untyped-def]
    """Of the classes but for the label: the maximum, log and inverse of their sum of terms, and the label's log odds.

    The maximum is NaN for a row that has NaN or +inf; the odds are NaN for one that is -inf alone. The inverse is 0
    where the label alone is finite.
    """
    own, before, after = f64(x[label]), row_max(x[:label]), row_max(x[label + 1 :])
    if not own < np.inf or before != before or after != after:
        return np.nan, 0.0, 0.0, 0.0
    top = before if before > after else after
    if top == -np.inf:
        return top, 0.0, 0.0, np.nan if own == -np.inf else np.inf
    total = sum_terms(x, top, inverse_t, label)
    log_sum = log64(total)
    return top, log_sum, 1.0 / total, fma(own - top, inverse_t, -log_sum)


@njit(**FAST)
def loss_of_row(s, t, label, alpha, beta, temperature, scale, grad):  # type: ignore[no-untyped-def]
    inverse_t, nothing = inverse_of(temperature), 0.0
    if scale != 0.0 and len(s) > 0:
        top_s, log_s, inverse_s, odds_s = begin_side(s, label, inverse_t)
        top_t, log_t, inverse_sum_t, odds_t = begin_side(t, label, inverse_t)
        if top_s != top_s or top_t != top_t:
            nothing = np.nan
        elif odds_s == odds_s and odds_t == odds_t:
            log_yes_q, log_no_q, yes_q, no_q = ratios(odds_s, 1.0, 1.0)
            log_yes_p, log_no_p, yes_p, no_p = ratios(odds_t, 1.0, 1.0)
            answers = divergence(yes_p, yes_q, log_yes_p - log_yes_q) + divergence(no_p, no_q, log_no_p - log_no_q)
            target, step = alpha * (yes_q - yes_p), scale * inverse_t
            both = inverse_s != 0.0 and inverse_sum_t != 0.0
            weight = beta if both else 0.0
            lanes, apart = np.zeros(LANES), log_t - log_s
            for i in range(len(s)):
                x = -np.inf if i == label else f64(s[i])
                y = -np.inf if i == label else f64(t[i])
                q = p = 0.0
                if inverse_s != 0.0:
                    q = exp2(x - top_s, inverse_t * LOG2E) * inverse_s
                if both:
                    p = exp2(y - top_t, inverse_t * LOG2E) * inverse_sum_t
                    d = fma((y - top_t) - (x - top_s), inverse_t, -apart)
                    lanes[i % LANES] += divergence(p, q, d)
                if grad is not None:
                    grad[i] = fma(q, weight - target, 0.0 - p * weight) * step
            if grad is not None:
                grad[label] = target * step
            among = fold(lanes)
            among = 0.0 if among < 0.0 else among
            return scale * ((alpha * answers if alpha != 0.0 else 0.0) + (weight * among if weight != 0.0 else 0.0))
    if grad is not None:
        grad[:] = nothing
    return nothing


@njit(**FAST)
def decoupled_kl_f64(student, teacher, labels, alpha, beta, temperature, scale, loss):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teacher[i], labels[i], alpha, beta, temperature[i], scale[i], None)


@njit(**FAST)
def decoupled_kl_grad_f64(  # type: ignore[no-untyped-def]
    student, teacher, labels, alpha, beta, temperature, scale, loss, grad
):
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teacher[i], labels[i], alpha, beta, temperature[i], scale[i], grad[i])


decoupled_kl_f32, decoupled_kl_grad_f32 = decoupled_kl_f64, decoupled_kl_grad_f64
