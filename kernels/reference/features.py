"""What losses on features are made of."""

import numpy as np

from .dense import pack_f32
from .distillation import ulp

U64 = 2.0**-53
LEAST = 2.0**-1074


def attention_map_f32(x, power, y):
    """y[i, j] = Σ_l |x[i, l, j]|^power."""
    y[...] = (np.abs(x.astype(np.float64)) ** power).sum(axis=1)


def attention_map_f32_bound(x, power, y):
    """A rounding for each factor and each sum, those of the reference as well."""
    return 2 * U64 * (x.shape[1] + power) * y + x.shape[1] * LEAST


def attention_map_f32_sample(rng, m, c, n):
    return (rng.standard_normal((m, c, n)) * rng.choice([0.0, 1e-20, 1.0, 30.0], (m, c, 1))).astype(np.float32), int(
        rng.choice([1, 2, 2, 3, 8]))


def attention_map_grad_f32(x, power, slope, grad):
    """grad[i, l, j] = slope[i, j]·sign(x)·|x|^(power - 1)."""
    x = x.astype(np.float64)
    grad[...] = slope[:, None] * np.sign(x) * np.abs(x) ** (power - 1)


def attention_map_grad_f32_bound(x, power, slope, grad):
    return ulp(grad) + 2 * U64 * (power + 2) * np.abs(grad)


def attention_map_grad_f32_sample(rng, m, c, n):
    x, power = attention_map_f32_sample(rng, m, c, n)
    return x, power, rng.standard_normal((m, n))


def row_distances_f32(x, panels, d):
    """d[i, j] = |x_i - x_j|."""
    x = x.astype(np.float64)
    for i in range(len(x)):
        d[i] = np.sqrt(((x[i] - x) ** 2).sum(axis=1))


def row_distances_f32_bound(x, panels, d):
    return U64 * (2 * x.shape[1] + 4) * d


def row_distances_f32_sample(rng, m, k):
    """Some rows next to others, or the same."""
    x = rng.standard_normal((m, k)).astype(np.float32)
    near = rng.random(m) < 0.3
    x[near] = x[:1] * (1 + np.float32(2.0**-20) * rng.integers(0, 2, (int(near.sum()), k), np.int32))
    panels = np.empty((-(-m // 16), k, 16), np.float32)
    pack_f32(x.T, panels)
    return x, panels


def row_pulls_f32(x, pull, y):
    """y_i = Σ_j pull[i, j]·(x_i - x_j)."""
    x = x.astype(np.float64)
    for i in range(len(x)):
        y[i] = (pull[i][:, None] * (x[i] - x)).sum(axis=0)


def row_pulls_f32_bound(x, pull, y):
    x = x.astype(np.float64)
    size = np.array([(np.abs(pull[i])[:, None] * np.abs(x[i] - x)).sum(axis=0) for i in range(len(x))]).reshape(x.shape)
    return ulp(y) + U64 * (2 * len(x) + 4) * size


def row_pulls_f32_sample(rng, m, k):
    return row_distances_f32_sample(rng, m, k)[0], rng.standard_normal((m, m)) * rng.choice([0.0, 1.0, 1e5], (m, m))
