"""What does not count is not looked at, options at their ends, and refusals that name the value."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pytest

from pycomp import distillation as d

S = np.zeros((2, 3), np.float32)
H, W = np.ones((2, 4), np.float32), np.ones((3, 4), np.float32)
P, AT = np.full((2, 2), 0.25, np.float32), np.array([[0, 1], [1, 2]])
TOO_LARGE = np.array([0, 2**63 + 5], np.uint64)
INF = np.inf


def test_import_without_docstrings(tmp_path):
    code = "from pycomp.distillation import forward_kl_loss, dkd_loss"
    subprocess.run([sys.executable, "-OO", "-c", code], check=True, cwd=tmp_path)


def test_nothing_times_an_infinite_part_is_nothing():
    s, t = np.array([[0.0, 1.0, -np.inf]]), np.array([[0.5, 0.0, 1.0]])
    loss, grad = d.nkd_loss(s, t, [0], gamma=0.0, return_grad=True)
    p, q = d.softmax(t)[0], d.softmax(s)[0]
    assert loss == pytest.approx(-p[0] * np.log(q[0]), rel=1e-12)
    assert grad[0] == pytest.approx(p[0] * (q - np.array([1, 0, 0])), rel=1e-12)


@pytest.mark.parametrize("bad", [[-1, 0], [0, 0], [7, 1]])
@pytest.mark.parametrize("p", [0.25, np.nan, np.inf, -1.0])
def test_classes_and_probabilities_of_rows_that_do_not_count_are_not_looked_at(bad, p):
    s = np.random.default_rng(0).standard_normal((2, 3))
    probabilities, at = np.array([[0.5, 0.25], [p, p]]), np.array([[2, 0], bad])
    for rows in ({"mask": np.array([True, False])}, {"weights": np.array([1.0, 0.0])}):
        loss, grad = d.top_k_kd_loss(s, probabilities, at, **rows, reduction="sum", return_grad=True)
        assert loss == d.top_k_kd_loss(s[:1], probabilities[:1], at[:1], reduction="sum")
        assert (grad[1] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1e-6, 1e-8, 1e-12, 1e-20, 1e-30])
def test_gradient_of_scaled_jsd_tends_to_that_of_kl(beta, dtype):
    rng = np.random.default_rng(2)
    s, t = rng.standard_normal((2, 20, 7)).astype(dtype)
    s[0, 3] = t[0, 3] = s[1, 4] = t[2, 5] = -np.inf
    t[1, 4] = -np.inf
    of = {"temperature": 1.5, "mask": np.arange(20) != 9, "reduction": "none", "return_grad": True}
    loss, grad = d.jsd_loss(s, t, beta=beta, scaled=True, **of)
    _, limit = d.forward_kl_loss(s, t, **of)
    ratio = (d.softmax(t, temperature=1.5) / np.maximum(d.softmax(s, temperature=1.5), 1e-9)).max()
    assert (loss == d.jsd_loss(s, t, beta=beta, scaled=True, **of | {"return_grad": False})).all()
    rounding = 2.0**-22 if dtype == np.float32 else 2.0**-40
    assert np.abs(grad - limit).max() <= (2 * beta * ratio + rounding) * np.abs(limit).max()
    assert (grad[9] == 0).all()


def test_gradients_of_scaled_jsd_by_both_ways_agree():
    rng = np.random.default_rng(4)
    s, t = 3 * rng.standard_normal((2, 20, 7))
    near, far = (d.jsd_loss(s, t, beta=beta, scaled=True, reduction="none", return_grad=True)[1]
                 for beta in (np.nextafter(2.0**-20, 0), 2.0**-20))
    assert np.abs(near - far).max() < 2.0**-28


def test_gradient_of_scaled_jsd_where_the_student_masks():
    s, t = np.array([[0.0, 1.0, -np.inf]]), np.array([[0.5, 0.0, 1.0]])
    loss, grad = d.jsd_loss(s, t, beta=1e-12, scaled=True, return_grad=True)
    p, q = d.softmax(t)[0], d.softmax(s)[0]
    assert loss == pytest.approx(p[2] * np.log(1e12), rel=0.1)
    pull = np.where(q > 0, p - q, 0)
    assert grad[0] == pytest.approx(q * pull.sum() - pull, rel=1e-9)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_softmax_of_half_types_is_taken_as_probabilities(name):
    dtype = np.dtype(np.float16) if name == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    rng = np.random.default_rng(6)
    s, t = (rng.standard_normal((2, 200, 30)) * 2).astype(np.float32)
    p = d.softmax(t.astype(dtype))
    wide = p.astype(np.float64)
    loss, grad = d.soft_cross_entropy(s, p, reduction="none", return_grad=True)
    log_q = d.log_softmax(s.astype(np.float64))
    assert loss == pytest.approx(-(wide * log_q).sum(axis=1), rel=1e-12)
    sums = wide.sum(axis=1, keepdims=True)
    assert np.abs(grad - (sums * np.exp(log_q) - wide)).max() < 2.0**-22
    at = np.tile(np.arange(30), (200, 1))
    assert np.isfinite(d.top_k_kd_loss(s, p, at, reduction="none")).all()


def test_weights_of_teachers_whose_sum_overflows():
    rng = np.random.default_rng(7)
    s, t, u = rng.standard_normal((3, 2, 5))
    assert d.ensemble_kd_loss(s, [t, u], teacher_weights=[1e308, 1e308]) == d.ensemble_kd_loss(s, [t, u])


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: d.top_k_kd_loss(S, S[:, :0], AT[:, :0]), ValueError, r"has shape \(2, 0\), expected .* k of at least 1"),
    (lambda: d.top_k_kd_loss(S, P - [[0], [1]], AT), ValueError, "row 1 holds -0.75"),
    (lambda: d.top_k_kd_loss(S, P * [[1], [np.nan]], AT), ValueError, "row 1 holds nan"),
    (lambda: d.top_k_kd_loss(S, P * [[1], [4]], AT), ValueError, "row 1 has sum 2.0"),
    (lambda: d.top_k_kd_loss(S, P, AT * [[1], [0]]), ValueError, "indices holds a class twice in a row of k: 0"),
    (lambda: d.top_k_kd_loss(S, P, TOO_LARGE.reshape(1, 2).repeat(2, axis=0)), ValueError,
     r"indices holds 2\*\*63 - 1 or more, expected 0 to 2"),
    (lambda: d.soft_cross_entropy(S, S * 1.0), ValueError, "targets has a row of sum 0.0, .*: row 0"),
    (lambda: d.soft_cross_entropy(S, S + np.array([[1 / 3], [-1]])), ValueError, "targets has .*: row 1 holds -1.0"),
    (lambda: d.dkd_loss(S, S, [0, 1], ignore_index="a"), TypeError, "ignore_index is 'a', expected an integer"),
    (lambda: d.dkd_loss(S, S, [0, 1], ignore_index=1.0), TypeError, "ignore_index is 1.0, expected an integer"),
    (lambda: d.dkd_loss(S, S, TOO_LARGE), ValueError, r"labels holds 2\*\*63 - 1 or more, expected 0 to 2"),
    (lambda: d.jsd_loss(S, S, beta=True), TypeError, "beta is True, expected a number"),
    (lambda: d.jsd_loss(S, S, beta=np.ones(2)), TypeError, "beta is array"),
    (lambda: d.jsd_loss(S, S, beta=1 + 0j), TypeError, r"beta is \(1\+0j\), expected a number"),
    (lambda: d.fused_linear_kd_loss(H, W, teacher_logits=S, alpha=5), ValueError, "alpha is 5"),
    (lambda: d.fused_linear_kd_loss(H, W, teacher_logits=S, teacher_weight=W), ValueError,
     "teacher_logits and teacher_weight given, expected one of"),
    (lambda: d.fused_linear_kd_loss(H, W, teacher_weight=W), ValueError, "teacher_weight given, expected one of"),
    (lambda: d.ensemble_kd_loss(S, [S, S], teacher_weights=1.0), TypeError,
     "teacher_weights is 1.0, expected a sequence of 2 numbers"),
])
def test_refusals_name_what_was_given(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_labels_of_uint64_that_are_ignored_may_be_anything():
    loss = d.dkd_loss(S, S, TOO_LARGE, mask=np.array([True, False]))
    assert loss == 0


def test_a_token_whose_logits_are_not_finite_is_named_where_that_is_asked_for():
    rng = np.random.default_rng(0)
    hidden, weight, teacher = (rng.standard_normal(shape, np.float32) for shape in ((9, 4), (5, 4), (9, 5)))
    hidden[7, 1] = np.nan
    for grad in (False, True):
        found = d.fused_linear_kd_loss(hidden, weight, teacher_logits=teacher, return_grad=grad)
        assert np.isnan(found[0] if grad else found)
        with pytest.raises(ValueError, match=r"logits of token 7 hold NaN or \+inf"):
            d.fused_linear_kd_loss(hidden, weight, teacher_logits=teacher, chunk_size=4, check_finite=True,
                                   return_grad=grad)
        kept = np.arange(9) != 7
        d.fused_linear_kd_loss(hidden, weight, teacher_logits=teacher, mask=kept, check_finite=True, return_grad=grad)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_teacher_of_weight_0_is_not_looked_at(value):
    s, t = np.array([[0.0, 1.0, 3.0]]), np.array([[1.0, 0.0, -1.0]])
    odd = np.full_like(t, value)
    expected = d.ensemble_kd_loss(s, [t], return_grad=True)
    found = d.ensemble_kd_loss(s, [t, odd], teacher_weights=[1, 0], return_grad=True)
    assert found[0] == expected[0] > 0
    np.testing.assert_array_equal(found[1], expected[1])


ROWS_OF_TEACHERS = {
    "kd": d.kd_loss, "forward": d.forward_kl_loss, "reverse": d.reverse_kl_loss, "jsd": d.jsd_loss,
    "skew": d.skew_kl_loss, "total variation": d.total_variation_loss, "binary": d.binary_kd_loss,
    "standardized": d.standardized_kd_loss, "dist": d.dist_loss, "DKD": lambda s, t, **o: d.dkd_loss(s, t, [0, 1], **o),
    "NKD": lambda s, t, **o: d.nkd_loss(s, t, [0, 1], **o),
    "ensemble": lambda s, t, **o: d.ensemble_kd_loss(s, [t], **o),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ROWS_OF_TEACHERS)
@pytest.mark.parametrize("temperature", [1e160, 1e-160])
def test_a_temperature_whose_square_is_out_of_range_is_refused(name, dtype, temperature):
    with pytest.raises(ValueError, match=re.escape(f"temperature is {temperature}, expected 1e-100 to 1e+100 where")):
        ROWS_OF_TEACHERS[name](S.astype(dtype), -S.astype(dtype), temperature=temperature)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [d.kd_loss, d.forward_kl_loss])
def test_temperatures_and_weights_of_rows_that_do_not_count_are_not_looked_at(loss, dtype):
    s, t = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(dtype)
    of = {"mask": np.array([True, False]), "reduction": "mean"}
    expected = loss(s, t, temperature=2.0, **of)
    assert loss(s, t, temperature=np.array([2.0, 1e200]), **of) == expected
    assert loss(s, t, temperature=2.0, weights=np.array([1e-300, 1e308]), **of) == pytest.approx(expected, rel=1e-14)


def masked(values):
    return np.ma.array(values, mask=[False, True])


@pytest.mark.parametrize(("call", "name"), [
    (lambda: d.kd_loss(S, S, mask=masked([True, True])), "mask"),
    (lambda: d.kd_loss(S, S, weights=masked([1.0, 1.0])), "weights"),
    (lambda: d.kd_loss(S, S, labels=masked([0, 1])), "labels"),
    (lambda: d.dkd_loss(S, S, masked([0, 1])), "labels"),
    (lambda: d.softmax(S, lengths=masked([3, 3])), "lengths"),
    (lambda: d.softmax(S, mask=np.ma.array(S > 0, mask=S > 0)), "mask"),
    (lambda: d.top_k_kd_loss(S, P, np.ma.array(AT, mask=AT > 0)), "indices"),
    (lambda: d.fused_linear_kd_loss(H, W, teacher_top_k=(P, np.ma.array(AT, mask=AT > 0))), "teacher_top_k"),
], ids=range(8))
def test_a_mask_that_would_be_passed_over_is_refused(call, name):
    with pytest.raises(TypeError, match=f"{name} is a MaskedArray"):
        call()


@pytest.mark.parametrize("given", [{"mask": np.array([True, False])}, {"weights": np.array([1.0, 0.0])},
                                   {"labels": [1, -100], "ignore_index": -100}])
@pytest.mark.parametrize("bad", [np.nan, INF])
def test_what_a_token_holds_that_does_not_count_reaches_no_gradient(given, bad):
    hidden = np.array([[1, 2, 3], [bad, 0, bad]], np.float32)
    weight, teacher = np.eye(4, 3, dtype=np.float32), np.arange(8, dtype=np.float32).reshape(2, 4)
    loss, by_hidden, by_weight = d.fused_linear_kd_loss(hidden, weight, teacher_logits=teacher, check_finite=True,
                                                        return_grad=True, **given)
    hidden[1] = 0
    expected = d.fused_linear_kd_loss(hidden, weight, teacher_logits=teacher, return_grad=True, **given)
    assert loss == expected[0]
    np.testing.assert_array_equal(by_hidden, expected[1])
    np.testing.assert_array_equal(by_weight, expected[2])
    assert by_weight.any()


def test_a_token_of_wrong_probabilities_is_named_whatever_its_chunk():
    p = np.full((200, 2), 0.3, np.float32)
    p[150] = 0.6
    with pytest.raises(ValueError, match=r"row 150 has sum 1\.2"):
        d.fused_linear_kd_loss(np.ones((200, 4), np.float32), np.ones((6, 4), np.float32), chunk_size=64,
                               teacher_top_k=(p, np.tile([0, 1], (200, 1))))


def test_answers_and_logits_of_minus_infinity_alone_count_as_beside_others():
    """Only a softmax has nothing to say of a row of -inf."""
    none, zero = np.full((1, 2), -INF, np.float32), np.zeros((1, 2), np.float32)
    loss, grad = d.binary_kd_loss(zero, none, return_grad=True)
    assert loss == pytest.approx(2 * np.log(2))
    np.testing.assert_allclose(grad, 0.5)
    assert d.binary_kd_loss(none, zero) == INF
    assert d.binary_kd_loss(none, none) == 0
    assert d.logit_mse_loss(none, zero) == INF
    assert d.logit_mse_loss(none, none) == 0
    far = np.array([[1e30], [0]], np.float32), np.array([[5], [5]], np.float32), np.array([[-1e30]], np.float32)
    assert d.hint_loss(*far) == INF


@pytest.mark.parametrize("loss", [d.similarity_loss, d.cka_loss])
@pytest.mark.parametrize("exponent", [-120, -70, 60, 100])
def test_features_of_any_size_look_as_alike(loss, exponent):
    rng = np.random.default_rng(0)
    s, t = rng.standard_normal((2, 8, 6)).astype(np.float32)
    value, grad = loss(s, t, return_grad=True)
    found, slope = loss(np.ldexp(s, exponent), t, return_grad=True)
    assert found == value
    np.testing.assert_array_equal(slope, np.ldexp(grad.astype(np.float64), -exponent).astype(np.float32))


@pytest.mark.parametrize("loss", [d.kd_loss, d.forward_kl_loss])
@pytest.mark.parametrize("size", [1e308, 5e-324, 1e-300])
def test_weights_of_any_size_weigh_a_mean(loss, size):
    s = np.array([[1, 2, 3], [3, 1, 0]], np.float32)
    value, grad = loss(s, s[:, ::-1], weights=np.full(2, size), reduction="mean", return_grad=True)
    expected, slope = loss(s, s[:, ::-1], reduction="mean", return_grad=True)
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_array_equal(grad, slope)


def test_weights_beyond_the_gradients_type_are_refused():
    assert d.kd_loss(S, np.eye(2, 3, dtype=np.float32), weights=np.full(2, 1e39)) > 1e38
    with pytest.raises(ValueError, match=r"the gradient may reach 5e\+38, expected at most 3\.4.* float32"):
        d.kd_loss(S, S, weights=np.full(2, 1e39), return_grad=True)


def test_not_a_number_is_told_where_the_other_side_is_masked_altogether():
    s, t = np.full((1, 2), -INF), np.array([[np.nan, 0.0]])
    for dtype in (np.float32, np.float64):
        loss, grad = d.kd_loss(s.astype(dtype), t.astype(dtype), return_grad=True)
        assert np.isnan(loss)
        assert np.isnan(grad).all()
        with pytest.raises(ValueError, match="student or teacher holds NaN"):
            d.kd_loss(s.astype(dtype), t.astype(dtype), check_finite=True)


def test_only_rows_that_count_may_not_be_empty():
    s, t = np.array([[1, 2, 3], [-INF] * 3], np.float32), np.ones((2, 3), np.float32)
    assert d.kd_loss(s, t, mask=np.array([True, False]), on_empty="raise") > 0
    with pytest.raises(ValueError, match="student has a row of -inf alone: row 1"):
        d.kd_loss(s, t, on_empty="raise")


def test_a_single_row_takes_an_array_of_its_shape_as_temperature():
    s, t = np.array([1, 2, 3], np.float32), np.array([3, 2, 1], np.float32)
    for loss in (d.kd_loss, d.forward_kl_loss):
        assert loss(s, t, temperature=np.array(2.0)) == loss(s, t, temperature=2.0)


@pytest.mark.parametrize("shape", [(4,), (5, 2, 2), (4, 5)])
def test_a_projection_of_another_shape_is_told(shape):
    with pytest.raises(ValueError, match=r"projection has shape .*, expected \(D_t, D_s\) = \(5, 4\)"):
        d.hint_loss(np.ones((3, 2, 2), np.float32), np.ones((3, 5), np.float32), np.ones(shape, np.float32))


@pytest.mark.parametrize("name", [n for n in d.__all__ if n.endswith("_loss") and not n.startswith("fused")])
def test_docstrings_tell_the_parameters_that_there_are(name):
    function = getattr(d, name)
    told = function.__doc__.split("Parameters\n    ----------\n")[1].split("\n\n    Returns")[0]
    names = [n for line in re.findall(r"^    (\w[\w, ]*) :", told + "\n", re.MULTILINE) for n in line.split(", ")]
    names += re.findall(r"^    (\w+)$", told, re.MULTILINE)
    assert sorted(names) == sorted(inspect.signature(function).parameters)


OPERANDS = {
    **dict.fromkeys(("softmax", "log_softmax", "logsumexp"), (S,)),
    **dict.fromkeys(("dkd_loss", "nkd_loss"), (S, S, np.zeros(2, np.int64))),
    "ensemble_kd_loss": (S, [S, S]),
    "top_k_kd_loss": (S, P, AT),
    "fused_linear_kd_loss": (H, W),
    "relational_angle_loss": (W, W),
    "attention_loss": (np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2) + 1,) * 2,
    "soft_cross_entropy": (S, np.full_like(S, 1 / 3)),
}
FLAGS = [(name, flag) for name in d.__all__ if inspect.isfunction(getattr(d, name))
         for flag, given in inspect.signature(getattr(d, name)).parameters.items() if given.annotation == "bool"]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_flags_are_true_or_false(name, flag, value):
    options = {"teacher_logits": np.ones((2, 3), np.float32)} if name == "fused_linear_kd_loss" else {}
    operands = OPERANDS.get(name, (S + np.arange(3, dtype=np.float32), S))
    getattr(d, name)(*operands, **options, **{flag: np.True_})
    with pytest.raises(TypeError, match=f"^{flag} is {value!r}, expected True or False$"):
        getattr(d, name)(*operands, **options, **{flag: value})
