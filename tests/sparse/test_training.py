"""sddmm, gradients under a mask, and updates that keep the pattern."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp import dense
from pycomp.sparse import BitmapMatrix, BSRMatrix, CSRMatrix, NMMatrix, linear, linear_backward, sddmm


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 100), st.integers(0, 100),
       st.sampled_from([0.02, 0.3, 1.0]))
def test_values_have_the_bits_of_the_dense_product(seed, m, n, k, density):
    rng = np.random.default_rng(seed)
    pattern = CSRMatrix.from_dense((rng.random((n, k)) < density).astype(np.float32))
    a, b = rng.standard_normal((n, m)).astype(np.float32), rng.standard_normal((m, k)).astype(np.float32)
    product = dense.matmul(a, b)
    row = np.repeat(np.arange(n), np.diff(pattern.indptr))
    for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b))):
        got = sddmm(pattern, left, right)
        assert got.data.tobytes() == product[row, pattern.indices].tobytes()
        assert got.indices.base is pattern.indices.base


@pytest.mark.parametrize("density", [0.01, 0.3, 0.5])
def test_both_ways_give_the_same_bits_at_a_size_of_many_parts(density):
    rng = np.random.default_rng(0)
    pattern = CSRMatrix.from_dense((rng.random((700, 3000)) < density).astype(np.float32))
    a, b = rng.standard_normal((700, 9)).astype(np.float32), rng.standard_normal((9, 3000)).astype(np.float32)
    row = np.repeat(np.arange(700), np.diff(pattern.indptr))
    assert sddmm(pattern, a, b).data.tobytes() == dense.matmul(a, b)[row, pattern.indices].tobytes()


def test_gradients_are_those_of_central_differences():
    rng = np.random.default_rng(1)
    w = rng.standard_normal((5, 7)).astype(np.float32)
    w[rng.random(w.shape) < 0.5] = 0
    a, x = CSRMatrix.from_dense(w), rng.standard_normal((4, 7)).astype(np.float32)
    grad = rng.standard_normal((4, 5)).astype(np.float32)
    dx, da, dbias = linear_backward(grad, x, a)

    def loss(x, w, bias):
        return float((grad.astype(np.float64) * (x @ w.T + bias)).sum())

    point = [x.astype(np.float64), w.astype(np.float64), np.zeros(5)]
    for which, found in ((0, dx), (1, da.to_dense()), (2, dbias)):
        for at in np.ndindex(found.shape):
            if which == 1 and w[at] == 0:
                assert found[at] == 0  # no gradient outside the mask
                continue
            moved = [[p.copy() for p in point] for _ in range(2)]
            moved[0][which][at] += 1e-4
            moved[1][which][at] -= 1e-4
            assert found[at] == pytest.approx((loss(*moved[0]) - loss(*moved[1])) / 2e-4, rel=1e-4, abs=1e-5)


def test_training_under_a_mask_finds_the_weights():
    rng = np.random.default_rng(2)
    true = rng.standard_normal((6, 10)).astype(np.float32)
    true[rng.random(true.shape) < 0.6] = 0
    x = rng.standard_normal((64, 10)).astype(np.float32)
    a = CSRMatrix.from_dense((true != 0).astype(np.float32))
    for _ in range(300):
        grad = ((linear(x, a, format="tiles") - x @ true.T) / 64).astype(np.float32)
        a = a.with_data(a.data - np.float32(0.3) * linear_backward(grad, x, a)[1].data)
    assert np.abs(a.to_dense() - true).max() < 1e-3


def test_new_values_share_what_follows_from_the_pattern():
    a = CSRMatrix.from_dense(np.eye(8, dtype=np.float32))
    b = a.with_data(3 * a.data)
    for matrix in (a, b):
        linear(np.ones((2, 8), np.float32), matrix, format="tiles")
        linear(np.ones((1, 8), np.float32), matrix, format="slices")
    assert a._pattern is b._pattern
    assert b.indices.base is a.indices.base
    assert (b.T.to_dense() == 3 * np.eye(8)).all()
    assert (linear(np.ones((2, 8), np.float32), b, format="tiles") == 3).all()
    changed = np.ones(8, np.float32)
    c = a.with_data(changed)
    changed[:] = 9
    assert (c.data == 1).all()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda p, a, b: sddmm(p.to_dense(), a, b), TypeError, "pattern is a ndarray"),
    (lambda p, a, b: sddmm(p, a.T, b), ValueError, r"a has shape \(2, 3\)"),
    (lambda p, a, b: sddmm(p, a.astype(float), b), TypeError, "a has dtype float64"),
    (lambda p, a, b: linear_backward(a, b, p), ValueError, "grad has shape"),
    (lambda p, a, b: linear_backward(a, b, p.to_dense()), TypeError, "expected a CSRMatrix of float32"),
    (lambda p, a, b: linear_backward(a, b, BitmapMatrix.from_csr(p)), TypeError,
     r"a is a BitmapMatrix of float32, expected a CSRMatrix of float32; a\.to_csr\(\) makes a CSRMatrix$"),
    (lambda p, a, b: sddmm(NMMatrix.from_csr(p, 4, 4), a, b), TypeError,
     r"pattern is a NMMatrix, expected a CSRMatrix; pattern\.to_csr\(\) makes a CSRMatrix$"),
    (lambda p, a, b: sddmm(BSRMatrix.from_csr(p, (3, 4)), a, b), TypeError, r"pattern\.to_csr\(\) makes a CSRMatrix$"),
])
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(CSRMatrix.from_dense(np.ones((3, 4), np.float32)), np.ones((3, 2), np.float32),
             np.ones((2, 4), np.float32))
