"""exp, log, softmax and the distillation loss: the chains of csrc/kernels/softmax.h and kd_loss.c."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, bits_float, float_bits, fma, fold
from .double import LOG2E
from .elementary import LOG2, larger, log64

f32, f64 = np.float32, np.float64
BLOCK, MOST_BLOCKS, MOST_RISE, NO_ELEMENT = 1024, 512, 64, 1 << 18
INFINITY, NAN, ZERO = f32(np.inf), f32(np.nan), f32(0)
SMALLEST, LARGEST = float(np.finfo(f32).tiny), float(np.finfo(f32).max)
MOST = f32(LARGEST)
BEND = tuple(f32(float.fromhex(c)) for c in (
    "0x1.fffffep-2", "-0x1.555354p-3", "0x1.5556d6p-5", "-0x1.13182ep-7", "0x1.6cd0d0p-10"))
PLACES, LEAST = 1.5 * 2.0**19, f32(1.5 * 2.0**19 - 126)
TERM_K_LOG = float.fromhex("0x1.30a875d05a61bp-1")
POWERS = (0x3fe8137e, 0x3fea59dd, 0x3fed14b1, 0x3fec2491, 0x3fe9fe49, 0x3fe81a50, 0x3fe67b96, 0x3fe5252c,
          0x3fe41a45, 0x3fe35e39, 0x3fe2f486, 0x3fe2e0d1, 0x3fe326e9, 0x3fe3cac8, 0x3fe4d094, 0x3fe63ca4)
EXP2 = tuple(f32(float.fromhex(c)) for c in ("0x1.62e430p-1", "0x1.ebfff4p-3", "0x1.c6ac6ap-5"))
RAISED, LOWERED = f32(2.0**112), f32(2.0**-112)
"""By which a part of a sum is raised while it is computed, so that it is rounded to 24 bits even where it is subnormal
in the end; that rounds again."""
LEAST_CHANCE, LARGE_GAP = 2.0**-106, f32(2.0**30)
"""Smaller probabilities are 0, unless their logarithms are farther apart."""
QUARTER, NEAR = f32(0.25), f32(0.5)
FINITE, EMPTY, UNKNOWN = 0, 1, 2


@njit(**FAST)
def row_max(x):  # type: ignore[no-untyped-def]
    """The largest element, NaN if any is."""
    top = -INFINITY
    for v in x:
        if v != v:
            return NAN
        top = larger(v, top)
    return top


@njit(**FAST)
def classify(top):  # type: ignore[no-untyped-def]
    if top < INFINITY:
        return FINITE if top > -INFINITY else EMPTY
    return UNKNOWN


@njit(**FAST)
def terms_of(top, temperature):  # type: ignore[no-untyped-def]
    """base, log2(e)/T in two floats, places and rest: pc_terms_of of csrc/kernels/softmax.h."""
    kept = min(max(LOG2E / temperature, SMALLEST), LARGEST)
    c = f32(kept)
    base = top if abs(f64(top) * kept) > 2.0**17 else ZERO
    above = (f64(top) - f64(base)) * kept
    down = np.rint(above) - 24.0
    return base, c, f32(kept - f64(c)), f32(PLACES - down), (above - down) * LOG2 + TERM_K_LOG


@njit(**FAST)
def term(x, terms):  # type: ignore[no-untyped-def]
    """k 2^(24 - shift + (x - base) c)."""
    base, c, c_low, places, _ = terms
    z = x - base
    n = fma(z, c, places)
    if not n > LEAST:
        return ZERO
    f = fma(z, c_low, fma(z, c, places - n))
    bits = float_bits(n)
    power = bits_float(np.int32(POWERS[bits & 15] + (bits << 19)))
    q = fma(fma(EXP2[2], f, EXP2[1]), f, EXP2[0])
    return fma(q * f, power, power)


@njit(**FAST)
def add_terms(x, terms, lanes):  # type: ignore[no-untyped-def]
    for start in range(0, len(x), 2 * LANES):
        for i in range(start, min(start + LANES, len(x))):
            e = term(x[i], terms)
            if i + LANES < len(x):
                e += term(x[i + LANES], terms)
            lanes[i - start] += f64(e)


@njit(**FAST)
def sum_terms(x, terms):  # type: ignore[no-untyped-def]
    lanes = np.zeros(LANES)
    add_terms(x, terms, lanes)
    return fold(lanes)


@njit(**FAST)
def softmax_f32(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        row = x[i]
        top = row_max(row)
        kind = classify(top)
        if kind != FINITE:
            y[i] = ZERO if kind == EMPTY else NAN
            continue
        terms = terms_of(top, temperature)
        inverse = 1.0 / sum_terms(row, terms)
        r, r_low = f32(inverse) * RAISED, f32(inverse - f64(f32(inverse))) * RAISED
        for j in range(len(row)):
            e = term(row[j], terms)
            y[i, j] = fma(e, r, e * r_low) * LOWERED


@njit(**FAST)
def log_softmax_f32(x, temperature, y):  # type: ignore[no-untyped-def]
    inverse = 1.0 / temperature
    for i in range(x.shape[0]):
        row = x[i]
        top = row_max(row)
        kind = classify(top)
        if kind != FINITE:
            y[i] = -INFINITY if kind == EMPTY else NAN
            continue
        terms = terms_of(top, temperature)
        log_sum = log64(sum_terms(row, terms)) - terms[4]
        if terms[0] != ZERO or not 2.0**-64 < inverse < 2.0**64:
            for j in range(len(row)):
                y[i, j] = f32(fma(f64(row[j]) - f64(top), inverse, -log_sum))
            continue
        shift = -(f64(top) / temperature + log_sum)
        high, k = f32(inverse), f32(shift)
        if f64(high) > inverse:
            high = np.nextafter(high, ZERO)
        low, k_low = f32(inverse - f64(high)), f32(shift - f64(k))
        for j in range(len(row)):
            y[i, j] = fma(row[j], high, k) + larger(fma(row[j], low, k_low), -MOST)


@njit(**FAST)
def logsumexp_f32(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        top = row_max(x[i])
        kind = classify(top)
        if kind != FINITE:
            y[i] = -INFINITY if kind == EMPTY else NAN
        else:
            terms = terms_of(top, temperature)
            y[i] = f32(f64(top) / temperature + (log64(sum_terms(x[i], terms)) - terms[4]))


@njit(**FAST)
def softmax_columns_f32(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        softmax_f32(x[i].T, temperature, y[i].T)


@njit(**FAST)
def log_softmax_columns_f32(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        log_softmax_f32(x[i].T, temperature, y[i].T)


@njit(**FAST)
def logsumexp_columns_f32(x, temperature, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        logsumexp_f32(x[i].T, temperature, y[i])


@njit(**FAST)
def gap_of(apart, base_t, base_s, temperature):  # type: ignore[no-untyped-def]
    """The bases and `apart` in quarters, the latter in two floats, and 4/T."""
    c = max(-LARGEST, min(0.25 * apart, LARGEST))
    high = f32(c)
    return QUARTER * base_t, QUARTER * base_s, high, f32(c - f64(high)), f32(min(4.0 / temperature, LARGEST))


@njit(**FAST)
def gap_between(t, s, gap):  # type: ignore[no-untyped-def]
    """(t - s - apart)/T: gaps_between of csrc/kernels/kd_loss.h."""
    base_t, base_s, apart_high, apart_low, factor = gap
    t, s = fma(t, QUARTER, -base_t), fma(s, QUARTER, -base_s)
    high = t - s
    of_s = t - high
    of_t = high + of_s
    low = (t - of_t) - (s - of_s)
    return ((high - apart_high) + (low - apart_low)) * factor


@njit(**FAST)
def block_length(n):  # type: ignore[no-untyped-def]
    length = BLOCK
    while length * MOST_BLOCKS < n:
        length *= 2
    return length


@njit(**FAST)
def read_once(x, temperature, places):  # type: ignore[no-untyped-def]
    """The sum of terms, block by block over the power of two of the largest element so far, and each block's `places`.
    NaN if the largest of the row has to be known first: csrc/kernels/terms_once.h."""
    length, top = block_length(len(x)), -INFINITY
    terms = (ZERO, f32(1.0), ZERO, f32(PLACES + NO_ELEMENT), 0.0)
    first, lanes = ZERO, np.zeros(LANES)
    for block in range(0, len(x), length):
        part = x[block : block + length]
        highest = top
        for v in part:
            highest = larger(v, highest)
        if highest > top:
            risen = terms_of(highest, temperature)
            if top == -INFINITY:
                first = risen[3]
            if risen[0] != ZERO or first - risen[3] > MOST_RISE:
                return np.nan
            if top > -INFINITY:
                lanes *= math.ldexp(1.0, int(risen[3] - terms[3]))
            top, terms = highest, risen
        places[block // length] = terms[3]
        add_terms(part, terms, lanes)
    return fold(lanes)


@njit(**FAST)
def divergence(s, t, top_s, top_t, temperature, step, grad):  # type: ignore[no-untyped-def]
    student, teacher = terms_of(top_s, temperature), terms_of(top_t, temperature)
    places_s, places_t = np.empty(MOST_BLOCKS, f32), np.empty(MOST_BLOCKS, f32)
    sum_s, sum_t = read_once(s, temperature, places_s), read_once(t, temperature, places_t)
    if np.isnan(sum_s) or np.isnan(sum_t):
        places_s[:], places_t[:] = student[3], teacher[3]
        sum_s, sum_t = sum_terms(s, student), sum_terms(t, teacher)
    length = block_length(len(s))
    shift = (teacher[4] - student[4]) - log64(sum_t / sum_s)
    apart = (f64(top_t) - f64(teacher[0])) - (f64(top_s) - f64(student[0])) - shift * temperature
    gap = gap_of(apart, teacher[0], student[0], temperature)
    kl, pd = np.zeros(LANES), np.zeros(LANES)
    kl_lanes, pd_lanes = np.zeros(LANES, f32), np.zeros(LANES, f32)
    for block in range(0, len(s), BLOCK):
        kl_lanes[:], pd_lanes[:] = ZERO, ZERO
        of_s, of_t = places_s[block // length], places_t[block // length]
        whole_s = math.ldexp(sum_s, -int(student[3] - of_s))
        whole_t = math.ldexp(sum_t, -int(teacher[3] - of_t))
        rs, rt = f32(1.0 / whole_s), f32(1.0 / whole_t)
        least_s, least_t = f32(LEAST_CHANCE * whole_s), f32(LEAST_CHANCE * whole_t)
        own_s, own_t = (*student[:3], of_s, 0.0), (*teacher[:3], of_t, 0.0)
        for i in range(block, min(block + BLOCK, len(s))):
            q, p, d = term(s[i], own_s), term(t[i], own_t), gap_between(t[i], s[i], gap)
            q = ZERO if q < least_s else q * rs
            p = ZERO if p < least_t and abs(d) <= LARGE_GAP else p * rt
            excess = q - p
            share = p if p == ZERO else p * d
            if abs(d) < NEAR:
                g = fma(BEND[4], d, BEND[3])
                g = fma(g, d, BEND[2])
                g = fma(g, d, BEND[1])
                kl_lanes[i % LANES] += share * (d * fma(g, d, BEND[0]))
            else:
                kl_lanes[i % LANES] += share + excess
            pd_lanes[i % LANES] += share
            if grad is not None:
                grad[i] = step * excess
        for j in range(LANES):
            kl[j] += f64(kl_lanes[j])
            pd[j] += f64(pd_lanes[j])
    whole = fold(kl)
    b = whole - fold(pd)
    total = whole - b * b * (0.5 - b * (1.0 / 3.0))
    if not whole < np.inf:
        return np.inf
    return 0.0 if total < 0.0 else total


@njit(**FAST)
def below_max(s, top):  # type: ignore[no-untyped-def]
    lanes = np.zeros(LANES)
    for i in range(len(s)):
        lanes[i % LANES] += f64(top) - f64(s[i])
    return fold(lanes)


@njit(**FAST)
def cross_entropy(s, top, label, smoothing, step, grad):  # type: ignore[no-untyped-def]
    own, even = 1.0 - smoothing, smoothing / len(s)
    terms = terms_of(top, 1.0)
    total = sum_terms(s, terms)
    if grad is not None:
        r, share = f32(step / total), f32(step * even)
        for i in range(len(s)):
            grad[i] = fma(term(s[i], terms), r, grad[i] - share)
        grad[label] -= f32(step * own)
    of_label = own * (f64(top) - f64(s[label])) if own > 0.0 else 0.0
    loss = (log64(total) - terms[4]) + of_label + (even * below_max(s, top) if even > 0.0 else 0.0)
    return 0.0 if loss < 0.0 else loss


@njit(**FAST)
def loss_of_row(s, t, labels, row, temperature, soft, hard, smoothing, grad):  # type: ignore[no-untyped-def]
    if soft == 0.0 and hard == 0.0:
        if grad is not None:
            grad[:] = ZERO
        return 0.0
    top_s, top_t = row_max(s), row_max(t)
    kind_s, kind_t = classify(top_s), classify(top_t)
    if kind_s == UNKNOWN or kind_t == UNKNOWN:
        if grad is not None:
            grad[:] = NAN
        return np.nan
    loss = 0.0
    if kind_s == EMPTY or kind_t == EMPTY:
        if grad is not None:
            grad[:] = ZERO
    else:
        kl = divergence(s, t, top_s, top_t, temperature, f32(soft / temperature), grad)
        loss = 0.0 if soft == 0.0 else soft * kl
    if labels is not None and hard != 0.0 and kind_s == FINITE:
        loss += hard * cross_entropy(s, top_s, labels[row], smoothing, hard, grad)
    return loss


@njit(**FAST)
def kd_loss_f32(student, teacher, labels, temperature, soft, hard, smoothing, loss):  # type: ignore[no-untyped-def]
    for i in range(len(loss)):
        of_label = 0.0 if labels is None else hard[i]
        loss[i] = loss_of_row(student[i], teacher[i], labels, i, temperature[i], soft[i], of_label, smoothing, None)


@njit(**FAST)
def kd_loss_grad_f32(  # type: ignore[no-untyped-def]
    student, teacher, labels, temperature, soft, hard, smoothing, loss, grad
):
    for i in range(len(loss)):
        of_label = 0.0 if labels is None else hard[i]
        loss[i] = loss_of_row(
            student[i], teacher[i], labels, i, temperature[i], soft[i], of_label, smoothing, grad[i])
