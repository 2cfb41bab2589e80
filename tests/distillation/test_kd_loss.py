import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp.distillation import kd_loss, soft_cross_entropy, softmax
from pycomp.kernels import dispatch, native
from pycomp.kernels.reference import distillation as reference
from pycomp.testing import assert_within_bound

INF = np.inf
LEVELS = [name for name, usable in native.levels().items() if usable] if native.missing() is None else []
U = 2.0**-24


def logits(seed, rows, classes, scale=3.0):
    return (np.random.default_rng(seed).standard_normal((rows, classes)) * scale).astype(np.float32)


def exact_kl(student, teacher, temperature):
    """KL in extended precision, from the definition."""
    def log_p(x):
        z = x.astype(np.longdouble) / np.longdouble(temperature)
        z -= z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))
    p, q = log_p(teacher), log_p(student)
    return (np.exp(p) * (p - q)).sum(1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(2, 3000), nudge=st.floats(-6, 1.5),
       shift=st.sampled_from([0, 10, -300]), temperature=st.sampled_from([0.1, 1.0, 2.0, 4.0, 20.0, 100.0]))
def test_the_loss_keeps_its_meaning_near_the_optimum(seed, classes, nudge, shift, temperature):
    student = logits(seed, 2, classes)
    teacher = (student + logits(seed + 1, 2, classes, 10.0**nudge) + shift).astype(np.float32)
    loss = kd_loss(student, teacher, temperature=temperature, reduction="none")
    true = temperature**2 * exact_kl(student, teacher, temperature)
    assert (loss >= 0).all()
    assert_within_bound(loss, true.astype(np.float64), 2.0**-14 * np.maximum(true.astype(np.float64), 1e-9))


def test_a_weighted_row_alone_has_the_bits_that_it_has_in_a_batch():
    s, t, weights = logits(0, 6, 50), logits(1, 6, 50), np.array([1.0, 0.3, 7.0, 0.3, 1e-3, 2.0])
    loss, grad = kd_loss(s, t, weights=weights, reduction="none", return_grad=True)
    for i in range(6):
        row = slice(i, i + 1)
        alone, slope = kd_loss(s[row], t[row], weights=weights[row], reduction="none", return_grad=True)
        assert alone[0] == loss[i]
        assert (slope[0] == grad[i]).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 150), classes=st.integers(1, 230),
       temperature=st.sampled_from([1e-30, 1e-3, 1.0, 2.5, 1e4, 1e30]), labelled=st.booleans(), graded=st.booleans(),
       smoothing=st.sampled_from([0.0, 0.1, 1.0]), alpha=st.sampled_from([0.0, 0.3, 1.0]), special=st.booleans(),
       other=st.sampled_from([0.0, 0.02, 0.5]), masked=st.sampled_from([0.0, 0.1, 0.9]))
def test_rows_of_few_classes_have_the_bits_that_they_have_alone(seed, rows, classes, temperature, labelled, graded,
                                                                smoothing, alpha, special, other, masked):
    """Those in a batch are turned into columns, sixteen at a time, where they are of one temperature; a row alone is
    not."""
    rng = np.random.default_rng(seed)
    sides = [reference.logits(rng, rows, classes) for _ in range(2)]
    if special:
        sides[seed % 2][rng.integers(rows)] = rng.choice([np.nan, INF, -INF])
    temperatures = np.where(rng.random(rows) < other, 3.0, temperature)
    options = {"reduction": "none", "return_grad": graded}
    if labelled:
        options |= {"alpha": alpha, "label_smoothing": smoothing}
    labels = rng.integers(0, classes, rows) if labelled else None
    weights = np.where(rng.random(rows) < masked, 0.0, rng.random(rows))

    def results(at):
        given = {"labels": labels[at]} if labelled else {}
        found = kd_loss(sides[0][at], sides[1][at], weights=weights[at], temperature=temperatures[at], **options,
                        **given)
        return found if graded else (found,)

    alone = [results(slice(i, i + 1)) for i in range(rows)]
    for whole, each in zip(results(slice(None)), zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(each))
        assert (np.signbit(whole) == np.signbit(np.concatenate(each))).all()


