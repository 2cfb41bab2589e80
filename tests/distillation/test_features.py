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
