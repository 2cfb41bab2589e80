"""Operands of any strides give the bits of their copies in C order."""

import numpy as np
import pytest

from pycomp import distillation as d
from pycomp.distillation._rows import rounding

B, V, K = 6, 10, 3
LABELS = np.array([0, 9, 3, 3, 1, 7])

LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "columns reversed": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "rows reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "one row for all": lambda a: np.broadcast_to(a[1], a.shape),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def probabilities(t):
    return d.softmax(t.astype(np.float32)).astype(t.dtype)


def classes(t):
    return np.argsort(-t.astype(np.float64), axis=1, kind="stable")[:, :K]


# name -> call(student, teacher, **options)
LOSSES = {
    "forward KL": d.forward_kl_loss,
    "reverse KL": d.reverse_kl_loss,
    "JSD": d.jsd_loss,
    "JSD, near the end": lambda s, t, **o: d.jsd_loss(s, t, beta=1e-8, scaled=True, **o),
    "skew KL": d.skew_kl_loss,
    "total variation": d.total_variation_loss,
    "logit MSE": d.logit_mse_loss,
    "binary": d.binary_kd_loss,
    "standardized": d.standardized_kd_loss,
    "DKD": lambda s, t, **o: d.dkd_loss(s, t, LABELS, **o),
    "NKD": lambda s, t, **o: d.nkd_loss(s, t, LABELS, **o),
    "ensemble": lambda s, t, **o: d.ensemble_kd_loss(s, [t, s], **o),
}


def same(one, other):
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, other, strict=True))


def operands(dtype):
    rng = np.random.default_rng(3)
    return tuple((3 * rng.standard_normal((2, B, V))).astype(dtype))


@each_layout
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_logits_of_any_strides_give_the_bits_of_a_copy(loss, dtype, layout):
    s, t = (layout(a) for a in operands(dtype))
    for mask in (None, np.arange(B) != 2):
        options = {"mask": mask, "return_grad": True, "reduction": "none"}
        expected = loss(s.copy("C"), t.copy("C"), **options)
        assert same(loss(s, t, **options), expected)
        assert same(loss(s.copy("C"), t, **options), expected)


@each_layout
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_probabilities_of_any_strides_give_the_bits_of_a_copy(dtype, layout):
    s, t = operands(dtype)
    targets = layout(probabilities(t))
    assert same(d.soft_cross_entropy(layout(s), targets, return_grad=True),
                d.soft_cross_entropy(layout(s).copy("C"), targets.copy("C"), return_grad=True))
    at = layout(classes(t))
    p = layout(np.take_along_axis(probabilities(t), at.copy("C"), axis=1))
    assert same(d.top_k_kd_loss(layout(s), p, at, return_grad=True),
                d.top_k_kd_loss(layout(s).copy("C"), p.copy("C"), at.copy("C"), return_grad=True))


@each_layout
def test_operands_of_a_fused_loss_of_any_strides_give_the_bits_of_a_copy(layout):
    rng = np.random.default_rng(5)
    hidden, weight = rng.standard_normal((B, 4), np.float32), rng.standard_normal((V, 4), np.float32)
    logits = operands(np.float32)[1]
    at = layout(classes(logits))
    p = layout(np.take_along_axis(probabilities(logits), at.copy("C"), axis=1))
    views = layout(hidden), layout(weight)
    copies = tuple(a.copy("C") for a in views)
    for given, plain in (
        ({"teacher_logits": layout(logits)}, {"teacher_logits": layout(logits).copy("C")}),
        (dict(zip(("teacher_hidden", "teacher_weight"), views, strict=True)),
         dict(zip(("teacher_hidden", "teacher_weight"), copies, strict=True))),
        ({"teacher_top_k": (p, at)}, {"teacher_top_k": (p.copy("C"), at.copy("C"))}),
    ):
        found = d.fused_linear_kd_loss(*views, **given, return_grad=True)
        assert same(found, d.fused_linear_kd_loss(*copies, **plain, return_grad=True))
        assert all(a.flags.c_contiguous for a in found[1:])


FEATURES = {
    "hint": d.hint_loss,
    "hint, projected": lambda s, t, **o: d.hint_loss(s, t, np.asfortranarray(np.eye(V, dtype=np.float32) + 1), **o),
    "attention": lambda s, t, **o: d.attention_loss(s[:, None], t[:, None], **o),
    "similarity": d.similarity_loss,
    "distances": d.relational_distance_loss,
    "angles": d.relational_angle_loss,
    "CKA": d.cka_loss,
    "contrastive": d.contrastive_loss,
    "DIST": d.dist_loss,
}


@each_layout
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("loss", FEATURES.values(), ids=FEATURES)
def test_features_of_any_strides_give_the_bits_of_a_copy(loss, dtype, layout):
    s, t = (layout(a) for a in operands(dtype))
    assert same(loss(s, t, return_grad=True), loss(s.copy("C"), t.copy("C"), return_grad=True))


@each_layout
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("function", [d.softmax, d.log_softmax, d.logsumexp])
def test_softmax_of_any_strides_gives_the_bits_of_a_copy(function, dtype, layout):
    x = layout(operands(dtype)[0])
    for axis in (0, 1):
        assert same([function(x, axis=axis)], [function(x.copy("C"), axis=axis)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, "bfloat16"])
@pytest.mark.parametrize("masked", [0, 3])
def test_a_teacher_known_in_all_classes_leaves_nothing_beside(dtype, masked):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    rng = np.random.default_rng(1)
    s, t = (2 * rng.standard_normal((2, 300, 9))).astype(np.float32)
    s[:, 9 - masked :] = t[:, 9 - masked :] = -np.inf
    p = d.softmax(t).astype(dtype)
    at = np.tile(np.arange(9 - masked), (300, 1))
    loss, grad = d.top_k_kd_loss(s, p[:, : 9 - masked], at, reduction="none", return_grad=True)
    assert np.isfinite(loss).all()
    assert np.isfinite(grad).all()
    full = d.forward_kl_loss(s, t, reduction="none")
    assert np.abs(loss - full).max() <= 10 * rounding(p.dtype, 9) * (1 + full.max())


@pytest.mark.parametrize("count", [1000, 32000, 50257])
def test_equal_probabilities_of_all_of_many_classes_leave_nothing_beside(count):
    p = np.full((1, count), 1 / count)
    assert d.top_k_kd_loss(np.zeros((1, count)), p, np.arange(count)[None]) < 1e-20


def test_a_mass_that_rounding_does_not_explain_is_kept():
    for dtype, p in ((np.float32, 0.9999), (np.float16, 0.998)):
        known = np.array([[p]], dtype)
        left = 1 - float(known[0, 0])
        loss = d.top_k_kd_loss(np.zeros((1, 4), np.float32), known, [[2]])
        exact = (1 - left) * np.log(4 * (1 - left)) + left * np.log(left / 0.75)
        assert loss == pytest.approx(exact, rel=1e-12)
