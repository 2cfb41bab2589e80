"""Masks are exact, so any way to them gives the bits of csrc/kernels/mask.c; sums of blocks: block_sum.c's chains."""

import numpy as np
from numba import njit

from ..entry import NanError
from .arithmetic import FAST, float_bits, fma, fold

L1, L2 = 1, 2


@njit(**FAST)
def key(x, magnitude):  # type: ignore[no-untyped-def]
    """An integer from 0 to 2**32 - 1 in the order of the floats; -0 equals +0."""
    if np.isnan(x):
        raise NanError("an operand holds NaN")
    bits = np.int64(float_bits(x))
    size = bits & 0x7FFFFFFF
    return 0x80000000 + (-size if bits < 0 and magnitude == 0 else size)


@njit(**FAST)
def half_of_kth(scores, magnitude, k, high):  # type: ignore[no-untyped-def]
    """The high 16 bits of the k-th largest key (high < 0), or the low 16 of the k-th among the keys of these high bits.

    Also k less the keys above.
    """
    counts = np.zeros(65536, np.int64)
    for i in range(scores.shape[0]):
        this = key(scores[i], magnitude)
        if high < 0:
            counts[this >> 16] += 1
        elif this >> 16 == high:
            counts[this & 0xFFFF] += 1
    part = 65535
    while part > 0 and k > counts[part]:
        k -= counts[part]
        part -= 1
    return part, k


@njit(**FAST)
def topk_mask_f32(scores, magnitude, k, mask):  # type: ignore[no-untyped-def]
    high, rank = half_of_kth(scores, magnitude, k, -1)
    low, room = half_of_kth(scores, magnitude, rank, high)
    edge = (high << 16) + low
    for i in range(scores.shape[0]):
        this = key(scores[i], magnitude)
        mask[i] = this > edge or (this == edge and room > 0)
        room -= this == edge


@njit(**FAST)
def nm_mask_f32(scores, magnitude, keep, mask):  # type: ignore[no-untyped-def]
    for g in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            mine = key(scores[g, i], magnitude)
            rank = 0
            for j in range(scores.shape[1]):
                other = key(scores[g, j], magnitude)
                rank += other > mine or (other == mine and j < i)
            mask[g, i] = rank < keep


@njit(**FAST)
def block_sum_f32(scores, norm, sums):  # type: ignore[no-untyped-def]
    r, h, c, w = scores.shape
    acc, wide = np.zeros(16, np.float32), np.zeros(16, np.float64)
    for block in range(r * c):
        i, j = block // c, block % c
        acc[:] = 0
        wide[:] = 0
        for e in range(h * w):
            if e and e % 1024 == 0:
                wide += acc
                acc[:] = 0
            x = scores[i, e // w, j, e % w]
            if norm == L2:
                acc[e % 16] = fma(x, x, acc[e % 16])
            else:
                acc[e % 16] += abs(x) if norm == L1 else x
        wide += acc
        sums[i, j] = fold(wide) if h * w > 1024 else fold(acc)
