"""Distances of distributions: the chains of csrc/kernels/divergence.c."""

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold
from .double import LOG2E, exp, exp2, inverse_of, log, row_max, sum_terms
from .elementary import larger, log64

__all__ = ["divergence_f32", "divergence_f64", "divergence_grad_f32", "divergence_grad_f64"]

f64 = np.float64
NEAR, NEAR_ANSWERS, LEAST = 2.0**-8, 2.0**-14, 2.0**-126
ATANH = tuple(float.fromhex(c) for c in (
    "0x1.e1e1ba0add629p-5", "0x1.3ece78a4fb485p-4", "0x1.741de1ee95911p-4", "0x1.c71edcd550d22p-4",
    "0x1.2492429f19618p-3", "0x1.999999aa911e8p-3", "0x1.555555554dcc9p-2"))
ATANH_FIRST = float.fromhex("0x1.7f56c484c3347p-4")
SECOND_ORDER = tuple(float.fromhex(c) for c in (
    "0x1.6c2082275ac6ap-10", "0x1.1111110410154p-7", "0x1.555555381308ep-5", "0x1.555555555560ep-3",
    "0x1.00000000001a0p-1"))
SECOND_ORDER_FIRST = float.fromhex("0x1.a022acec2ec86p-13")
(FORWARD_KL, REVERSE_KL, JSD, SKEW_KL, REVERSE_SKEW_KL, TOTAL_VARIATION, CROSS_ENTROPY, GIVEN_KL, BINARY_KL,
 SQUARED_LOGITS) = range(10)


@njit(**FAST)
def second_order(r):  # type: ignore[no-untyped-def]
    """(e^r - 1 - r)/r^2."""
    p = SECOND_ORDER_FIRST
    for c in SECOND_ORDER:
        p = fma(p, r, c)
    return p


@njit(**FAST)
def divergence(a, b, log_ratio):  # type: ignore[no-untyped-def]
    if not a > 0.0:
        return b
    square = log_ratio * log_ratio
    if square < NEAR:
        return a * (square * second_order(0.0 - log_ratio))
    return fma(a, log_ratio, b - a)


@njit(**FAST)
def ratios(d, share_p, share_q):  # type: ignore[no-untyped-def]
    """Of p and q whose log ratio is d: logarithms of both over share_p p + share_q q, and both over it: ratios_to."""
    down = 0.0 - larger(d, 0.0 - d)
    smaller = exp(down)
    w = fma(share_q, smaller, share_p) if d > 0.0 else fma(share_p, smaller, share_q)
    w = larger(w, LEAST)
    log_w, inverse = log(w), 1.0 / w
    log_p, p = (down, smaller) if d < 0.0 else (0.0, 1.0)
    log_q, q = (down, smaller) if d > 0.0 else (0.0, 1.0)
    return log_p - log_w, log_q - log_w, p * inverse, q * inverse


@njit(**FAST)
def binary_kl(s, t):  # type: ignore[no-untyped-def]
    """KL of the answers to a logit s from those to t, and by how much likelier s makes yes: pc_binary_kl_each."""
    y, far = larger(t, 0.0 - t), larger(s, 0.0 - s)
    u, v = exp(0.0 - y), exp(0.0 - far)
    z = 0.0 - s if t > 0.0 else s
    d = z + y
    of_t, of_s = 1.0 + u, 1.0 + v
    both, product = of_t + of_s, of_t * of_s
    inverse = 1.0 / (product * both)
    p = u * (of_s * both * inverse)
    q = (1.0 if z > 0.0 else v) * (of_t * both * inverse)
    f = (v - u) * (product * inverse)
    r, square = ATANH_FIRST, f * f
    for c in ATANH:
        r = fma(r, square, c)
    half = fma(f * square, r, f)
    no = 1.0 - p
    share = no if z > 0.0 else p
    w, b, dd = p * no, d * (no - p), d * d
    if dd < NEAR_ANSWERS:
        even, odd = fma(dd, fma(w, -0.25, 1.0 / 24.0), 0.5), fma(dd, fma(w, -0.1, 1.0 / 120.0), 1.0 / 6.0)
        kl = w * dd * fma(b, odd, even)
    else:
        kl = half + half + ((far * share if share > 0.0 else 0.0) - (p * y if p > 0.0 else 0.0))
    return kl, p - q if t > 0.0 else q - p


@njit(**FAST)
def part_of_logits(kind, s, t, inverse_t):  # type: ignore[no-untyped-def]
    """Part of the loss, q, and q times its derivative by q."""
    if kind == SQUARED_LOGITS:
        apart = (s - t) * inverse_t if s < t or t < s else 0.0
        return apart * apart, 0.0, apart + apart
    value, more = binary_kl(s * inverse_t, t * inverse_t)
    return value, 0.0, more


@njit(**FAST)
def part_of_given(kind, p, q, minus_log_q):  # type: ignore[no-untyped-def]
    if kind == GIVEN_KL:
        return divergence(p, q, log(larger(p, LEAST)) + minus_log_q), 0.0 - p
    return p * minus_log_q if p > 0.0 else 0.0, 0.0 - p


