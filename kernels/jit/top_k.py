"""KL to a teacher known at k classes: the chains of csrc/kernels/top_k.c."""

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold
from .divergence import LEAST, divergence
from .double import LOG2E, exp2, inverse_of, log, row_max, sum_terms
from .elementary import larger, log64

__all__ = ["top_k_kl_f32", "top_k_kl_f64", "top_k_kl_grad_f32", "top_k_kl_grad_f64"]

f64 = np.float64
LEAST_REST = 2.0**-48


@njit(**FAST)
def loss_of_row(x, probabilities, classes, temperature, scale, grad):  # type: ignore[no-untyped-def]
    nothing = 0.0
    if scale != 0.0:
        top = row_max(x)
        if top > -np.inf:
            return loss_of_finite(x, probabilities, classes, top, inverse_of(temperature), scale, grad)
        if top != top:
            nothing = np.nan
    if grad is not None:
        grad[:] = nothing
    return nothing


@njit(**FAST)
def loss_of_finite(x, probabilities, classes, top, inverse_t, scale, grad):  # type: ignore[no-untyped-def]
    total = sum_terms(x, top, inverse_t)
    log_sum, inverse_sum = log64(total), 1.0 / total
    mass, kl, outside = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    known = np.zeros(len(x), np.bool_)
    for j in range(len(classes)):
        c, p = classes[j], probabilities[j]
        known[c] = True
        from_top = f64(x[c]) - top
        log_p = log(larger(p, LEAST))
        q = exp2(from_top, inverse_t * LOG2E) * inverse_sum
        mass[j % LANES] += p
        kl[j % LANES] += divergence(p, q, log_p + fma(from_top, -inverse_t, log_sum))
    for i in range(len(x)):
        if not known[i]:
            outside[i % LANES] += exp2(f64(x[i]) - top, inverse_t * LOG2E)
    rest, left = 1.0 - fold(mass), fold(outside) * inverse_sum
    if rest != rest:
        if grad is not None:
            grad[:] = np.nan
        return np.nan
    rest = 0.0 if rest < LEAST_REST else rest
    apart = log64(rest) - log64(left) if rest > 0.0 and left > 0.0 else np.inf
    loss = fold(kl) + divergence(rest, left, apart)
    if grad is not None:
        step = scale * inverse_t
        of_others = (1.0 - (rest / left if left > 0.0 else 0.0)) * step
        for i in range(len(x)):
            if not known[i]:
                grad[i] = exp2(f64(x[i]) - top, inverse_t * LOG2E) * inverse_sum * of_others
        for j in range(len(classes)):
            q = exp2(f64(x[classes[j]]) - top, inverse_t * LOG2E) * inverse_sum
            grad[classes[j]] = (q - probabilities[j]) * step
    return scale * loss


@njit(**FAST)
def top_k_kl_f64(student, probabilities, classes, temperature, scale, loss):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], probabilities[i], classes[i], temperature[i], scale[i], None)


@njit(**FAST)
def top_k_kl_grad_f64(student, probabilities, classes, temperature, scale, loss, grad):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], probabilities[i], classes[i], temperature[i], scale[i], grad[i])


top_k_kl_f32, top_k_kl_grad_f32 = top_k_kl_f64, top_k_kl_grad_f64