@given(seed=st.integers(0, 2**32), classes=st.integers(1, 200), temperature=st.sampled_from([0.01, 1.0, 4.0]))
def test_equal_logits_give_no_loss_and_no_gradient(seed, classes, temperature):
    x = logits(seed, 3, classes)
    loss, grad = kd_loss(x, x.copy(), temperature=temperature, return_grad=True)
    assert loss == 0
    assert not grad.any()


@given(seed=st.integers(0, 2**32), classes=st.integers(1, 60), temperature=st.sampled_from([0.5, 1.0, 3.0]),
       alpha=st.sampled_from([0.0, 0.3, 1.0]), labelled=st.booleans(), scale_by_t2=st.booleans(),
       reduction=st.sampled_from(["none", "sum", "batchmean"]))
def test_loss_and_gradient_are_those_of_the_formula(seed, classes, temperature, alpha, labelled, scale_by_t2,
                                                         reduction):
    rows = 5
    s, t = logits(seed, rows, classes), logits(seed + 1, rows, classes)
    labels = np.random.default_rng(seed).integers(0, classes, rows) if labelled else None
    loss, grad = kd_loss(s, t, labels=labels, temperature=temperature, alpha=alpha, reduction=reduction,
                         scale_by_t2=scale_by_t2, return_grad=True)

    def probabilities(x, T):
        e = np.exp((x - x.max(1, keepdims=True)).astype(np.float64) / T)
        return e / e.sum(1, keepdims=True)

    p, q, q1 = probabilities(t, temperature), probabilities(s, temperature), probabilities(s, 1.0)
    weight = (temperature**2 if scale_by_t2 else 1.0) * (alpha if labelled else 1.0)
    each = weight * (p * np.log(p / q)).sum(1)
    slope = weight / temperature * (q - p)
    if labelled:
        onehot = np.eye(classes)[labels]
        each += (1 - alpha) * -np.log((q1 * onehot).sum(1))
        slope += (1 - alpha) * (q1 - onehot)
    divide = rows if reduction == "batchmean" else 1
    expected = each if reduction == "none" else each.sum() / divide
    np.testing.assert_allclose(loss, expected, rtol=2.0**-14, atol=1e-6)
    bound = 8 * U * (weight / temperature + (1 - alpha) * labelled) / divide
    assert_within_bound(grad, slope / divide, bound)
    assert loss == kd_loss(s, t, labels=labels, temperature=temperature, alpha=alpha, reduction=reduction,
                           scale_by_t2=scale_by_t2) if reduction != "none" else True


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 40))
def test_the_total_is_that_of_the_rows_folded_by_halves(seed, rows):
    s, t = logits(seed, rows, 5), logits(seed + 1, rows, 5)
    each = kd_loss(s, t, reduction="none").tolist()
    half = 32
    each += [0.0] * (2 * half - rows)
    while half:
        each = [a + b for a, b in zip(each[:half], each[half:], strict=True)]
        half //= 2
    assert kd_loss(s, t, reduction="sum") == each[0]


def test_gradient_tends_to_logit_matching_at_high_temperature():
    """T²·dKL/ds -> (s - t - mean)/V as T grows (Hinton et al. 2015, eq. 4)."""
    s, t = logits(0, 1, 50), logits(1, 1, 50)
    _, grad = kd_loss(s, t, temperature=1e3, return_grad=True)
    matching = ((s - s.mean()) - (t - t.mean())) / 50
    assert np.abs(grad - matching).max() < 1e-3


def test_what_both_mask_counts_for_nothing():
    s, t = logits(0, 4, 40), logits(1, 4, 40)
    ms, mt = s.copy(), t.copy()
    ms[:, ::2] = mt[:, ::2] = -INF
    loss, grad = kd_loss(ms, mt, temperature=2.0, return_grad=True)
    assert not grad[:, ::2].any()
    expected = kd_loss(s[:, 1::2].copy(), t[:, 1::2].copy(), temperature=2.0)
    assert loss == pytest.approx(expected, rel=2.0**-14)
    assert np.isfinite(grad).all()