@njit(**FAST)
def part_of(kind, share_p, share_q, p, q, d):  # type: ignore[no-untyped-def]
    """Part of the loss, and q times its derivative by q."""
    if kind == FORWARD_KL:
        return divergence(p, q, d), 0.0 - p
    if kind == TOTAL_VARIATION:
        value = larger(p - q, q - p) * 0.5
        return value, q * 0.5 if p < q else 0.0 - q * 0.5 if q < p else 0.0
    if kind == REVERSE_KL:
        slope = 0.0 - d
        value = divergence(q, p, slope)
    else:
        m = fma(share_p, p, share_q * q)
        log_p, log_q, of_p, of_q = ratios(d, share_p, share_q)
        if kind == JSD:
            slope = share_q * log_q
            value = fma(share_p, divergence(p, m, log_p), share_q * divergence(q, m, log_q))
        elif kind == SKEW_KL:
            slope = (0.0 - share_q) * of_p
            value = divergence(p, m, log_p)
        else:
            slope = fma(0.0 - share_q, of_q, log_q)
            value = divergence(q, m, log_q)
    return value, q * slope if q > 0.0 else 0.0


@njit(**FAST)
def sum_of_probabilities(p):  # type: ignore[no-untyped-def]
    """Their sum; NaN where they are none."""
    lanes = np.zeros(LANES)
    least = 0.0
    for i in range(len(p)):
        lanes[i % LANES] += f64(p[i])
        least = min(least, f64(p[i]))
    total = fold(lanes)
    return total if least >= 0.0 and abs(total - 1.0) <= 1e-3 else np.nan


@njit(**FAST)
def loss_of_row(s, t, kind, share, temperature, scale, grad):  # type: ignore[no-untyped-def]
    given = kind in (CROSS_ENTROPY, GIVEN_KL)
    sum_p, nothing = 1.0, 0.0
    if scale != 0.0:
        if given:
            sum_p = sum_of_probabilities(t)
            if sum_p != sum_p:
                if grad is not None:
                    grad[:] = np.nan
                return -np.inf
        top_s = row_max(s)
        top_t = 0.0 if given else row_max(t)
        if top_s != top_s or top_t != top_t:
            nothing = np.nan
        elif kind > GIVEN_KL or (top_s > -np.inf and top_t > -np.inf):
            return known_row(s, t, kind, share, inverse_of(temperature), scale, top_s, top_t, sum_p, grad)
    if grad is not None:
        grad[:] = nothing
    return nothing


@njit(**FAST)
def known_row(s, t, kind, share, inverse_t, scale, top_s, top_t, sum_p, grad):  # type: ignore[no-untyped-def]
    given = kind in (CROSS_ENTROPY, GIVEN_KL)
    reverse = kind == REVERSE_SKEW_KL
    share_p, share_q = (1.0 - share, share) if reverse else (share, 1.0 - share)
    sum_s = sum_t = 1.0
    if kind <= GIVEN_KL:
        sum_s = sum_terms(s, top_s, inverse_t)
        sum_t = 1.0 if given else sum_terms(t, top_t, inverse_t)
    inverse_s, inverse_sum_t = 1.0 / sum_s, 1.0 / sum_t
    apart = log64(sum_s if given else sum_t / sum_s)
    values, slopes = np.zeros(LANES), np.zeros(LANES)
    q, steps = np.empty(len(s)), np.empty(len(s))
    for i in range(len(s)):
        if kind >= BINARY_KL:
            value, q[i], steps[i] = part_of_logits(kind, f64(s[i]), f64(t[i]), inverse_t)
        else:
            from_s = f64(s[i]) - top_s
            q[i] = exp2(from_s, inverse_t * LOG2E) * inverse_s
            if given:
                value, steps[i] = part_of_given(kind, f64(t[i]), q[i], fma(from_s, -inverse_t, apart))
            else:
                from_t = f64(t[i]) - top_t
                d = fma(from_t - from_s, inverse_t, -apart)
                p = exp2(from_t, inverse_t * LOG2E) * inverse_sum_t
                value, steps[i] = part_of(kind, share_p, share_q, p, q[i], d)
        values[i % LANES] += value
        slopes[i % LANES] += steps[i]
    loss = fold(values)
    if grad is not None:
        mean = -sum_p if kind == FORWARD_KL or kind >= CROSS_ENTROPY else fold(slopes)
        for i in range(len(s)):
            g = fma(q[i], -mean, steps[i]) if q[i] > 0.0 else steps[i]
            grad[i] = g * (scale * inverse_t)
    return scale * (0.0 if loss < 0.0 and kind != CROSS_ENTROPY else loss)


@njit(**FAST)
def divergence_f64(student, teacher, kind, share, temperature, scale, loss):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teacher[i], kind, share, temperature[i], scale[i], None)


@njit(**FAST)
def divergence_grad_f64(student, teacher, kind, share, temperature, scale, loss, grad):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        loss[i] = loss_of_row(student[i], teacher[i], kind, share, temperature[i], scale[i], grad[i])


divergence_f32, divergence_grad_f32 = divergence_f64, divergence_grad_f64
