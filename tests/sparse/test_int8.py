"""matmul_int8: exact on any shape and type."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp.sparse import BSRMatrix, CSRMatrix, matmul_int8


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 150), st.integers(0, 150), st.booleans())
def test_products_of_codes_are_exact(seed, m, k, n, signed):
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, (n, k)).astype(np.int8)
    w[rng.random((n, k)) < 0.7] = 0
    low, high, dtype = (-128, 128, np.int8) if signed else (0, 256, np.uint8)
    x = rng.integers(low, high, (m, k)).astype(dtype)
    expected = x.astype(np.int64) @ w.T.astype(np.int64)
    assert (matmul_int8(x, CSRMatrix.from_dense(w)) == expected).all()
    if k % 4 == 0:
        assert (matmul_int8(x, BSRMatrix.from_dense(w, (1, 4))) == expected).all()
    for i in range(min(m, 2)):
        assert (matmul_int8(x[i : i + 1], CSRMatrix.from_dense(w)) == expected[i : i + 1]).all()


def test_extremes_and_strides():
    w = np.full((2, 1000), -128, np.int8)
    a = CSRMatrix.from_dense(w)
    for x in (np.full((3, 2000), 255, np.uint8)[:, ::2], np.full((3, 1000), -128, np.int8)[::-1]):
        assert (matmul_int8(x, a) == x.astype(int) @ w.T.astype(int)).all()
    out = np.zeros((2, 3), np.int32).T
    assert matmul_int8(x, a, out=out) is out
    assert (out == 128 * 128 * 1000).all()


@pytest.mark.parametrize(("x", "a", "error", "message"), [
    (np.ones((1, 8), np.float32), np.int8, TypeError, "x has dtype float32, expected int8 or uint8"),
    (np.ones((1, 8), np.uint8), np.float32, TypeError, "expected a BSRMatrix or CSRMatrix of int8"),
    (np.ones((1, 8), ">i2"), np.int8, TypeError, r"x has dtype int16 \(byte-swapped\), expected"),
    (np.ones((1, 9), np.uint8), np.int8, ValueError, "x has 9 columns, a has 8"),
])
def test_what_does_not_fit_is_refused(x, a, error, message):
    with pytest.raises(error, match=message):
        matmul_int8(x, CSRMatrix.from_dense(np.ones((2, 8), a)))


@pytest.mark.parametrize("k", [70000, 262140, 262141])
def test_sums_beyond_int32_are_refused_or_given_in_int64(k):
    """What int32 holds is given there, however heavy the row."""
    heavy = CSRMatrix.from_dense(np.stack([np.full(k, 127, np.int8), np.eye(1, k, k - 1, np.int8)[0]]))
    for x in (np.zeros((1, k), np.uint8), np.full((1, k), -128, np.int8), np.full((3, k), 255, np.uint8)):
        exact = x.astype(np.int64) @ heavy.to_dense().T.astype(np.int64)
        assert (matmul_int8(x, heavy, dtype=np.int64) == exact).all()
        out = np.full(exact.shape, 7, np.int32)
        if abs(exact).max() < 2**31:
            assert (matmul_int8(x, heavy, out=out) == exact).all()
            continue
        message = rf"the result at \(0, 0\) is {exact[0, 0]}, which int32 cannot hold; ask"
        with pytest.raises(OverflowError, match=message):
            matmul_int8(x, heavy, out=out)
        assert (out == 7).all()


@pytest.mark.parametrize("m", [1, 5])
def test_sums_in_int64_are_those_in_int32(m):
    rng = np.random.default_rng(m)
    x, w = rng.integers(-128, 128, (m, 40), np.int8), rng.integers(-128, 128, (9, 40), np.int8)
    a, out = CSRMatrix.from_dense(w * (rng.random((9, 40)) < 0.3)), np.empty((m, 9), np.int64)
    assert matmul_int8(x, a, out=out) is out
    assert (out == matmul_int8(x, a)).all()
    with pytest.raises(ValueError, match="dtype is 'int16', expected one of 'int32', 'int64'"):
        matmul_int8(x, a, dtype="int16")