def test_rows_masked_on_either_side_count_for_nothing():
    s, t = logits(0, 3, 20), logits(1, 3, 20)
    s[0], t[1] = -INF, -INF
    loss, grad = kd_loss(s, t, reduction="none", return_grad=True)
    assert loss[0] == loss[1] == 0 < loss[2]
    assert not grad[:2].any()
    labelled, grad = kd_loss(s, t, labels=np.zeros(3, np.int64), alpha=0.0, reduction="none", return_grad=True)
    assert labelled[0] == 0 < labelled[1]
    assert not grad[0].any()
    assert grad[1].any()
    for side in ("student", "teacher"):
        with pytest.raises(ValueError, match=f"{side} has a row"):
            kd_loss(*((s, np.zeros_like(t)) if side == "student" else (np.zeros_like(s), t)), on_empty="raise")


def test_the_teacher_may_mask_more_but_not_less():
    s, t = logits(0, 1, 20), logits(1, 1, 20)
    t[0, 3] = -INF
    assert 0 < kd_loss(s, t) < INF
    assert kd_loss(t, s) == INF


@pytest.mark.parametrize("bad", [INF, np.nan])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("labels", [None, np.zeros(2, np.int64)])
def test_nan_or_infinity_gives_nan_for_its_row(bad, side, labels):
    x = [logits(0, 2, 33), logits(1, 2, 33)]
    x[side][0, 32] = bad
    loss, grad = kd_loss(*x, labels=labels, reduction="none", return_grad=True)
    assert np.isnan(loss).tolist() == [True, False]
    assert np.isnan(grad).all(axis=1).tolist() == [True, False]
    assert np.isfinite(grad[1]).all()
    with pytest.raises(ValueError, match=r"NaN or \+inf"):
        kd_loss(*x, check_finite=True)


@pytest.mark.parametrize("n", [7, 33, 1000, 3000])
@pytest.mark.parametrize("empty", [None, 0, 1])
@pytest.mark.parametrize("labels", [None, np.zeros(24, np.int64)])
def test_nan_shows_wherever_it_stands(n, empty, labels):
    """The maximum of a row is found while the one before is worked on: no row and no place is passed over."""
    rng = np.random.default_rng(n)
    x = [logits(3, 24, n), logits(4, 24, n)]
    if empty is not None:
        x[empty][4::5] = -INF
    y = [a.copy() for a in x]
    bad = np.arange(24) % 3 == 1
    for row in np.flatnonzero(bad):
        y[rng.integers(2)][row, rng.integers(n)] = np.nan
    clean = kd_loss(*x, labels=labels, reduction="none", return_grad=True)
    loss, grad = kd_loss(*y, labels=labels, reduction="none", return_grad=True)
    assert np.isnan(loss[bad]).all()
    assert np.isnan(grad[bad]).all()
    assert loss[~bad].tobytes() == clean[0][~bad].tobytes()
    assert grad[~bad].tobytes() == clean[1][~bad].tobytes()


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"temperature": 0.0}, ValueError, "temperature"), ({"temperature": np.nan}, ValueError, "temperature"),
    ({"temperature": "2"}, TypeError, "temperature"), ({"alpha": 1.5}, ValueError, "alpha"),
    ({"reduction": "average"}, ValueError, "reduction is 'average', expected one of 'batchmean', 'mean', 'sum'"),
    ({"on_empty": "x"}, ValueError, "on_empty"),
    ({"labels": np.array([0, 4])}, ValueError, "labels holds 4, expected 0 to 3"),
    ({"labels": np.array([0, -1])}, ValueError, "labels holds -1, expected 0 to 3"),
    ({"labels": np.array([0])}, ValueError, r"labels has shape \(1,\), expected \(2,\)"),
    ({"labels": np.array([0.0, 1.0])}, TypeError, "labels has dtype float64"),
    ({"teacher": np.zeros((2, 5), np.float32)}, ValueError, "teacher has"),
    ({"teacher": np.zeros((2, 4), int)}, TypeError, "teacher has dtype int64"),
    ({"student": np.zeros(4, np.float32)}, ValueError, "student has shape"),
    ({"label_smoothing": 1.5}, ValueError, "label_smoothing is 1.5"),
    ({"temperature": np.array([1.0, 0.0])}, ValueError, "temperature holds 0.0"),
    ({"weights": np.array([1.0, np.nan])}, ValueError, "weights holds nan"),
    ({"mask": np.array([1.0, 0.0])}, TypeError, "mask has dtype float64"),
    ({"ignore_index": -1}, ValueError, "ignore_index is given without labels"),
])
def test_bad_input_is_refused(options, error, message):
    call = {"student": np.zeros((2, 4), np.float32), "teacher": np.zeros((2, 4), np.float32), **options}
    with pytest.raises(error, match=message):
        kd_loss(call.pop("student"), call.pop("teacher"), **call)


