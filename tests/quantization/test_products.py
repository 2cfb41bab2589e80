"""Exact integer products and the quantized layer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp.kernels import dispatch, native
from pycomp.quantization import Linear, MinMax, matmul_int8, pack, quantize, quantize_rows

DTYPES = st.sampled_from([np.int8, np.uint8])


def codes(rng, shape, dtype, extreme):
    limits = np.iinfo(dtype)
    if extreme:
        return rng.choice(np.array([limits.min, limits.max], dtype), shape)
    return rng.integers(limits.min, limits.max + 1, shape, dtype)


def zeros(rng, dtype, length):
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, length)


SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(0, 20), st.integers(0, 140), st.integers(0, 70), DTYPES, DTYPES, st.booleans(), SEEDS)
@settings(deadline=None)
def test_product_is_exact_for_every_dtype_and_zero_point(m, k, n, a_dtype, b_dtype, extreme, seed):
    rng = np.random.default_rng(seed)
    a, b = codes(rng, (m, k), a_dtype, extreme), codes(rng, (k, n), b_dtype, extreme)
    za, zb = zeros(rng, a_dtype, m), zeros(rng, b_dtype, n)
    exact = (a.astype(np.int64) - za[:, None]) @ (b.astype(np.int64) - zb)
    assert (matmul_int8(a, b, a_zero_point=za, b_zero_point=zb) == exact).all()
    assert (matmul_int8(a, b) == a.astype(np.int64) @ b.astype(np.int64)).all()
    assert (matmul_int8(a, pack(b.T)) == a.astype(np.int64) @ b.astype(np.int64)).all()


@pytest.mark.parametrize(
    ("backend", "k"),
    [*((b, k) for b in ("native", "jit") for k in (33025, 33026, 65793, 65794, 131080)), ("reference", 33026)],
)
def test_sums_at_the_edge_of_int32_are_exact_or_refused(backend, k):
    """The largest products, cut back one by one until the sum just fits."""
    pycomp.set_backend(backend)
    try:
        for dtype, value, za, zb in ((np.uint8, 255, 0, -128), (np.uint8, 0, 255, 0), (np.int8, -128, 127, 127)):
            weight = np.int8(127 if zb < 0 else -128)
            term = (int(value) - za) * (int(weight) - zb)
            a, b = np.full((2, k), value, dtype), np.full((k, 19), weight, np.int8)
            most = (2**31 - 1 if term > 0 else 2**31) // abs(term)
            a[:, most:] = za
            got = matmul_int8(a, b, a_zero_point=za, b_zero_point=zb)
            assert (got == min(k, most) * term).all()
            if k > most:
                a[1, most] = value
                with pytest.raises(OverflowError, match="outside int32"):
                    matmul_int8(a, b, a_zero_point=za, b_zero_point=zb)
    finally:
        pycomp.set_backend(None)


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
def test_long_sums_agree_on_every_level(level):
    rng = np.random.default_rng(1)
    k, n = 70001, 35
    pycomp.set_isa(level)
    try:
        for m in (1, 3, 9):
            a, b = codes(rng, (m, k), np.int8, False), codes(rng, (k, n), np.int8, False)
            za, zb = zeros(rng, np.int8, m), zeros(rng, np.int8, n)
            exact = (a.astype(np.int64) - za[:, None]) @ (b.astype(np.int64) - zb)
            assert (matmul_int8(a, b, a_zero_point=za, b_zero_point=zb) == exact).all()
            scale = np.full(m, 0.5, np.float32)
            y = np.empty((m, n), np.float32)
            w = pack(b.T)
            packed = (w.data, w.column_sums, w.scale, None)
            dispatch.gemm_s8s8_f32(a, scale, za.astype(np.int32), *packed, None, None, 0, y)
            exact = (a.astype(np.int64) - za[:, None]) @ b.astype(np.int64)
            assert (y == exact.astype(np.float32) * np.float32(0.5)).all()
    finally:
        pycomp.set_isa(None)


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
def test_panels_whose_sums_wait_for_the_next_block_are_exact(level):
    """More rows than wait together, more blocks than one, and columns that end within a vector."""
    m, k, n = 300, 2060, 250
    rng = np.random.default_rng(0)
    b, zb = codes(rng, (k, n), np.int8, False), zeros(rng, np.int8, n)
    pycomp.set_isa(level)
    try:
        for dtype in (np.uint8, np.int8):
            a, za = codes(rng, (m, k), dtype, False), zeros(rng, dtype, m)
            plain = a.astype(np.float64) @ b  # float64 holds such sums exactly
            assert (matmul_int8(a, b) == plain).all()
            exact = (a.astype(np.float64) - za[:, None]) @ (b.astype(np.float64) - zb)
            assert (matmul_int8(a, b, a_zero_point=za, b_zero_point=zb) == exact).all()
    finally:
        pycomp.set_isa(None)


def test_out_takes_rows_apart_and_is_returned():
    a, b = np.ones((3, 5), np.int8), np.ones((5, 18), np.int8)
    wide = np.full((3, 40), -1, np.int32)
    out = wide[:, 2:20]
    assert matmul_int8(a, b, out=out) is out
    assert (out == 5).all()
    assert (wide[:, :2] == -1).all()
    assert (wide[:, 20:] == -1).all()
    assert (matmul_int8(a.T[::2].T, b[::2]) == 3).all()


def test_packed_matrix_unpacks():
    rng = np.random.default_rng(2)
    w = codes(rng, (19, 7), np.int8, False)
    packed = pack(w)
    assert (packed.unpack() == w).all()
    assert packed.shape == (19, 7)
    assert (packed.column_sums == w.sum(axis=1)).all()
    unsigned = pack(w.view(np.uint8) ^ np.uint8(128))
    assert unsigned.data.tobytes() == packed.data.tobytes()
    assert (unsigned.zero_point == -128).all()


@given(st.integers(0, 20), st.integers(0, 70), st.integers(0, 40), st.sampled_from(["int8", "uint8"]), st.booleans(),
       SEEDS)
@settings(deadline=None)
def test_every_output_is_the_float32_result_rounded_once_more(m, k, n, kind, dynamic, seed):
    """Fused equals unfused, bit for bit."""
    rng = np.random.default_rng(seed)
    w, x = (rng.standard_normal(s).astype(np.float32) for s in ((n, k), (m, k)))
    bias, residual = rng.standard_normal(n).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32)
    given = {"activation": "relu"} | ({} if dynamic else {"input_scale": 0.02, "input_dtype": kind})
    plain = Linear(w, bias, **given)(x)
    added = Linear(w, bias, **(given | {"activation": None}))(x) + residual
    y = np.maximum(added, np.float32(0))
    assert (plain == np.maximum(Linear(w, bias, **(given | {"activation": None}))(x), 0)).all()
    assert (Linear(w, bias, **given)(x, residual=residual) == y).all()
    half = Linear(w, bias, output_dtype="float16", **given)(x, residual=residual)
    assert half.dtype == np.float16
    assert (half == y.astype(np.float16)).all()
    codes = Linear(w, bias, output_dtype=kind, output_scale=0.05, **given)(x, residual=residual)
    expected = quantize(y, scale=0.05, dtype=kind).data
    assert codes.dtype == expected.dtype
    assert (codes == expected).all()


def test_bfloat16_is_the_float32_result_rounded_once_more():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(3)
    w, x = (rng.standard_normal(s).astype(np.float32) for s in ((33, 50), (9, 50)))
    y = Linear(w, output_dtype="bfloat16")(x)
    assert y.dtype == ml_dtypes.bfloat16
    assert (y == Linear(w)(x).astype(ml_dtypes.bfloat16)).all()


def test_large_results_become_infinite_in_half_precision_and_saturate_as_codes():
    w, x = np.full((1, 4), 300, np.float32), np.array([[300] * 4, [-300] * 4], np.float32)
    assert Linear(w, output_dtype="float16")(x).tolist() == [[np.inf], [-np.inf]]
    assert Linear(w, output_dtype="uint8", output_scale=1)(x).tolist() == [[255], [0]]


A, B = np.ones((2, 3), np.int8), np.ones((3, 4), np.int8)
PACKED = pack(B.T)
W = np.ones((4, 3), np.float32)
X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: matmul_int8(A.astype(np.int16), B), TypeError, "a has dtype int16, expected int8 or uint8"),
        (lambda: matmul_int8(A, B.astype(np.float32)), TypeError, "b has dtype float32"),
        (lambda: matmul_int8(A.tolist(), B), TypeError, "a is a list"),
        (lambda: matmul_int8(A[0], B), ValueError, "a has 1 dimensions"),
        (lambda: matmul_int8(A, A), ValueError, "a has 3 columns, b has 2 rows"),
        (lambda: matmul_int8(A, B, a_zero_point=128), ValueError, "a_zero_point holds 128"),
        (lambda: matmul_int8(A, B, a_zero_point=[1, 2, 3]), ValueError, "a_zero_point has shape (3,)"),
        (lambda: matmul_int8(A, B, b_zero_point=0.0), TypeError, "b_zero_point"),
        (lambda: matmul_int8(A, PACKED, b_zero_point=1), ValueError, "has its own"),
        (lambda: matmul_int8(A, B, out=np.empty((2, 4))), TypeError, "out has dtype"),
        (lambda: matmul_int8(A, B, out=np.empty((2, 3), np.int32)), ValueError, "out has shape"),
        (lambda: pack(W), TypeError, "q has dtype float32"),
        (lambda: pack(quantize(W, axis=1)), ValueError, "axis 1"),
        (lambda: replace(PACKED, data=PACKED.data[:, :, :8]), ValueError, "data has shape"),
        (lambda: replace(PACKED, in_features=5), ValueError, "data has shape"),
        (lambda: replace(PACKED, scale=PACKED.scale[:3]), ValueError, "scale has shape"),
        (lambda: replace(PACKED, scale=-PACKED.scale), ValueError, "scale holds -1"),
        (lambda: replace(PACKED, zero_point=np.full(4, 128, np.int32)), ValueError, "zero_point holds 128"),
        (lambda: Linear(W.astype(np.float64)), TypeError, "weight has dtype float64"),
        (lambda: Linear(W * np.float32(np.nan)), ValueError, "NaN"),
        (lambda: Linear(W, X[0]), ValueError, "bias has 3 elements"),
        (lambda: Linear(W, activation="swish"), ValueError, "activation is 'swish'"),
        (lambda: Linear(W, output_dtype="int16"), ValueError, "output_dtype is 'int16'"),
        (lambda: Linear(W, output_dtype="int8"), ValueError, "needs output_scale"),
        (lambda: Linear(W, output_dtype="int8", output_scale=-1), ValueError, "output_scale holds -1"),
        (lambda: Linear(W, output_dtype="int8", output_scale=1, output_zero_point=128), ValueError, "holds 128"),
        (lambda: Linear(W, output_scale=1), ValueError, "output_dtype is 'float32'"),
        (lambda: Linear(W)(X, residual=X), ValueError, "residual has shape"),
        (lambda: Linear(W)(X, residual=X.astype(np.float64)), TypeError, "residual has dtype float64"),
        (lambda: Linear(W, output_dtype="int8", output_scale=1)(X * np.float32(np.nan)), ValueError, "output is NaN"),
        (lambda: Linear(W, input_scale=0), ValueError, "input_scale holds 0.0"),
        (lambda: Linear(W, input_scale=np.nan), ValueError, "input_scale holds nan"),
        (lambda: Linear(W, input_scale=1.0, input_zero_point=200), ValueError, "input_zero_point holds 200"),
        (lambda: Linear(W, input_zero_point=0), ValueError, "without input_scale"),
        (lambda: Linear(W, input_scale=1.0, input_dtype="float"), ValueError, "input_dtype"),
        (lambda: Linear(W)(X.astype(np.float16)), TypeError, "x has dtype float16"),
        (lambda: Linear(W)(X[:, :2]), ValueError, "x has 2 columns, weight has 3"),
        (lambda: Linear(W)(X, out=np.empty((2, 4))), TypeError, "out has dtype"),
        (lambda: Linear(W, input_scale=1.0)(X * np.float32(np.nan)), ValueError, "x holds NaN"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overlapping_out_is_refused():
    buffer = np.zeros(64, np.int32)
    with pytest.raises(ValueError, match="overlaps"):
        matmul_int8(buffer.view(np.int8)[:6].reshape(2, 3), B, out=buffer[:8].reshape(2, 4))
    buffer = np.zeros(64, np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        Linear(W)(buffer[:6].reshape(2, 3), out=buffer[4:12].reshape(2, 4))


@given(st.integers(1, 12), st.integers(1, 80), st.integers(1, 40), st.booleans(), SEEDS)
@settings(deadline=None)
def test_layer_is_near_the_float_product(m, k, n, dynamic, seed):
    """Half a step of x and of w an element, and the epilogue's roundings."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
    bias = rng.standard_normal(n).astype(np.float32)
    seen = MinMax()
    seen.update(x)
    scale, zero = seen.scale_and_zero_point()
    layer = Linear(w, bias) if dynamic else Linear(w, bias, input_scale=scale, input_zero_point=zero)
    step = quantize_rows(x, symmetric=False)[1][:, None] if dynamic else scale
    exact = x.astype(np.float64) @ w.T.astype(np.float64) + bias
    sw = np.abs(w).max(axis=1) / 127
    x_error, w_error = np.broadcast_to(np.asarray(step, np.float64) * 1.001, (m, 1)), sw * 0.501
    bound = x_error * np.abs(w).sum(axis=1) + w_error * np.abs(x).sum(axis=1, keepdims=True) + k * x_error * w_error
    assert (np.abs(layer(x) - exact) <= bound + 1e-5).all()


