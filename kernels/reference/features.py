"""What losses on features are made of."""

from functools import partial

import numpy as np

from .dense import pack_f32
from .distillation import of_float32, rounded, ulp

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


def unit_rows(x):
    """x/|x| and 1/|x| of rows, 0 for rows of zeros."""
    length = np.linalg.norm(x, axis=1)
    inverse = np.where(length == 0, 0.0, 1 / np.where(length == 0, 1.0, length))
    return x * inverse[:, None], inverse


def off(n):
    """What the inverse of a length of n is off by, relatively: here and in a kernel."""
    return 2 * U64 * (n + 16)


def unit_rows_f32(x, inverse, unit):
    """unit_i = x_i/|x_i|, inverse_i = 1/|x_i|."""
    unit[...], inverse[...] = unit_rows(x.astype(np.float64))


def unit_rows_f32_bound(x, inverse, unit):
    return off(x.shape[1]) * inverse, ulp(unit) + off(x.shape[1]) * np.abs(unit)


def unit_rows_f32_sample(rng, m, n):
    return ((rng.standard_normal((m, n)) * rng.choice([0.0, 1e-38, 1.0, 1e37], (m, 1))).astype(np.float32),)


def unit_rows_grad_f32(unit, inverse, by_unit, grad):
    """grad_i = inverse_i·(g - u·<u, g>), u = unit_i and g = by_unit_i."""
    u, g = unit.astype(np.float64), by_unit.astype(np.float64)
    grad[...] = inverse[:, None] * (g - u * (u * g).sum(axis=1, keepdims=True))


def unit_rows_grad_f32_bound(unit, inverse, by_unit, grad):
    u, g = np.abs(unit.astype(np.float64)), np.abs(by_unit.astype(np.float64))
    return ulp(grad) + off(u.shape[1]) * inverse[:, None] * (g + u * (u * g).sum(axis=1, keepdims=True))


def unit_rows_grad_f32_sample(rng, m, n):
    unit, inverse = unit_rows(np.float64(unit_rows_f32_sample(rng, m, n)[0]))
    by_unit = unit + 1e-3 * rng.standard_normal((m, n))  # most of it along the unit
    return unit.astype(np.float32), np.minimum(inverse, 1e30), by_unit.astype(np.float32)


def units_apart_f64(student, teacher, loss):
    """loss_i = |u - v|², u = student_i/|student_i| and v = teacher_i/|teacher_i|."""
    units_apart_grad_f64(student, teacher, 0.0, loss, np.empty(student.shape))


def units_apart_grad_f64(student, teacher, scale, loss, grad):
    """The loss, and grad_i = 2·scale·(d - u·<u, d>)/|student_i|, d = u - v."""
    u, v, inverse = units_of_any_size(student, teacher)
    d = u - v
    loss[...] = (d**2).sum(axis=1)
    grad[...] = 2 * scale * (d - u * (u * d).sum(axis=1, keepdims=True)) * inverse


def units_of_any_size(student, teacher):
    """Units of both and 1/|student|, of rows that were divided by their largest first: squares may be out of range."""
    student, teacher = student.astype(np.float64), teacher.astype(np.float64)
    tops = [np.abs(x).max(axis=1, keepdims=True, initial=0.0) for x in (student, teacher)]
    tops = [np.where(top > 0, top, 1.0) for top in tops]
    (u, inverse), (v, _) = (unit_rows(x / top) for x, top in zip((student, teacher), tops, strict=True))
    return u, v, inverse[:, None] / tops[0]


def units_apart_f64_bound(student, teacher, loss):
    return units_apart_grad_f64_bound(student, teacher, 0.0, loss, np.empty(student.shape))[0]


def units_apart_grad_f64_bound(student, teacher, scale, loss, grad):
    """u and v are off by `moved` together, and with them d; sums by as much of their terms as a length of its own."""
    u, v, inverse = units_of_any_size(student, teacher)
    d, moved = np.abs(u - v), 2 * off(u.shape[1]) * (np.abs(u) + np.abs(v))
    u = np.abs(u)
    along = (moved * (u + d)).sum(axis=1, keepdims=True) + off(u.shape[1]) * (u * d).sum(axis=1, keepdims=True)
    size = (u * d).sum(axis=1, keepdims=True)
    of_grad = moved * (1 + size) + u * along + off(u.shape[1]) * (d + u * size)
    of_loss = (2 * d * moved + moved**2 + off(u.shape[1]) * d**2).sum(axis=1)
    return of_loss, 2 * abs(scale) * of_grad * inverse


def units_apart_f64_sample(rng, m, n, far=1e200):
    """Rows of any size, some close to their teacher's direction."""
    teacher = rng.standard_normal((m, n))
    apart = rng.choice([0.0, 1e-9, 1.0], (m, 1)) * rng.standard_normal((m, n))
    student = (teacher + apart) * rng.choice([0.0, 1 / far, 1.0, far], (m, 1))
    return student, teacher * rng.choice([0.0, 1 / far, 1.0, 1.0, far], (m, 1))


def units_apart_grad_f64_sample(rng, m, n, far=1e200):
    return *units_apart_f64_sample(rng, m, n, far), float(rng.choice([0.0, 1.0, 0.01]))


units_apart_f32, units_apart_f32_bound = units_apart_f64, units_apart_f64_bound
units_apart_f32_sample = of_float32(partial(units_apart_f64_sample, far=1e30), 2)
units_apart_grad_f32 = units_apart_grad_f64
units_apart_grad_f32_sample = of_float32(partial(units_apart_grad_f64_sample, far=1e30), 2)
units_apart_grad_f32_bound = rounded(units_apart_grad_f64_bound)
