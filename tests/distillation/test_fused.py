"""The fused layer and loss equal the two one after the other, in far less memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp import dense
from pycomp.distillation import fused_linear_kd_loss, kd_loss, softmax, top_k_kd_loss

U = 2.0**-24


def operands(seed, count, width, classes):
    rng = np.random.default_rng(seed)
    hidden, weight = rng.standard_normal((count, width), np.float32), rng.standard_normal((classes, width), np.float32)
    other, others = rng.standard_normal((count, 3), np.float32), rng.standard_normal((classes, 3), np.float32)
    return hidden, weight, other, others, rng


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40), width=st.integers(1, 20), classes=st.integers(2, 50),
       kind=st.sampled_from(["logits", "hidden", "top k"]), labelled=st.booleans(),
       chunk=st.none() | st.integers(1, 50), reduction=st.sampled_from(["batchmean", "mean", "sum"]),
       temperature=st.sampled_from([1.0, 2.0]))
def test_fused_equals_unfused(seed, count, width, classes, kind, labelled, chunk, reduction, temperature):
    hidden, weight, other, others, rng = operands(seed, count, width, classes)
    logits, teacher_logits = dense.linear(hidden, weight), dense.linear(other, others)
    mask, weights = rng.random(count) < 0.8, rng.uniform(0, 2, count)
    options = {"mask": mask, "weights": weights, "reduction": reduction, "temperature": temperature}
    if labelled and kind != "top k":
        options |= {"labels": rng.integers(0, classes, count), "alpha": 0.3,
                    "label_smoothing": float(rng.choice([0, 0.1]))}
    if kind == "top k":
        p = softmax(teacher_logits, temperature=temperature)
        at = np.argsort(-p, axis=1)[:, : max(1, classes // 2)]
        pair = np.take_along_axis(p, at, axis=1), at
        teacher = {"teacher_top_k": pair}
        expected, slopes = top_k_kd_loss(logits, *pair, return_grad=True, **options)
    else:
        teacher = {"teacher_logits": teacher_logits} if kind == "logits" else {
            "teacher_hidden": other, "teacher_weight": others}
        expected, slopes = kd_loss(logits, teacher_logits, return_grad=True, **options)
    loss, by_hidden, by_weight = fused_linear_kd_loss(hidden, weight, **teacher, **options, chunk_size=chunk,
                                                      return_grad=True)
    assert loss == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert fused_linear_kd_loss(hidden, weight, **teacher, **options, chunk_size=chunk) == loss
    whole = fused_linear_kd_loss(hidden, weight, **teacher, **options, chunk_size=count, return_grad=True)
    assert (loss, by_hidden.tobytes(), by_weight.tobytes()) == (whole[0], whole[1].tobytes(), whole[2].tobytes())
    # Gradients of logits may differ by their bound, 8u of a row's share; then the products' own.
    off = 16 * U * temperature * (weights * mask)[:, None] / (1 if reduction == "sum" else max(1e-9, (
        count if reduction == "batchmean" else (weights * mask).sum()))) + np.zeros_like(slopes)
    wide, size = slopes.astype(np.float64), np.abs(slopes).astype(np.float64)
    bound = off @ np.abs(weight) + (classes + 2) * U * (size @ np.abs(weight))
    assert (np.abs(by_hidden - wide @ weight) <= bound + 1e-30).all()
    bound = off.T @ np.abs(hidden) + (count + 2) * U * (size.T @ np.abs(hidden))
    assert (np.abs(by_weight - wide.T @ hidden) <= bound + 1e-30).all()
    assert (by_hidden[~mask] == 0).all()


def test_memory_beside_operands_and_results_is_a_small_part_of_the_logits():
    hidden, weight, other, others, _ = operands(0, 8192, 8, 1000)
    array = 4 * 8192 * 1000
    fused_linear_kd_loss(hidden[:2], weight, teacher_hidden=other[:2], teacher_weight=others, return_grad=True)
    tracemalloc.start()
    try:
        fused_linear_kd_loss(hidden, weight, teacher_hidden=other, teacher_weight=others, return_grad=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    layers = 5 * weight.nbytes + hidden.nbytes  # packed, twice, the teacher's, and the gradients
    assert peak - layers < 0.05 * array  # of which a plain run holds five


H, V = np.ones((4, 3), np.float32), np.ones((6, 3), np.float32)
T = np.zeros((4, 6), np.float32)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: fused_linear_kd_loss(H, V), ValueError, "no teacher given, expected one of"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T, teacher_hidden=H, teacher_weight=V), ValueError, "and"),
    (lambda: fused_linear_kd_loss(H, V, teacher_hidden=H), ValueError, "teacher_hidden with teacher_weight"),
    (lambda: fused_linear_kd_loss(H, V[:, :2], teacher_logits=T), ValueError, "hidden has 3 columns, weight has 2"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T[:, :5]), ValueError, "teacher_logits has shape"),
    (lambda: fused_linear_kd_loss(H, V, teacher_hidden=H, teacher_weight=V[:5]), ValueError, "teacher_weight"),
    (lambda: fused_linear_kd_loss(H, V, teacher_top_k=T), TypeError, "teacher_top_k is a ndarray"),
    (lambda: fused_linear_kd_loss(H, V, teacher_top_k=(T[:2], T[:2])), ValueError, "teacher_top_k has shapes"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T, reduction="none"), ValueError, "reduction is 'none'"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T, labels=[0, 1, 2, 6]), ValueError, "labels holds 6"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T, temperature=-1), ValueError, "temperature is -1"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T, label_smoothing=2), ValueError, "label_smoothing is 2"),
    (lambda: fused_linear_kd_loss(H, V, teacher_logits=T, chunk_size=0), ValueError, "chunk_size is 0"),
    (lambda: fused_linear_kd_loss(H.astype(np.float64), V, teacher_logits=T), TypeError, "hidden has dtype float64"),
])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