def test_row_that_is_not_finite_gives_nan_and_spares_the_others():
    x = np.random.default_rng(3).standard_normal((5, 40)).astype(np.float32)
    w = np.random.default_rng(4).standard_normal((20, 40)).astype(np.float32)
    for activation in (None, "relu"):
        layer = Linear(w, activation=activation)
        clean = layer(x)
        for bad in (np.nan, np.inf, -np.inf):
            spoiled = x.copy()
            spoiled[2, 7] = bad
            got = layer(spoiled)
            assert np.isnan(got[2]).all()
            assert got[[0, 1, 3, 4]].tobytes() == clean[[0, 1, 3, 4]].tobytes()


def test_no_inputs_gives_the_activated_bias():
    bias = np.array([-1, 0, 2], np.float32)
    layer = Linear(np.zeros((3, 0), np.float32), bias, activation="relu")
    assert layer(np.zeros((2, 0), np.float32)).tolist() == [[0, 0, 2]] * 2
    assert Linear(np.zeros((0, 3), np.float32))(np.zeros((2, 3), np.float32)).shape == (2, 0)


def test_zero_products_without_bias_are_plus_zero():
    y = Linear(-np.ones((3, 4), np.float32))(np.zeros((2, 4), np.float32))
    assert y.tobytes() == bytes(24)
