"""The row losses: values against formulas in float64, gradients against central differences, limits, bad input."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pycomp import distillation as d
from pycomp.distillation import _double
from pycomp.distillation._rows import Distance
from pycomp.kernels import dispatch, jit
from pycomp.testing import assert_within_bound, make_case

INF = np.inf


def log_softmax(x):
    z = x - x.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def rest(x, labels):
    """The logits of the classes that are not the label."""
    keep = np.arange(x.shape[-1]) != labels[:, None]
    return x[keep].reshape(len(x), -1)


def dkd(s, t, T, labels, alpha, beta):
    p, q = (np.exp(log_softmax(x / T))[np.arange(len(x)), labels] for x in (t, s))
    two = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return T**2 * (alpha * two + beta * kl(log_softmax(rest(t, labels) / T), log_softmax(rest(s, labels) / T)))


def nkd(s, t, T, labels, gamma):
    rows = np.arange(len(s))
    own_p, own_q = np.exp(log_softmax(rest(t, labels) / T)), log_softmax(rest(s, labels) / T)
    target = np.exp(log_softmax(t))[rows, labels] * log_softmax(s)[rows, labels]
    return -target - gamma * T**2 * (own_p * own_q).sum(axis=1)


def jsd(s, t, T, beta):
    lp, lq = log_softmax(t / T), log_softmax(s / T)
    lm = np.log(beta * np.exp(lp) + (1 - beta) * np.exp(lq))
    return T**2 * (beta * kl(lp, lm) + (1 - beta) * kl(lq, lm))


def skew(s, t, T, a):
    lp, lq = log_softmax(t / T), log_softmax(s / T)
    return T**2 * kl(lp, np.log(a * np.exp(lp) + (1 - a) * np.exp(lq)))


def standardized(x):
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


def binary(s, t, T):
    p, q = 1 / (1 + np.exp(-t / T)), 1 / (1 + np.exp(-s / T))
    return T**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1)


def variation(s, t, T):
    return T**2 * 0.5 * np.abs(np.exp(log_softmax(t / T)) - np.exp(log_softmax(s / T))).sum(axis=1)


def smoothed(t, T):
    return np.exp(log_softmax(t / T))


def top_k(s, t, T):
    p, q = np.exp(log_softmax(t / T)), np.exp(log_softmax(s / T))
    at = np.argsort(-p, axis=1)
    p, q = (np.take_along_axis(a, at, axis=1) for a in (p, q))
    left, out = 1 - p[:, :2].sum(axis=1), q[:, 2:].sum(axis=1)
    return T**2 * ((p * np.log(p / q))[:, :2].sum(axis=1) + left * np.log(left / out))


def call_top_k(s, t, T, **options):
    p = smoothed(t, T)
    at = np.argsort(-p, axis=1)[:, :2]
    return d.top_k_kd_loss(s, np.take_along_axis(p, at, axis=1), at, temperature=T, **options)


def ensemble(s, t, T):
    p = 0.75 * smoothed(t, T) + 0.25 * smoothed(-t, T)
    return T**2 * kl(np.log(p), log_softmax(s / T))


# name -> (call(student, teacher, temperature, labels, **options), formula of each row)
LOSSES = {
    "forward KL": (lambda s, t, T, y, **o: d.forward_kl_loss(s, t, temperature=T, **o),
                   lambda s, t, T, y: T**2 * kl(log_softmax(t / T), log_softmax(s / T))),
    "reverse KL": (lambda s, t, T, y, **o: d.reverse_kl_loss(s, t, temperature=T, **o),
                   lambda s, t, T, y: T**2 * kl(log_softmax(s / T), log_softmax(t / T))),
    "JSD": (lambda s, t, T, y, **o: d.jsd_loss(s, t, beta=0.3, temperature=T, **o),
            lambda s, t, T, y: jsd(s, t, T, 0.3)),
    "JSD, scaled": (lambda s, t, T, y, **o: d.jsd_loss(s, t, beta=0.8, scaled=True, temperature=T, **o),
                    lambda s, t, T, y: jsd(s, t, T, 0.8) / 0.16),
    "skew KL": (lambda s, t, T, y, **o: d.skew_kl_loss(s, t, temperature=T, **o),
                lambda s, t, T, y: skew(s, t, T, 0.1)),
    "skew KL, reverse": (lambda s, t, T, y, **o: d.skew_kl_loss(s, t, skew=0.2, reverse=True, temperature=T, **o),
                         lambda s, t, T, y: skew(t, s, T, 0.2)),
    "total variation": (lambda s, t, T, y, **o: d.total_variation_loss(s, t, temperature=T, **o),
                        lambda s, t, T, y: variation(s, t, T)),
    "soft cross entropy": (
        lambda s, t, T, y, **o: d.soft_cross_entropy(s, smoothed(t, T), temperature=T, scale_by_t2=True, **o),
        lambda s, t, T, y: -T**2 * (smoothed(t, T) * log_softmax(s / T)).sum(axis=1)),
    "logit MSE": (lambda s, t, T, y, **o: d.logit_mse_loss(s, t, **o),
                  lambda s, t, T, y: ((s - t) ** 2).mean(axis=1)),
    "binary": (lambda s, t, T, y, **o: d.binary_kd_loss(s, t, temperature=T, **o),
               lambda s, t, T, y: binary(s, t, T)),
    "DKD": (lambda s, t, T, y, **o: d.dkd_loss(s, t, y, alpha=0.7, beta=3.0, temperature=T, **o),
            lambda s, t, T, y: dkd(s, t, T, y, 0.7, 3.0)),
    "NKD": (lambda s, t, T, y, **o: d.nkd_loss(s, t, y, gamma=0.6, temperature=T, **o),
            lambda s, t, T, y: nkd(s, t, T, y, 0.6)),
    "standardized": (lambda s, t, T, y, **o: d.standardized_kd_loss(s, t, temperature=T, **o),
                     lambda s, t, T, y: T**2 * kl(log_softmax(standardized(t) / T), log_softmax(standardized(s) / T))),
    "ensemble": (lambda s, t, T, y, **o: d.ensemble_kd_loss(s, [t, -t], teacher_weights=[3, 1], temperature=T, **o),
                 lambda s, t, T, y: ensemble(s, t, T)),
    "top k": (lambda s, t, T, y, **o: call_top_k(s, t, T, **o), lambda s, t, T, y: top_k(s, t, T)),
}
each_loss = pytest.mark.parametrize(("call", "formula"), LOSSES.values(), ids=LOSSES)
SEEDS = st.integers(0, 2**32 - 1)


def operands(seed, m=3, n=5, spread=2.0):
    rng = np.random.default_rng(seed)
    return spread * rng.standard_normal((m, n)), spread * rng.standard_normal((m, n)), rng.integers(0, n, m)


@each_loss
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, n=st.integers(3, 40), temperature=st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_values_are_those_of_the_formula(call, formula, seed, n, temperature):
    s, t, y = operands(seed, 4, n)
    got, exact = call(s, t, temperature, y, reduction="none"), formula(s, t, temperature, y)
    np.testing.assert_allclose(got, exact, rtol=1e-10, atol=1e-11 * temperature**2)


def once(x, dtype):
    """What rounding to a float type takes."""
    return np.finfo(dtype).eps / 2 * np.abs(x) + np.finfo(dtype).smallest_subnormal


def kl_in_terms(log_p, log_q):
    """Of second order each: their sum keeps its digits where p is near q."""
    return (np.exp(log_p) * ((log_p - log_q) + np.expm1(log_q - log_p))).sum(axis=1)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(2, 60), dtype=st.sampled_from([np.float32, np.float64]),
       temperature=st.sampled_from([1e-3, 1.0, 100.0, 1e4]), spread=st.sampled_from([1.0, 5.0]),
       nudge=st.sampled_from([0.0, 1e-4, 1e-2, 1.0]))
def test_kl_is_within_its_bound(seed, n, dtype, temperature, spread, nudge):
    """Where teacher and student differ by little, of logits of the size of T."""
    s, t, _ = operands(seed, 4, n, 1.0)
    s, t = (spread * temperature * s).astype(dtype), (spread * temperature * s + nudge * t).astype(dtype)
    log_q, log_p = (log_softmax(x.astype(np.longdouble) / temperature) for x in (s, t))
    for loss, exact in ((d.forward_kl_loss, kl_in_terms(log_p, log_q)), (d.reverse_kl_loss, kl_in_terms(log_q, log_p))):
        found = loss(s, t, temperature=temperature, reduction="none", scale_by_t2=False)
        bound = np.maximum(2.0**-28 * exact, 2.0**-57 / max(1, temperature**2)) + 2.0**-48 * np.sqrt(np.abs(exact))
        assert (found >= 0).all()
        assert (np.abs(found - exact) <= bound).all()
    _, grad = d.forward_kl_loss(s, t, temperature=temperature, reduction="sum", scale_by_t2=False, return_grad=True)
    slope = (np.exp(log_q) - np.exp(log_p)) / temperature
    size = np.maximum(1, kl_in_terms(log_p, log_q))[:, None] / temperature
    bound = np.maximum(2.0**-28 * np.abs(slope), 2.0**-30 * size) + once(slope, dtype)
    assert (np.abs(grad - slope) <= bound).all()


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(1, 300), dtype=st.sampled_from([np.float32, np.float64]),
       nudge=st.sampled_from([0.0, 1e-6, 1.0, 1e6]))
def test_the_mse_of_logits_is_within_its_bound(seed, n, dtype, nudge):
    s, t, _ = operands(seed, 3, n)
    s, t = s.astype(dtype), (s + nudge * t).astype(dtype)
    loss, grad = d.logit_mse_loss(s, t, reduction="none", return_grad=True)
    apart = s.astype(np.longdouble) - t.astype(np.longdouble)
    exact, slope = (apart**2).sum(axis=1) / n, 2 * apart / n
    assert (np.abs(loss - exact) <= 2.0**-28 * exact).all()
    assert (np.abs(grad - slope) <= 2.0**-28 * np.abs(slope) + once(slope, dtype)).all()


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(2, 60), dtype=st.sampled_from([np.float32, np.float64]),
       temperature=st.sampled_from([1e-3, 0.05, 1.0, 10.0, 1e4]), gamma=st.sampled_from([0.0, 0.5, 10.0]))
def test_nkd_is_within_its_bound(seed, n, dtype, temperature, gamma):
    s, t, y = operands(seed, 4, n, 5.0)
    s, t, own = s.astype(dtype), t.astype(dtype), np.arange(n) == y[:, None]
    loss, grad = d.nkd_loss(s, t, y, gamma=gamma, temperature=temperature, reduction="none", return_grad=True)
    s, t = s.astype(np.longdouble), t.astype(np.longdouble)
    hard, soft = log_softmax(s), np.exp(log_softmax(t))[own]
    among, p = log_softmax(rest(s, y) / temperature), np.exp(log_softmax(rest(t, y) / temperature))
    cross = -(p * among).sum(axis=1)
    exact = -soft * hard[own] + gamma * temperature**2 * cross
    assert (np.abs(loss - exact) <= np.maximum(2.0**-28 * exact, 2.0**-48 * (1 + gamma * temperature**2))).all()
    slope = soft[:, None] * (np.exp(hard) - own)
    slope[~own] += gamma * temperature * (np.exp(among) - p).ravel()
    bound = 2.0**-28 * (1 + gamma * temperature * np.maximum(1, cross))[:, None]
    assert (np.abs(grad - slope) <= bound + once(slope, dtype)).all()


@each_loss
@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, temperature=st.sampled_from([0.7, 1.0, 4.0]))
def test_gradients_are_central_differences(call, formula, seed, temperature):
    s, t, y = operands(seed)
    loss, grad = call(s, t, temperature, y, reduction="sum", return_grad=True)
    assert isinstance(loss, float)
    assert grad.dtype == np.float64
    step = 1e-5
    for i, j in np.ndindex(s.shape):
        up, down = s.copy(), s.copy()
        up[i, j] += step
        down[i, j] -= step
        slope = (formula(up, t, temperature, y).sum() - formula(down, t, temperature, y).sum()) / (2 * step)
        assert grad[i, j] == pytest.approx(slope, rel=1e-5, abs=1e-7 * max(1, temperature**2))


@each_loss
def test_reductions_weights_and_masks_are_those_of_the_worked_example(call, formula):
    s, t, y = operands(1, 4)
    rows, grads = call(s, t, 2.0, y, reduction="none", return_grad=True)
    weights, mask = np.array([2.0, 0.5, 1.0, 3.0]), np.array([True, True, False, True])
    for reduction, divisor in (("sum", 1), ("batchmean", 4), ("mean", 5.5)):
        loss, grad = call(s, t, 2.0, y, reduction=reduction, weights=weights, mask=mask, return_grad=True)
        assert loss == pytest.approx((weights * mask * rows).sum() / divisor, rel=1e-12)
        np.testing.assert_allclose(grad, (weights * mask / divisor)[:, None] * grads, rtol=1e-12)
        assert (grad[2] == 0).all()
    loss, grad = call(s, t, 2.0, y, reduction="mean", mask=np.zeros(4, bool), return_grad=True)
    assert loss == 0
    assert (grad == 0).all()


OF_LOGITS = [name for name in LOSSES if name not in ("soft cross entropy", "top k")]  # whose teacher is logits


@pytest.mark.parametrize("dtype", [np.float32, np.float16, "bfloat16"])
@pytest.mark.parametrize("name", OF_LOGITS)
def test_other_float_types_are_widened_exactly(name, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    call, _ = LOSSES[name]
    s, t, y = operands(2)
    s, t = s.astype(dtype), t.astype(dtype)
    loss, grad = call(s, t, 1.0, y, return_grad=True)
    wide, exact = call(s.astype(np.float64), t.astype(np.float64), 1.0, y, return_grad=True)
    assert loss == wide
    assert grad.dtype == dtype
    assert (grad == exact.astype(dtype)).all()


@pytest.mark.parametrize("name", [name for name in OF_LOGITS if name not in ("ensemble", "logit MSE")])
def test_leading_axes_are_rows_and_each_has_its_temperature(name):
    call, formula = LOSSES[name]
    s, t, y = operands(3, 6)
    temperature = np.array([0.5, 1, 2, 3, 4, 5.0])
    got = call(s.reshape(2, 3, 5), t.reshape(2, 3, 5), temperature.reshape(2, 3), y.reshape(2, 3), reduction="none")
    each = [formula(s[i : i + 1], t[i : i + 1], temperature[i], y[i : i + 1])[0] for i in range(6)]
    np.testing.assert_allclose(got, np.reshape(each, (2, 3)), rtol=1e-10)


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("soft cross entropy", "NKD", "ensemble")])
def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient(name):
    s, _, y = operands(4)
    s = s.astype(np.float32).astype(np.float64)
    loss, grad = LOSSES[name][0](s, s.copy(), 2.0, y, return_grad=True)
    assert 0 <= loss < 1e-28
    assert np.abs(grad).max() < 1e-14


@settings(deadline=None)
@given(seed=SEEDS, nudge=st.sampled_from([1e-3, 1e-5, 1e-6]))
def test_losses_keep_their_meaning_near_the_optimum(seed, nudge):
    """Second order in the distance: Σ p (δ - mean)²/2 to first order of what is left."""
    s, _, _ = operands(seed, 1, 50)
    t = s + nudge * np.random.default_rng(seed + 1).standard_normal(s.shape)
    p = np.exp(log_softmax(t))
    delta = t - s
    expected = 0.5 * ((p * delta**2).sum() - (p * delta).sum() ** 2)
    for loss in (d.forward_kl_loss, d.reverse_kl_loss):
        assert loss(s, t) == pytest.approx(expected, rel=20 * nudge)
    assert d.jsd_loss(s, t, beta=0.5) == pytest.approx(expected / 4, rel=20 * nudge)


def test_a_high_temperature_gives_logit_matching():
    """T² KL tends to the variance of the difference over 2 (Hinton et al., 2015, §2.1)."""
    s, t, _ = operands(5, 4, 7)
    difference = (t - s) - (t - s).mean(axis=1, keepdims=True)
    expected = 0.5 * (difference**2).mean(axis=1)
    for loss in (d.forward_kl_loss, d.reverse_kl_loss):
        np.testing.assert_allclose(loss(s, t, temperature=1e4, reduction="none"), expected, rtol=1e-3)


def test_jsd_ends():
    s, t, _ = operands(6)
    assert d.jsd_loss(s, t, beta=0.0) == d.forward_kl_loss(s, t)
    assert d.jsd_loss(s, t, beta=1.0) == d.reverse_kl_loss(s, t)
    assert d.jsd_loss(s, t, beta=1e-9, scaled=True) == pytest.approx(d.forward_kl_loss(s, t), rel=1e-5)
    assert d.jsd_loss(s, t, beta=1 - 1e-9, scaled=True) == pytest.approx(d.reverse_kl_loss(s, t), rel=1e-5)
    assert d.jsd_loss(s, t, beta=1e-7) < 1e-6


def test_dkd_with_its_own_weights_is_plain_kl():
    s, t, y = operands(7, 1)
    p = np.exp(log_softmax(t))[0, y[0]]
    split = d.dkd_loss(s, t, y, alpha=1.0, beta=1 - p, temperature=1.0)
    assert split == pytest.approx(d.forward_kl_loss(s, t), rel=1e-12)


def test_dkd_of_a_label_that_stands_alone():
    """No other class is finite on one side or both: the others among themselves do not count."""
    alone, both, y = np.array([[-INF, 1.0, -INF]]), np.array([[0.0, 1.0, 0.0]]), [1]
    assert d.dkd_loss(alone, alone, y) == 0
    assert d.dkd_loss(alone, both, y) == INF
    assert d.dkd_loss(alone, both, y, alpha=0) == 0
    value, grad = d.dkd_loss(both, alone, y, temperature=1, return_grad=True)
    yes = 1 / (1 + 2 / np.e)
    assert value == pytest.approx(-np.log(yes), rel=1e-12)
    assert grad[0] == pytest.approx([(1 - yes) / 2, yes - 1, (1 - yes) / 2], rel=1e-12)
    assert (d.dkd_loss(alone[:, :0], alone[:, :0], y, mask=[False], return_grad=True)[1].shape) == (1, 0)


def test_the_terms_of_a_top_k_teacher_that_is_nearly_the_student_keep_their_meaning():
    s = np.array([[2.0, 1.0, 0.0, -1.0]])
    t = s + np.array([[0.0, 1e-7, -1e-7, 0.0]])
    p = d.softmax(t)
    ours = d.top_k_kd_loss(s, p[:, :3], [[0, 1, 2]])
    difference = p - d.softmax(s)
    assert ours == pytest.approx(0.5 * (difference**2 / p).sum(), rel=1e-4)


def test_top_k_of_all_classes_is_plain_kl_and_fewer_lose():
    s, t, _ = operands(8, 3, 6)
    p = np.exp(log_softmax(t))
    order = np.argsort(-p, axis=1)
    full = d.forward_kl_loss(s, t)
    values = [d.top_k_kd_loss(s, np.take_along_axis(p, order[:, :k], axis=1), order[:, :k]) for k in range(1, 7)]
    assert values[-1] == pytest.approx(full, rel=1e-12)
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(values))


def test_masked_logits_count_for_nothing():
    s, t, _ = operands(9, 2, 6)
    s[:, 4:] = t[:, 4:] = -INF
    for loss in (d.forward_kl_loss, d.reverse_kl_loss, d.jsd_loss, d.skew_kl_loss, d.total_variation_loss):
        value, grad = loss(s, t, return_grad=True)
        assert value == pytest.approx(loss(s[:, :4], t[:, :4]), rel=1e-12)
        assert (grad[:, 4:] == 0).all()
    s[0] = -INF
    value, grad = d.forward_kl_loss(s, t, reduction="none", return_grad=True)
    assert value[0] == 0
    assert (grad[0] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, INF])
def test_rows_that_are_not_finite_are_nan_or_refused(bad):
    s, t, _ = operands(10)
    s[1, 2] = bad
    value, grad = d.forward_kl_loss(s, t, reduction="none", return_grad=True)
    assert np.isnan(value).tolist() == [False, True, False]
    assert np.isnan(grad).all(axis=1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="holds NaN or"):
        d.forward_kl_loss(s, t, check_finite=True)
    mask = np.array([True, False, True])
    assert np.isfinite(d.forward_kl_loss(s, t, mask=mask, check_finite=True))


def test_ignore_index():
    s, t, y = operands(11, 4)
    y[2] = -100
    value, grad = d.dkd_loss(s, t, y, ignore_index=-100, reduction="sum", return_grad=True)
    kept = [0, 1, 3]
    assert value == pytest.approx(d.dkd_loss(s[kept], t[kept], y[kept], reduction="sum"), rel=1e-12)
    assert (grad[2] == 0).all()


def test_dist_against_numpy():
    s, t, _ = operands(12, 6, 5)
    p, q = np.exp(log_softmax(t / 2)), np.exp(log_softmax(s / 2))

    def value(q):
        rows = np.mean([1 - np.corrcoef(p[i], q[i])[0, 1] for i in range(6)])
        return 4 * (0.7 * rows + 0.4 * np.mean([1 - np.corrcoef(p[:, j], q[:, j])[0, 1] for j in range(5)]))

    loss, grad = d.dist_loss(s, t, beta=0.7, gamma=0.4, temperature=2.0, return_grad=True)
    assert loss == pytest.approx(value(q), rel=1e-10)
    for i, j in np.ndindex(s.shape):
        step = np.zeros_like(s)
        step[i, j] = 1e-5
        slope = (value(np.exp(log_softmax((s + step) / 2))) - value(np.exp(log_softmax((s - step) / 2)))) / 2e-5
        assert grad[i, j] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_dist_where_student_and_teacher_agree(dtype):
    s = operands(12, 6, 5)[0].astype(dtype)
    loss, grad = d.dist_loss(s, s, temperature=2.0, return_grad=True)
    assert loss == 0
    assert grad.dtype == dtype
    assert (grad == 0).all()


def test_dist_where_a_row_or_a_class_is_constant():
    """What is constant has no direction: 1/2 from what has one, 0 from another, and no gradient."""
    s, t, _ = operands(13, 4, 3)
    even = np.full_like(s, 0.3)
    assert d.dist_loss(s, even) == d.dist_loss(even, s) == 0.5 + 0.5  # of rows, of classes
    assert d.dist_loss(even, even - 1) == 0
    assert (d.dist_loss(even, s, return_grad=True)[1] == 0).all()
    one = np.broadcast_to(s[:1], s.shape)  # each class constant, rows not
    loss, grad = d.dist_loss(one, t, return_grad=True)
    assert loss == pytest.approx(d.dist_loss(one, t, gamma=0.0) + 0.5, rel=1e-12)
    np.testing.assert_array_equal(grad, d.dist_loss(one, t, gamma=0.0, return_grad=True)[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dist_of_rows_that_do_not_count(dtype):
    s, t, _ = operands(15, 7, 9)
    s, t, mask = s.astype(dtype), t.astype(dtype), np.array([1, 0, 1, 1, 0, 1, 1], bool)
    s[1], t[4] = np.nan, -np.inf
    options = {"beta": 0.7, "gamma": 0.4, "temperature": 2.0, "return_grad": True}
    loss, grad = d.dist_loss(s, t, mask=mask, **options)
    alone, slope = d.dist_loss(s[mask], t[mask], **options)
    assert loss == alone == d.dist_loss(s, t, mask=mask, **{**options, "return_grad": False})
    np.testing.assert_array_equal(grad[mask], slope)
    assert (grad[~mask] == 0).all()
    assert grad.dtype == dtype
    none, zeros = d.dist_loss(s, t, mask=np.zeros(7, bool), **options)
    assert none == 0
    assert (zeros == 0).all()
    assert zeros.dtype == dtype
    with pytest.raises(ValueError, match="row 4 of student or teacher"):
        d.dist_loss(s, t, mask=np.arange(7) > 1, **options)
    with pytest.raises(ValueError, match=r"mask has shape \(6,\)"):
        d.dist_loss(s, t, mask=np.ones(6, bool))


def test_dist_of_masked_classes():
    """A class of -inf everywhere is constant; elsewhere it is as if it were not there."""
    s, t, _ = operands(14, 5, 4)
    wide_s, wide_t = (np.concatenate([x, np.full((5, 1), -np.inf)], axis=1) for x in (s, t))
    loss, grad = d.dist_loss(s, t, beta=0.0, return_grad=True)
    with_masked, wide = d.dist_loss(wide_s, wide_t, beta=0.0, return_grad=True)
    assert with_masked == pytest.approx(loss * 4 / 5, rel=1e-12)  # the mean is over five classes
    np.testing.assert_allclose(wide[:, :4], grad * 4 / 5, rtol=1e-12, atol=1e-15)
    assert (wide[:, 4] == 0).all()


@pytest.mark.parametrize("sizes", [{"m": 2, "n": (1 << 18) + 40}, {"m": 16400, "n": 20}])
def test_dist_of_rows_too_long_or_classes_too_tall_to_keep(sizes):
    """Where probabilities are made anew in every pass."""
    case = make_case("dist_loss_grad_f32", sizes, seed=1)
    got, reference = case.run(dispatch.dist_loss_grad_f32), case.run(case.kernel.reference)
    bounds = case.kernel.bound(*case.inputs, *reference)
    for operand, y, expected, bound in zip(case.kernel.outputs, got, reference, bounds, strict=True):
        assert_within_bound(y, expected, bound, operand.name)
    if dispatch.missing("jit") is None:
        for y, expected in zip(got, case.run(jit.implementation("dist_loss_grad_f32")), strict=True):
            np.testing.assert_array_equal(y, expected)


def test_chunks_do_not_show():
    rng = np.random.default_rng(0)
    s, t = rng.standard_normal((7, 70000), np.float32), rng.standard_normal((7, 70000), np.float32)
    whole, grad = d.reverse_kl_loss(s, t, reduction="none", return_grad=True)
    for i in (0, 3, 6):
        value, slope = d.reverse_kl_loss(s[i : i + 1], t[i : i + 1], reduction="none", return_grad=True)
        assert value[0] == whole[i]
        assert (slope[0] == grad[i]).all()


def same_in_c_and_numba(kernel, s, *operands):
    """Numba keeps nothing by another way: its chain is the kernel's, whose terms of a long row are made twice."""
    found = dispatch.implementations(kernel)
    if not {"native", "jit"} <= set(found):
        pytest.skip("needs the C core and Numba")
    results = []
    for backend in ("native", "jit"):
        loss, grad = np.empty(1), np.empty_like(s)
        found[backend](s, *operands, np.array([2.0]), np.ones(1), loss, grad)
        results.append((loss, grad))
    assert np.isfinite(results[0][0]).all()
    assert (results[0][0] == results[1][0]).all()
    assert (results[0][1] == results[1][1]).all()