def test_empty_batches_and_empty_rows_give_zero():
    loss, grad = kd_loss(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), return_grad=True)
    assert loss == 0
    assert grad.shape == (0, 4)
    assert kd_loss(np.zeros((3, 0), np.float32), np.zeros((3, 0), np.float32)) == 0


def test_the_softmax_of_the_student_moves_along_the_gradient():
    s, t = logits(0, 8, 30), logits(1, 8, 30)
    before, grad = kd_loss(s, t, return_grad=True)
    assert kd_loss(s - np.float32(0.5) * grad, t) < before


def test_the_loss_takes_no_memory_beyond_the_gradient():
    import tracemalloc
    s, t = logits(0, 64, 4096), logits(1, 64, 4096)
    kd_loss(s, t, return_grad=True)
    tracemalloc.start()
    try:
        kd_loss(s, t, return_grad=True)
        assert tracemalloc.get_traced_memory()[1] < s.nbytes + 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("classes", [3, 40, 300], ids="{} classes".format)
@pytest.mark.parametrize(("dtype", "least"), [(np.float32, 149), (np.float64, 996)])
def test_what_the_student_masks_counts_unless_it_is_as_good_as_nothing_to_the_teacher(dtype, least, classes):
    """Also where few rows lie in columns, and where they do not."""
    for rows in (1, 17):
        student, teacher = np.zeros((rows, classes), dtype), np.zeros((rows, classes), dtype)
        student[:, 1] = -INF
        for octaves, infinite in ((least - 10, True), (least + 10, False)):
            teacher[:, 1] = -octaves * np.log(2)
            losses = kd_loss(student, teacher, reduction="none")
            assert (np.isinf(losses) == infinite).all()
            assert (losses >= 0).all()
            if dtype == np.float32:
                assert (np.isinf(reference.divergence(student, teacher, 1.0)) == infinite).all()


@pytest.mark.parametrize("classes", [2, 40, 300], ids="{} classes".format)
@pytest.mark.parametrize(("likely", "mask"), [(-80, -1e30), (-80, -3.4e38), (-86, -3.4e38), (-10, -3.4e38)])
def test_a_mask_that_is_finite_shows_however_little_the_teacher_thinks_of_it(likely, mask, classes):
    """Probabilities below 2^-106 are left out where that does not show."""
    for rows in (1, 17):
        student, teacher = np.zeros((2, rows, classes), np.float32)
        student[:, 1], teacher[:, 1] = mask, likely
        exact = kd_loss(student.astype(np.float64), teacher.astype(np.float64), reduction="none")
        np.testing.assert_allclose(kd_loss(student, teacher, reduction="none"), exact, rtol=2.0**-14, atol=1e-12)
        assert (exact > 1e-9).all()


