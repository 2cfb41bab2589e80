"""Feature losses: values against NumPy in float64, gradients against central differences, what they must not see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp import distillation as d

W = np.random.default_rng(9).standard_normal((5, 6)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def hint(s, t):
    return ((s @ W.T.astype(np.float64) - t) ** 2).sum() / (2 * len(s))


def attention(s, t):
    maps = [unit((a.reshape(len(a), 2, -1) ** 2).sum(axis=1)) for a in (s, t)]
    return ((maps[0] - maps[1]) ** 2).sum() / len(s)


def similarity(s, t):
    return ((unit(s @ s.T) - unit(t @ t.T)) ** 2).sum() / len(s) ** 2


def huber(x):
    return np.where(np.abs(x) <= 1, x**2 / 2, np.abs(x) - 0.5)


def distance(s, t):
    def relative(x):
        each = np.linalg.norm(x[:, None] - x[None], axis=2)
        return each / (each.sum() / (len(x) * (len(x) - 1)))

    return huber(relative(s) - relative(t)).sum() / (len(s) * (len(s) - 1))


def angle(s, t):
    def cosines(x):
        with np.errstate(invalid="ignore"):
            e = np.nan_to_num(unit(x[:, None] - x[None]))  # [i, j]
        return np.einsum("ijd,kjd->ijk", e, e)

    count = len(s)
    i, j, k = np.ogrid[:count, :count, :count]
    return huber(cosines(s) - cosines(t))[(i != j) & (j != k) & (i != k)].mean()


def cka(s, t):
    x, y = s - s.mean(axis=0), t - t.mean(axis=0)
    return 1 - np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def contrastive(s, t):
    z = unit(s) @ unit(t).T / 0.5
    return -np.mean(np.diagonal(z - np.log(np.exp(z).sum(axis=1, keepdims=True))))


# name -> (call, formula, features of the teacher)
LOSSES = {
    "hint": (lambda s, t, **o: d.hint_loss(s, t, W, **o), hint, 5),
    "attention": (lambda s, t, **o: d.attention_loss(s.reshape(-1, 2, 3), t.reshape(-1, 2, 3), **o), attention, 6),
    "similarity": (d.similarity_loss, similarity, 5),
    "distance": (d.relational_distance_loss, distance, 5),
    "angle": (d.relational_angle_loss, angle, 5),
    "CKA": (d.cka_loss, cka, 5),
    "contrastive": (lambda s, t, **o: d.contrastive_loss(s, t, temperature=0.5, **o), contrastive, 6),
}
each_loss = pytest.mark.parametrize(("call", "formula", "width"), LOSSES.values(), ids=LOSSES)


def operands(seed, width, count=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6)).astype(np.float32), rng.standard_normal((count, width)).astype(np.float32)


@each_loss
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_values_and_gradients(call, formula, width, seed):
    s, t = operands(seed, width)
    loss, grad, *_ = call(s, t, return_grad=True)
    assert loss == call(s, t)
    wide, exact = s.astype(np.float64), t.astype(np.float64)
    assert loss == pytest.approx(formula(wide, exact), rel=1e-5, abs=1e-6)
    grad = grad.reshape(s.shape)
    scale = float(np.abs(grad).max())
    for i, j in np.ndindex(s.shape):
        step = np.zeros_like(wide)
        step[i, j] = 1e-6
        slope = (formula(wide + step, exact) - formula(wide - step, exact)) / 2e-6
        assert grad[i, j] == pytest.approx(slope, rel=2e-4, abs=2e-5 * max(scale, 1e-3))


WIDE = np.longdouble


def norm(x, axis=None):
    return np.sqrt((x * x).sum(axis=axis))


def rms(x):
    return np.sqrt((x * x).mean())


def once(x):
    """What rounding to float32 takes."""
    return 2.0**-24 * np.abs(x) + 2.0**-149


def towards(u, v):
    """Of |u - v|² by what u is the direction of, over 2/length."""
    return u - v - u * (u * (u - v)).sum(axis=-1, keepdims=True)


def hint_with_bound(s, t, w):
    """Of each function here: the loss and its bound, and gradients with theirs."""
    count, size = len(s), np.abs(s) @ np.abs(w.T)
    r, e = s @ w.T - t, (s.shape[1] + 4) * 2.0**-23 * size
    loss = (r * r).sum() / (2 * count)
    of_loss = np.sqrt(2 * loss / count) * norm(e) + norm(e) ** 2 / (2 * count) + 2.0**-28 * loss
    of_grad = (e + (len(w) + 4) * 2.0**-23 * np.abs(r)) @ np.abs(w) / count
    of_w = (e + (count + 4) * 2.0**-23 * np.abs(r)).T @ np.abs(s) / count
    return (loss, of_loss), (r @ w / count, of_grad), (r.T @ s / count, of_w)


def attention_with_bound(s, t, power):
    (q, wanted), positions = ((np.abs(a) ** power).sum(axis=1) for a in (s, t)), s.shape[2]
    lengths = norm(q, axis=1)[:, None]
    u, v = q / lengths, wanted / norm(wanted, axis=1)[:, None]
    loss = ((u - v) ** 2).sum() / len(s)
    e = (max(s.shape[1], t.shape[1]) + power + positions + 16) * 2.0**-50
    steep = (power * np.abs(s) ** (power - 1) / (len(s) * lengths[:, None]))
    grad = 2 * towards(u, v)[:, None] * np.sign(s) * steep
    return (loss, e * np.sqrt(loss) + e * e), (grad, once(grad) + 8 * e * steep)


def similarity_with_bound(s, t):
    count, e, units = len(s), 0.0, []
    for a in (s, t):
        gram = a @ a.T
        lengths = norm(gram, axis=1)
        units.append(gram / lengths[:, None])
        e = e + (a.shape[1] + 4) * 2.0**-22 * norm(a, axis=1) * norm(a) / lengths
    u, v = units
    lengths, e = norm(s @ s.T, axis=1), e.max()
    loss = ((u - v) ** 2).sum() / count**2
    m = 2 * towards(u, v) / lengths[:, None] / count**2
    of_grad = 16 * (e + (count + 4) * 2.0**-23) * norm(s) * norm(1 / lengths) / count**2
    return (loss, e * np.sqrt(loss / count) + e * e / count), ((m + m.T) @ s, of_grad)


def cka_with_bound(s, t):
    e, sides = 0.0, []
    for a in (s, t):
        x = a - a.mean(axis=0)
        gram = x @ x.T
        e += (a.shape[1] + 8) * 2.0**-23 * norm(x) ** 2 / norm(gram)
        sides.append((x, norm(gram), (gram / norm(gram)).reshape(1, -1)))
    (x, length, u), (_, _, v) = sides
    loss = ((u - v) ** 2).sum() / 2
    of_grad = (16 * e + (len(s) + 4) * 2.0**-22 * np.sqrt(loss)) * norm(x) / length
    grad = 2 * towards(u, v).reshape(len(s), -1) / length @ x
    return (loss, 2 * e * np.sqrt(loss) + e * e), (grad - grad.mean(axis=0), of_grad)


def pairs_of(x):
    """x_i - x_j, and their lengths."""
    apart = x[:, None] - x[None]
    return apart, norm(apart, axis=2)


def distance_with_bound(s, t):
    count, (apart, d), (_, far) = len(s), pairs_of(s), pairs_of(t)
    pairs = count * (count - 1)
    mean = d.sum() / pairs
    near, far = d / mean, far / (far.sum() / pairs)
    slope = np.clip(near - far, -1, 1) / pairs
    by_distance = (slope - (slope * near).sum() / pairs) / mean
    pull = by_distance / np.where(d > 0, d, 1) * (d > 0)
    grad = 2 * (pull[:, :, None] * apart).sum(axis=1)
    loss = huber(near - far).sum() / pairs
    e, spread = (s.shape[1] + t.shape[1] + count + 32) * 2.0**-51, np.sqrt(((near + far) ** 2).sum() / pairs)
    of_grad = 8 * e * spread * (np.sqrt(count) + spread) / (count * mean)
    return (loss, e * spread * np.sqrt(loss) + (e * spread) ** 2), (grad, norm(once(grad), axis=1)[:, None] + of_grad)


def angle_with_bound(s, t):
    count, sizes, cosines = len(s), 0.0, []
    i, j, k = np.ogrid[:count, :count, :count]
    triple = (i != j) & (j != k) & (i != k)
    for a in (s, t):
        apart, d = pairs_of(a)
        over = 1 / np.where(d > 0, d, np.inf)
        sides = over[:, :, None] * over[None]
        sizes = sizes + sides * ((d**2)[:, :, None] + (d**2)[None] + (d**2)[:, None])
        cosines.append((apart * over[:, :, None])[:, :, None])
        cosines[-1] = (cosines[-1] * cosines[-1].transpose(2, 1, 0, 3)).sum(axis=3)
    c, sizes = cosines[0], sizes[triple]
    apart, d = pairs_of(s)
    over = 1 / np.where(d > 0, d, np.inf)
    g = np.where(triple, np.clip(c - cosines[1], -1, 1), 0)
    units = apart * over[:, :, None]
    arm = (g[..., None] * (units.transpose(1, 0, 2)[None] - c[..., None] * units[:, :, None])).sum(axis=2)
    arm = 2 * arm * over[:, :, None] / triple.sum()  # by x_i, of i and of k; and by x_j the opposite
    grad = arm.sum(axis=1) - arm.sum(axis=0)
    loss = huber(c - cosines[1])[triple].mean()
    e = (s.shape[1] + t.shape[1] + count**2 + 16) * 2.0**-51
    of_grad = 32 * e * sizes.max() / (count * d[d > 0].min())
    e_loss = e * rms(sizes)
    return (loss, e_loss * np.sqrt(loss) + e_loss**2), (grad, norm(once(grad), axis=1)[:, None] + of_grad)


def contrastive_with_bound(s, t, temperature):
    count, width = s.shape
    lengths = norm(s, axis=1)[:, None]
    u, v = s / lengths, t / norm(t, axis=1)[:, None]
    z = u @ v.T / WIDE(temperature)
    z = z - z.max(axis=1, keepdims=True)
    q = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = (np.log(np.exp(z).sum(axis=1)) - np.diagonal(z)).mean()
    by_unit = (q - np.eye(count)) @ v / (count * WIDE(temperature))
    grad = (by_unit - u * (u * by_unit).sum(axis=1, keepdims=True)) / lengths
    of_grad = ((width + 4) / temperature + count + 8) * 2.0**-21 / (count * temperature * lengths)
    return (loss, (width + 4) * 2.0**-22 / temperature + 2.0**-28 * loss), (grad, of_grad)


@st.composite
def batches(draw):
    """Features of student and teacher, some of which are near each other, of one size or another, off zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, width, other = draw(st.integers(3, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    s = rng.standard_normal((count, width))
    near = draw(st.sampled_from([None, 0.0, 1e-6, 1e-3]))
    t = rng.standard_normal((count, other)) if near is None else s + near * rng.standard_normal(s.shape)
    sizes, offset = draw(st.sampled_from([1e-8, 1.0, 1e6])), draw(st.sampled_from([0.0, 0.0, 30.0]))
    return (sizes * (s + offset)).astype(np.float32), (t + offset).astype(np.float32), rng


def held(found, expected, in_norm):
    """Whether loss and gradients are within their bounds: by element, or by the norm of a matrix or of its rows."""
    for got, (exact, bound) in zip(found, expected, strict=True):
        error = np.abs(got - exact)
        if in_norm and error.ndim:
            error = norm(error, axis=1)[:, None] if np.ndim(bound) == 2 else norm(error)
        assert (error <= bound).all()


@settings(deadline=None, max_examples=40)
@given(batch=batches(), power=st.integers(1, 8), temperature=st.sampled_from([0.01, 0.07, 1.0, 100.0]))
def test_losses_and_gradients_are_within_their_bounds(batch, power, temperature):
    s, t, rng = batch
    wide, exact = s.astype(WIDE), t.astype(WIDE)
    w = rng.standard_normal((t.shape[1], s.shape[1])).astype(np.float32)
    held(d.hint_loss(s, t, w, return_grad=True), hint_with_bound(wide, exact, w.astype(WIDE)), False)
    maps = [rng.standard_normal((len(s), c, 5)).astype(np.float32) for c in (s.shape[1], t.shape[1])]
    found = d.attention_loss(*maps, power=power, return_grad=True)
    held(found, attention_with_bound(*(a.astype(WIDE) for a in maps), power), False)
    held(d.similarity_loss(s, t, return_grad=True), similarity_with_bound(wide, exact), True)
    held(d.cka_loss(s, t, return_grad=True), cka_with_bound(wide, exact), True)
    held(d.relational_distance_loss(s, t, return_grad=True), distance_with_bound(wide, exact), True)
    held(d.relational_angle_loss(s, t, return_grad=True), angle_with_bound(wide, exact), True)
    if s.shape == t.shape:
        found = d.contrastive_loss(s, t, temperature=temperature, return_grad=True)
        held(found, contrastive_with_bound(wide, exact, temperature), True)
        loss, slope = ((wide - exact) ** 2).sum() / (2 * len(s)), (wide - exact) / len(s)
        bounds = (loss, 2.0**-28 * loss), (slope, once(slope) + 2.0**-28 * np.abs(slope))
        held(d.hint_loss(s, t, return_grad=True), bounds, False)


def test_the_projection_has_its_gradient():
    s, t = operands(3, 5)
    _, _, grad = d.hint_loss(s, t, W, return_grad=True)
    for i, j in np.ndindex(W.shape):
        values = []
        for sign in (1, -1):
            moved = W.astype(np.float64)
            moved[i, j] += sign * 1e-6
            values.append(((s @ moved.T - t) ** 2).sum() / 8)
        assert grad[i, j] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-5)
    assert d.hint_loss(t, t) == 0


@pytest.mark.parametrize("name", ["attention", "similarity", "distance", "angle", "CKA"])
def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient(name):
    s, _ = operands(4, 6)
    loss, grad = LOSSES[name][0](s, s.copy(), return_grad=True)
    assert loss == 0
    assert (grad == 0).all()


def test_what_each_does_not_see():
    s, _ = operands(5, 6, 8)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0].astype(np.float32)
    turned = 3 * (s @ rotation)
    for loss in (d.similarity_loss, d.relational_distance_loss, d.relational_angle_loss, d.cka_loss):
        assert loss(turned, s) < 1e-11
    for loss in (d.relational_distance_loss, d.relational_angle_loss, d.cka_loss):
        assert loss(turned + np.float32(0.5), s) < 1e-10