@pytest.mark.parametrize("kind", [*Distance, "decoupled_kl", "standardized_kl", "ensemble_kl", "top_k_kl"])
def test_a_row_too_long_for_its_terms_to_be_kept_has_the_same_bits(kind):
    rng = np.random.default_rng(262145)
    s, t = 3 * rng.standard_normal((1, 262145), np.float32), 3 * rng.standard_normal((1, 262145), np.float32)
    if kind == "decoupled_kl":
        same_in_c_and_numba("decoupled_kl_grad_f32", s, t, np.array([70001]), 1.0, 8.0)
    elif kind == "standardized_kl":
        same_in_c_and_numba("standardized_kl_grad_f32", s, t)
    elif kind == "ensemble_kl":
        same_in_c_and_numba("ensemble_kl_grad_f32", s, np.stack([t, t[:, ::-1]], axis=1), np.array([0.25, 0.75]))
    elif kind == "top_k_kl":
        classes = rng.permutation(262145)[None, :100]
        same_in_c_and_numba("top_k_kl_grad_f32", s, np.full((1, 100), 0.009), classes)
    else:
        given = kind in (Distance.CROSS_ENTROPY, Distance.GIVEN_KL)
        same_in_c_and_numba("divergence_grad_f32", s, d.softmax(t) if given else t, kind, 0.3)