def test_rows_without_a_label_part_keep_signs_of_zero_beside_rows_with_one():
    """Seventeen rows are turned into columns, a row alone is not."""
    rows, classes = 24, 17
    student, teacher = np.zeros((2, rows, classes), np.float32)
    teacher[:, 1] = -100
    student[:, 1] = -INF
    soft, hard, ones = np.full(rows, 0.01), np.where(np.arange(rows) % 3, 0.5, 0.0), np.ones(rows)
    operands = (student, teacher, np.zeros(rows, np.int64), ones, soft, hard)
    loss, grad = np.empty(rows), np.empty_like(student)
    dispatch.kd_loss_grad_f32(*operands, 0.0, loss, grad)
    assert np.signbit(grad[0, 1])
    for i in range(rows):
        own, slope = np.empty(1), np.empty((1, classes), np.float32)
        dispatch.kd_loss_grad_f32(*(x[i : i + 1] for x in operands), 0.0, own, slope)
        assert (own.tobytes(), slope.tobytes()) == (loss[i : i + 1].tobytes(), grad[i : i + 1].tobytes())


def test_a_cross_entropy_that_rounding_leaves_below_zero_is_zero():
    student = logits(0, 2000, 20)
    student[:, 0] += 60
    losses = kd_loss(student, student, labels=np.zeros(2000, np.int64), alpha=0.0, reduction="none")
    assert (losses >= 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 5000), temperature=st.sampled_from([0.05, 1.0, 2.0, 20.0]),
       octaves=st.sampled_from([0.0, 1.0, 40.0, 63.0, 64.0, 65.0, 100.0, 149.0, 150.0, 151.0, 400.0]),
       first=st.sampled_from(["low", "masked", "low and masked", "high"]))
def test_the_largest_element_may_come_late(seed, classes, temperature, octaves, first):
    """Terms are over a power of two near the largest element so far, if that rises by no more than 64 octaves."""
    rng = np.random.default_rng(seed)
    student, teacher = logits(seed, 3, classes, temperature), logits(seed + 1, 3, classes, temperature)
    higher = (1 if first == "high" else -1) * octaves * temperature * np.log(2)
    for side in (student, teacher):
        before = np.arange(classes) < rng.integers(classes + 1)
        side[rng.integers(2) :, before] += np.float32(higher)
        if "masked" in first:
            side[:, before & (rng.random(classes) < (1.0 if first == "masked" else 0.5))] = -INF
    ones, two = np.ones(3), np.full(3, temperature)
    case = (student, teacher, None, two, ones, ones, 0.0)
    expected, slopes = np.empty(3), np.empty((3, classes))
    reference.kd_loss_grad_f32(*case, expected, slopes)
    of_loss, of_slopes = reference.kd_loss_grad_f32_bound(*case, expected, slopes)
    found = set()
    for backend, level in [*(("native", name) for name in LEVELS), ("jit", None)]:
        if dispatch.missing(backend) is not None:
            continue
        dispatch.set_level(level)
        try:
            loss, alone, grad = np.empty(3), np.empty(3), np.empty((3, classes), np.float32)
            dispatch.implementations("kd_loss_grad_f32")[backend](*case, loss, grad)
            dispatch.implementations("kd_loss_f32")[backend](*case, alone)
        finally:
            dispatch.set_level(None)
        assert_within_bound(loss, expected, of_loss)
        assert_within_bound(grad, slopes, of_slopes)
        found |= {(loss.tobytes(), grad.tobytes()), (alone.tobytes(), grad.tobytes())}
    assert len(found) <= 1