def test_equal_examples_and_zeros_have_finite_gradients():
    s, t = operands(6, 6)
    s[1] = s[0]
    s[2] = 0
    for call, _, width in LOSSES.values():
        loss, grad, *_ = call(s, t[:, :width], return_grad=True)
        assert np.isfinite(loss)
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_attention_does_not_see_the_size_of_features(size):
    s, t = (a.reshape(4, 2, 3) for a in operands(8, 6))
    loss, grad = d.attention_loss(s, t, power=8, return_grad=True)
    scaled, slope = d.attention_loss(s * np.float32(size), t, power=8, return_grad=True)
    assert scaled == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(slope * np.float32(size), grad, rtol=1e-4, atol=1e-7)


@each_loss
def test_strides_do_not_count_and_nothing_is_written_to(call, formula, width):
    s, t = operands(10, width, 70)
    loss, *grads = call(s, t, return_grad=True)
    assert loss == call(s, t)
    for view in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a[:, ::-1].copy()[:, ::-1]):
        views, before = (view(s), view(t)), (s.copy(), t.copy())
        again, *slopes = call(*views, return_grad=True)
        assert again == loss
        for a, b in zip(slopes, grads, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(views, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_shapes_and_float_types():
    s, t = operands(7, 6)
    for dtype in (np.float16, np.float64):
        loss, grad = d.similarity_loss(s.astype(dtype).reshape(4, 2, 3), t, return_grad=True)
        assert loss == d.similarity_loss(s.astype(dtype).astype(np.float32), t)
        assert grad.shape == (4, 2, 3)
        assert grad.dtype == np.float32


S = np.ones((3, 6), np.float32)
M = S.reshape(3, 2, 3)
HUGE = np.full((1, 3, 2), 3e38, np.float32)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: d.hint_loss(S, S[:, :5]), ValueError, r"teacher 5, expected a projection of shape \(5, 6\)"),
    (lambda: d.hint_loss(S, S, W), ValueError, r"projection has shape \(5, 6\), expected .* \(6, 6\)"),
    (lambda: d.hint_loss(S, S[:2]), ValueError, "student has 3 examples, teacher has 2"),
    (lambda: d.hint_loss(S * np.float32(np.nan), S), ValueError, "student is not finite"),
    (lambda: d.hint_loss(S.astype(int), S), TypeError, "student has dtype int64"),
    (lambda: d.hint_loss(S[:0], S[:0]), ValueError, "not empty"),
    (lambda: d.hint_loss(S[0], S[0]), ValueError, "expected a batch of features"),
    (lambda: d.attention_loss(S, S), ValueError, r"expected \(B, C, \.\.\.\) that differ in C alone"),
    (lambda: d.attention_loss(S.reshape(3, 2, 3), S.reshape(3, 2, 3), power=0), ValueError, "power is 0"),
    (lambda: d.attention_loss(M, M * np.float32(np.inf)), ValueError, "teacher is not finite"),
    (lambda: d.attention_loss(HUGE, HUGE, power=8), ValueError, r"sums of \|x\|\^8 are beyond float64"),
    (lambda: d.relational_distance_loss(S[:1], S[:1]), ValueError, "have 1 examples, expected at least 2"),
    (lambda: d.relational_angle_loss(S[:2], S[:2]), ValueError, "have 2 examples, expected at least 3"),
    (lambda: d.contrastive_loss(S, S[:, :5]), ValueError, "student has 6 features, teacher has 5"),
    (lambda: d.contrastive_loss(S, S, temperature=0), ValueError, "temperature is 0"),
])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