def test_the_gradient_of_an_infinite_loss_is_0_where_the_student_is_masked():
    s, t = np.array([[0.0, 1.0, -INF]]), np.array([[-INF, 0.0, 0.0]])
    for loss in (d.reverse_kl_loss, d.forward_kl_loss):
        value, grad = loss(s, t, return_grad=True)
        assert value == INF
        assert not np.isnan(grad[0, 2])
    assert d.reverse_kl_loss(s, t, return_grad=True)[1][0, 2] == 0


def test_a_gradient_that_its_type_cannot_hold_is_infinite():
    s, t = np.array([[1, 0]], np.float16), np.array([[0, 1]], np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (d.reverse_kl_loss, d.ensemble_kd_loss, d.kd_loss):
            teacher = [t] if loss is d.ensemble_kd_loss else t
            grad = loss(s, teacher, weights=np.array([1e6]), return_grad=True)[1]
            assert (np.abs(grad) == INF).all()


def test_a_row_of_weight_0_does_not_count():
    s, t, _ = operands(13, 3)
    s[1, 0] = np.nan
    weights = np.array([1.0, 0.0, 2.0])
    for loss in (d.forward_kl_loss, d.standardized_kd_loss, d.kd_loss):
        value, grad = loss(s, t, weights=weights, reduction="sum", check_finite=True, return_grad=True)
        assert value == pytest.approx(loss(s[::2], t[::2], weights=weights[::2], reduction="sum"), rel=1e-12)
        assert (grad[1] == 0).all()


@given(x=hnp.arrays(np.float64, 50, elements=st.floats(-700, 700)))
def test_log_in_double_is_within_its_bound(x):
    exact = np.array([math.exp(v) for v in x])  # the C library's: within 1 ulp
    assert (np.abs(_double.log(exact) - np.array([math.log(v) for v in exact]))
            <= 4 * np.spacing(np.abs(x)) + 2.0**-51).all()


S = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: d.forward_kl_loss(S, S[:1]), ValueError, r"student has shape \(2, 3\), teacher has \(1, 3\)"),
    (lambda: d.forward_kl_loss(S.astype(int), S), TypeError, "student has dtype int64, expected float32"),
    (lambda: d.forward_kl_loss(S, S, temperature=0), ValueError, "temperature is 0, expected a finite number above 0"),
    (lambda: d.forward_kl_loss(S, S, temperature=-1.0), ValueError, "temperature is -1.0"),
    (lambda: d.forward_kl_loss(S, S, temperature=np.inf), ValueError, "temperature is inf"),
    (lambda: d.forward_kl_loss(S, S, temperature=np.array([1.0, -2.0])), ValueError, "temperature holds -2.0"),
    (lambda: d.forward_kl_loss(S, S, temperature=np.ones(3)), ValueError, r"temperature has shape \(3,\)"),
    (lambda: d.forward_kl_loss(S, S, reduction="average"), ValueError, "reduction is 'average', expected one of"),
    (lambda: d.forward_kl_loss(S, S, weights=np.array([1.0, -1.0])), ValueError, "weights holds -1.0"),
    (lambda: d.forward_kl_loss(S, S, mask=np.array([1, 0])), TypeError, "mask has dtype int64, expected bool"),
    (lambda: d.forward_kl_loss(S, S, mask=np.ones(3, bool)), ValueError, "mask has shape"),
    (lambda: d.jsd_loss(S, S, beta=1.5), ValueError, "beta is 1.5, expected a number from 0 to 1"),
    (lambda: d.skew_kl_loss(S, S, skew=-0.1), ValueError, "skew is -0.1"),
    (lambda: d.skew_kl_loss(S, S, skew=1), ValueError, "skew is 1, expected 0, or a number from 1e-30 to below 1"),
    (lambda: d.jsd_loss(S, S, beta=1e-40), ValueError, "beta is 1e-40, expected 0, or a number from 1e-30"),
    (lambda: d.soft_cross_entropy(S, S - 1), ValueError, "targets has a negative or NaN entry, expected probabilities"),
    (lambda: d.soft_cross_entropy(S, S + 1), ValueError, "targets has a row of sum 3.0, expected probabilities"),
    (lambda: d.dkd_loss(S, S, [0, 3]), ValueError, "labels holds 3, expected 0 to 2"),
    (lambda: d.dkd_loss(S, S, [0]), ValueError, r"labels has shape \(1,\), expected \(2,\)"),
    (lambda: d.dkd_loss(S, S, [0.0, 1.0]), TypeError, "labels has dtype float64, expected integers"),
    (lambda: d.dkd_loss(S, S, [0, 1], alpha=-1), ValueError, "alpha is -1"),
    (lambda: d.nkd_loss(S, S, [0, 1], gamma=np.nan), ValueError, "gamma is nan"),
    (lambda: d.ensemble_kd_loss(S, []), ValueError, "teachers is empty"),
    (lambda: d.ensemble_kd_loss(S, [S] * 65), ValueError, "teachers holds 65, expected at most 64"),
    (lambda: d.ensemble_kd_loss(S, [S, S[:1]]), ValueError, r"teachers\[1\] has \(1, 3\)"),
    (lambda: d.ensemble_kd_loss(S, [S], teacher_weights=[0]), ValueError, "teacher_weights is"),
    (lambda: d.top_k_kd_loss(S, S[:, :2], [[0, 3], [0, 1]]), ValueError, "indices holds 3, expected 0 to 2"),
    (lambda: d.top_k_kd_loss(S, S[:, :2], [[0, 0], [0, 1]]), ValueError, "indices holds a class twice"),
    (lambda: d.top_k_kd_loss(S, S[:, :2] + 1, [[0, 1], [0, 1]]), ValueError, "probabilities has a negative"),
    (lambda: d.top_k_kd_loss(S, S[:, :2], [[0], [0]]), ValueError, "student has shape"),
    (lambda: d.dist_loss(S, S[:0]), ValueError, "expected both"),
    (lambda: d.dist_loss(S, S * np.float32(np.nan)), ValueError, "row 0 of student or teacher holds NaN"),
    (lambda: d.dist_loss(np.where([[False], [True]], -np.inf, S), S), ValueError, "row 1 of student or teacher"),
    (lambda: d.dist_loss(S, S, temperature=0.0), ValueError, "temperature is 0.0"),
])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert (S == 0).all()
