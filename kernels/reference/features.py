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


def flat(a):
    """[m, blocks, 16] as rows."""
    return a.reshape(len(a), a.shape[1] * 16)


def triple_cosines(d, inverse):
    """[i, j, k]: at j between i and k, by distances; and the sizes of what it is made of."""
    squares, sides = d**2, 0.5 * inverse[:, :, None] * inverse[None]
    parts = squares[:, :, None], squares[None], squares[:, None]
    return (parts[0] + parts[1] - parts[2]) * sides, (parts[0] + parts[1] + parts[2]) * sides


def triple_terms(student, student_inverse, teacher, teacher_inverse):
    """Of each triple: the difference of the cosines, its error at most, the student's cosine, 1/d_ij and 1/d_kj."""
    m = len(student)
    d, near, of_teacher, far = (flat(a)[:, :m] for a in (student, student_inverse, teacher, teacher_inverse))
    (c, size), (wanted, other) = triple_cosines(d, near), triple_cosines(of_teacher, far)
    i, j, k = np.ogrid[:m, :m, :m]
    x = np.where((i != j) & (j != k) & (i != k), c - wanted, 0.0)
    return x, 8 * U64 * (size + other), c, near[:, :, None], near[None]


def triple_angles_f64(student, student_inverse, teacher, teacher_inverse, value, by_arm, by_opposite):
    """Σ_jk g·(x - g/2), Σ_k g·(1/d_kj - c/d_ij)/d_ij, Σ_j g/(d_ij·d_kj): x the cosines' difference, g it in -1 .. 1."""
    x, _, c, arm, other = triple_terms(student, student_inverse, teacher, teacher_inverse)
    g = np.clip(x, -1, 1)
    value[...] = (g * (x - g / 2)).sum(axis=(1, 2))
    by_arm[...] = (g * arm * (other - c * arm)).sum(axis=2)
    by_opposite[...] = 0.0
    flat(by_opposite)[:, : len(x)] = (g * arm * other).sum(axis=1)


def triple_angles_f64_bound(student, student_inverse, teacher, teacher_inverse, value, by_arm, by_opposite):
    x, off, c, arm, other = triple_terms(student, student_inverse, teacher, teacher_inverse)
    m, g = len(x), np.clip(np.abs(x), 0, 1)
    rounding = 4 * U64 * (m + 8)
    of_value = (np.abs(x) * off + off**2 + m * rounding * g * np.abs(x)).sum(axis=(1, 2))
    of_arm = ((off + rounding * g) * arm * (other + np.abs(c) * arm) + g * off * arm**2).sum(axis=2)
    of_opposite = np.zeros(by_opposite.shape)
    flat(of_opposite)[:, :m] = ((off + rounding * g) * arm * other).sum(axis=1)
    return of_value, of_arm, of_opposite


def triple_angles_f64_sample(rng, m):
    """Student and teacher, some of whose examples are the same or next to each other."""
    sides = []
    for _ in range(2):
        x, panels = row_distances_f32_sample(rng, m, 5)
        d = np.zeros((m, -(-m // 16), 16))
        row_distances_f32(x, panels, flat(d)[:, :m])
        sides += [d, np.where(d > 0, 1 / np.where(d > 0, d, 1.0), 0.0)]
    return tuple(sides)