def test_a_row_too_long_for_its_terms_to_be_kept_has_the_same_bits():
    kept = 1 << 19  # KEPT of csrc/kernels/kd_loss.c; what is masked on both sides changes nothing
    student, teacher = logits(1, 1, kept), logits(2, 1, kept)
    longer = [np.pad(a, ((0, 0), (0, 3)), constant_values=-INF) for a in (student, teacher)]
    loss, grad = kd_loss(student, teacher, temperature=2.0, return_grad=True)
    loss_of_longer, grad_of_longer = kd_loss(*longer, temperature=2.0, return_grad=True)
    assert loss_of_longer == loss > 0
    np.testing.assert_array_equal(grad_of_longer[:, :kept], grad)
    assert not grad_of_longer[:, kept:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("lay", [
    np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], lambda a: a[::-1].copy()[::-1],
    lambda a: np.broadcast_to(a[:1], a.shape), lambda a: np.broadcast_to(a[:, :1], a.shape),
], ids=["columns first", "every other column", "rows backwards", "one row", "one column"])
def test_views_of_any_strides_give_the_bits_of_a_copy(lay, dtype):
    s, t, labels = (a.astype(dtype) if a.dtype == np.float32 else a for a in operands(m=7))
    before = s.copy(), t.copy()
    for student, teacher in ((lay(s), t), (s, lay(t)), (lay(s), lay(t))):
        copies = np.ascontiguousarray(student), np.ascontiguousarray(teacher)
        for options in ({}, {"labels": labels, "alpha": 0.3}):
            loss, grad = kd_loss(student, teacher, temperature=2.0, return_grad=True, **options)
            expected, expected_grad = kd_loss(*copies, temperature=2.0, return_grad=True, **options)
            assert loss == expected
            np.testing.assert_array_equal(grad, expected_grad)
    assert (s == before[0]).all()
    assert (t == before[1]).all()


