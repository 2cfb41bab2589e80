"""Masks of the largest scores, and sums of blocks of scores."""

import numpy as np

from ..entry import NanError
from .arithmetic import TINY, U, fma, gamma

SUM, L1, L2 = range(3)
"""Norms of a block, as pc_norm numbers them."""


def topk_mask_f32(scores, magnitude, k, mask):
    """mask = True for the k largest (in magnitude) scores; among equals the lower index first. NaN is an error."""
    scores = np.abs(scores) if magnitude else scores
    if np.isnan(scores).any():
        raise NanError("scores holds NaN")
    mask[...] = False
    mask[np.argsort(-scores, kind="stable")[:k]] = True


def topk_mask_f32_sample(rng, n):
    scores = rng.standard_normal(n).astype(np.float32)
    if rng.random() < 0.5:
        scores = np.round(scores, int(rng.integers(3)))  # ties, and zeros of both signs
    return scores, int(rng.integers(2)), int(rng.integers(n + 1))


def nm_mask_f32(scores, magnitude, keep, mask):
    """:func:`topk_mask_f32` of each row."""
    for row, out in zip(scores, mask, strict=True):
        topk_mask_f32(row, magnitude, keep, out)


def nm_mask_f32_sample(rng, g, m):
    scores, magnitude, _ = topk_mask_f32_sample(rng, g * m)
    return scores.reshape(g, m), magnitude, int(rng.integers(m + 1))


def exact(*operands):
    """No error is allowed."""
    return np.zeros(operands[-1].shape)


def block_sum_f32(scores, norm, sums):
    """sums[i, j] = Σ f(scores[i, :, j, :]), f the score itself, its magnitude, or its square."""
    terms = scores.astype(np.float64)
    terms = {SUM: terms, L1: np.abs(terms), L2: terms**2}[norm]
    sums[...] = terms.sum((1, 3))


def block_sum_f32_bound(scores, norm, sums):
    """A lane adds at most 64 terms before it is moved to float64; the fold adds 4; a long sum is rounded once."""
    size = scores.shape[1] * scores.shape[3]
    magnitude = np.zeros(sums.shape)
    block_sum_f32(scores, L2 if norm == L2 else L1, magnitude)
    steps = min(-(-size // 16), 64) + 5
    return gamma(steps) * magnitude + U * np.abs(sums) + (size + 5) * TINY


def block_sum_f32_chain(scores, norm, sums):
    """The lane rule over each block in C order, literally."""
    r, h, c, w = scores.shape
    flat = np.zeros((-(-h * w // 16) * 16, r, c), np.float32)
    flat[: h * w] = scores.transpose(1, 3, 0, 2).reshape(h * w, r, c)
    acc, wide = np.zeros((16, r, c), np.float32), np.zeros((16, r, c))
    for e in range(0, h * w, 16):
        if e and e % 1024 == 0:
            wide, acc = wide + acc, np.zeros_like(acc)
        x = flat[e : e + 16]
        acc = fma(x, x, acc) if norm == L2 else acc + (np.abs(x) if norm == L1 else x)
    lanes = wide + acc if h * w > 1024 else acc
    for half in (8, 4, 2, 1):
        lanes = lanes[:half] + lanes[half : 2 * half]
    sums[...] = lanes[0]


def block_sum_f32_sample(rng, r, h, c, w):
    return rng.standard_normal((r, h, c, w)).astype(np.float32), int(rng.integers(3))