@pytest.mark.parametrize("classes", [10, 1000])
def test_rows_by_mask_and_temperature_have_the_bits_they_have_alone(classes):
    """Also where they lie in runs, and where they are scattered."""
    rng = np.random.default_rng(0)
    s, t = logits(0, 60, classes), logits(1, 60, classes)
    for mask in (np.arange(60) != 7, np.arange(60) % 2 == 0, rng.random(60) < 0.5, np.zeros(60, bool)):
        for temperature in (2.0, np.where(np.arange(60) < 30, 1.0, 2.0), rng.choice([1.0, 2.0, 3.0], 60)):
            losses, grad = kd_loss(s, t, mask=mask, temperature=temperature, reduction="none", return_grad=True)
            for i, value in enumerate(np.broadcast_to(temperature, 60)):
                loss, slopes = kd_loss(s[i], t[i], temperature=value, reduction="none", return_grad=True)
                assert losses[i] == (loss if mask[i] else 0.0)
                np.testing.assert_array_equal(grad[i], slopes if mask[i] else 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_part_of_weight_0_is_not_looked_at_but_for_what_is_not_a_number(dtype):
    s, t, labels = (a.astype(dtype) if a.dtype == np.float32 else a for a in operands())
    s[0, labels[0]] = t[0, labels[0]] = -INF  # the cross entropy is infinite
    assert np.isfinite(kd_loss(s, t, labels=labels, alpha=1.0))
    assert kd_loss(s, t, labels=labels, alpha=0.9) == INF
    t[1, 2] = np.nan
    losses, grad = kd_loss(s, t, labels=labels, alpha=0.0, reduction="none", return_grad=True)
    assert np.isnan(losses[1])
    assert np.isnan(grad[1]).all()
    assert not np.isnan(losses[2:]).any()


def test_a_temperature_whose_square_is_out_of_range_is_refused_where_it_is_needed():
    s, t, _ = operands()
    with pytest.raises(ValueError, match=r"temperature is 1e\+200, expected 1e-100 to 1e\+100 where its square"):
        kd_loss(s, t, temperature=1e200)
    assert kd_loss(s, t, temperature=1e200, scale_by_t2=False) == 0.0


def test_bits_do_not_depend_on_threads():
    s, t, labels = logits(0, 37, 1000), logits(1, 37, 1000), np.arange(37) % 10
    results = []
    for count in (1, 2, 3):
        with pycomp.threads(count):
            loss, grad = kd_loss(s, t, labels=labels, temperature=4.0, return_grad=True)
            results.append((loss, grad.tobytes(), softmax(s).tobytes()))
    assert results[0] == results[1] == results[2]


def test_reference_agrees_with_extended_precision():
    s = logits(0, 4, 500)
    for nudge in (1e-4, 1e-3, 1.0):
        t = (s + logits(1, 4, 500, nudge)).astype(np.float32)
        true = exact_kl(s, t, 4.0)
        assert (np.abs(reference.divergence(s, t, 4.0) / true - 1) < 1e-5).all()


def operands(seed=0, m=6, n=9):
    rng = np.random.default_rng(seed)
    return (2 * rng.standard_normal((m, n), np.float32), 2 * rng.standard_normal((m, n), np.float32),
            rng.integers(0, n, m))


def test_rows_that_do_not_count_are_as_if_they_were_not_there():
    s, t, labels = operands()
    labels[4] = -100
    mask = np.array([True, False, True, True, True, False])
    s[1] = np.nan  # not looked at
    kept = [0, 2, 3]
    options = {"temperature": 2.0, "return_grad": True}
    for reduction, factor in (("sum", 1), ("mean", 1 / 3), ("batchmean", 1 / 6)):
        loss, grad = kd_loss(s, t, labels=labels, mask=mask, ignore_index=-100, reduction=reduction, **options)
        alone, slopes = kd_loss(s[kept], t[kept], labels=labels[kept], reduction="sum", **options)
        assert loss == pytest.approx(factor * alone, rel=1e-15)
        np.testing.assert_allclose(grad[kept], factor * slopes, rtol=5e-7)
        assert (grad[[1, 4, 5]] == 0).all()
    losses, _ = kd_loss(s, t, labels=labels, mask=mask, ignore_index=-100, reduction="none", **options)
    assert (losses[[1, 4, 5]] == 0).all()
    loss, grad = kd_loss(s, t, mask=np.zeros(6, bool), reduction="mean", **options)
    assert loss == 0
    assert (grad == 0).all()


def test_the_worked_example_of_the_reductions():
    """Losses 1, 2, 6 with the last row masked."""
    teacher = np.zeros((3, 1), np.float32)
    rows = np.array([1.0, 2.0, 6.0])
    mask = np.array([True, True, False])
    t = np.concatenate([teacher, np.full((3, 1), -np.inf, np.float32)], axis=1)
    s = np.stack([np.zeros(3), np.log(np.expm1(rows))], axis=1).astype(np.float32)  # KL = log(1 + e^s1)
    for reduction, expected in (("batchmean", 1.0), ("mean", 1.5), ("sum", 3.0), ("none", [1.0, 2.0, 0.0])):
        np.testing.assert_allclose(kd_loss(s, t, mask=mask, reduction=reduction), expected, rtol=1e-6)


def test_weights_multiply_rows():
    s, t, labels = operands(1)
    w = np.array([0.0, 1, 2, 0.5, 3, 1])
    s[0, 0] = np.inf  # of weight 0
    options = {"labels": labels, "temperature": 3.0, "return_grad": True}
    each, slopes = kd_loss(s[1:], t[1:], **{**options, "labels": labels[1:]}, reduction="none")
    for reduction, factor in (("sum", 1), ("mean", 1 / 7.5), ("batchmean", 1 / 6)):
        loss, grad = kd_loss(s, t, weights=w, reduction=reduction, **options)
        assert loss == pytest.approx(factor * (w[1:] * each).sum(), rel=1e-12)
        np.testing.assert_allclose(grad[1:], factor * w[1:, None] * slopes, rtol=5e-7, atol=1e-8)
        assert (grad[0] == 0).all()


def test_each_row_may_have_its_temperature():
    s, t, labels = operands(2)
    temperature = np.array([1, 2, 1, 4, 2, 0.5])
    losses, grad = kd_loss(s, t, labels=labels, temperature=temperature, reduction="none", return_grad=True)
    for i in range(6):
        loss, slope = kd_loss(s[i : i + 1], t[i : i + 1], labels=labels[i : i + 1], temperature=float(temperature[i]),
                              reduction="none", return_grad=True)
        assert losses[i] == loss[0]
        assert (grad[i] == slope[0]).all()


def test_leading_axes_are_rows():
    s, t, labels = operands(3)
    loss, grad = kd_loss(s, t, labels=labels, reduction="none", return_grad=True)
    shaped, slopes = kd_loss(s.reshape(2, 3, 9), t.reshape(2, 3, 9), labels=labels.reshape(2, 3), reduction="none",
                             return_grad=True)
    assert (shaped == loss.reshape(2, 3)).all()
    assert (slopes == grad.reshape(2, 3, 9)).all()
    assert kd_loss(s[0], t[0]) == kd_loss(s[:1], t[:1])


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_types_are_the_float32_result_rounded_once(name):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.float16
    s, t, labels = operands(4)
    s, t = s.astype(dtype), t.astype(dtype)
    loss, grad = kd_loss(s, t, labels=labels, return_grad=True)
    wide, slopes = kd_loss(s.astype(np.float32), t.astype(np.float32), labels=labels, return_grad=True)
    assert loss == wide
    assert grad.dtype == dtype
    assert grad.tobytes() == slopes.astype(dtype).tobytes()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), temperature=st.sampled_from([0.5, 1.0, 4.0]), scale=st.booleans(),
       labelled=st.booleans(), reduction=st.sampled_from(["none", "mean", "sum", "batchmean"]))
def test_float64_agrees_with_the_kernel(seed, temperature, scale, labelled, reduction):
    s, t, labels = operands(seed)
    s[0, 3] = t[0, 3] = t[1, 2] = -np.inf
    t[2] = -np.inf
    options = {"labels": labels if labelled else None, "temperature": temperature, "scale_by_t2": scale,
               "reduction": reduction, "return_grad": True}
    if labelled:
        labels[0] = 0
    loss, grad = kd_loss(s, t, **options)
    wide, slopes = kd_loss(s.astype(np.float64), t.astype(np.float64), **options)
    np.testing.assert_allclose(loss, wide, rtol=2.0**-14, atol=2.0**-20)
    np.testing.assert_allclose(grad, slopes, atol=2.0**-20 * max(1, temperature), rtol=0)
    assert slopes.dtype == np.float64


def test_label_smoothing_of_masked_classes():
    """A target above 0 where the student has none: infinite, as cross entropy is; the gradient stays finite."""
    s, t, labels = operands(4)
    s[0, 3] = -np.inf
    labels[0] = 1
    loss, grad = kd_loss(s, t, labels=labels, alpha=0.0, label_smoothing=0.1, reduction="none", return_grad=True)
    assert loss[0] == np.inf
    assert np.isfinite(loss[1:]).all()
    np.testing.assert_allclose(grad[0, 3], -0.1 / 9, rtol=1e-6)
    assert np.isfinite(grad).all()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), smoothing=st.floats(0.01, 1))
def test_label_smoothing_is_cross_entropy_with_smoothed_targets(seed, smoothing):
    s, t, labels = operands(seed)
    target = np.full(s.shape, smoothing / 9)
    target[np.arange(6), labels] += 1 - smoothing
    expected, slopes = soft_cross_entropy(s, target, return_grad=True)
    for dtype, rel in ((np.float32, 2.0**-22), (np.float64, 1e-12)):
        loss, grad = kd_loss(s.astype(dtype), t.astype(dtype), labels=labels, alpha=0.0, label_smoothing=smoothing,
                             return_grad=True)
        assert loss == pytest.approx(expected, rel=rel)
        np.testing.assert_allclose(grad, slopes, atol=1e-7)
    both = kd_loss(s, t, labels=labels, alpha=0.3, label_smoothing=smoothing, temperature=2.0)
    assert both == pytest.approx(0.3 * kd_loss(s, t, temperature=2.0) + 0.7 * loss, rel=1e-6)
