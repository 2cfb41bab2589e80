"""Exact integer products and the quantized layer."""

import copy
import importlib.util
import itertools
import pickle
import time
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import pycomp
from pycomp import _validate
from pycomp.kernels import dispatch, native
from pycomp.quantization import (
    Linear,
    MinMax,
    QuantizedTensor,
    matmul_int8,
    pack,
    pack_groups,
    product,
    quantize,
    quantize_rows,
)

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


@pytest.mark.parametrize("n", [16, 19, 65])
@pytest.mark.parametrize(
    ("backend", "k"),
    [*((b, k) for b in ("jit", *(name for name, usable in native.levels().items() if usable))
       for k in (33025, 33026, 65793, 65794, 131080)), ("reference", 33026)],
)
def test_sums_at_the_edge_of_int32_are_exact_or_refused(backend, k, n):
    """The largest products, cut back one by one until the sum just fits: on every level of the native backend."""
    if backend in ("jit", "reference"):
        pycomp.set_backend(backend)
    else:
        pycomp.set_isa(backend)
    try:
        for dtype, value, za, weight, zb in (
            (np.uint8, 255, 0, np.int8(127), -128), (np.uint8, 0, 255, np.int8(-128), 0),
            (np.int8, -128, 127, np.int8(-128), 127), (np.uint8, 255, 0, np.uint8(255), 0),
            (np.int8, 127, -128, np.uint8(0), 255),
        ):
            term = (int(value) - za) * (int(weight) - zb)
            a, b = np.full((2, k), value, dtype), np.full((k, n), weight)
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
        pycomp.set_isa(None)


@pytest.mark.parametrize("k", [0, 3, 33023, 33024, 33025, 40001, 66049])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_sums_of_any_length_are_exact_in_int64(k, dtype):
    rng = np.random.default_rng(k)
    a, b = codes(rng, (3, k), dtype, True), codes(rng, (k, 18), dtype, False)
    a[0], b[:, 0] = np.iinfo(dtype).max, np.iinfo(dtype).max
    za, zb = zeros(rng, dtype, 3), zeros(rng, dtype, 18)
    za[0] = zb[0] = np.iinfo(dtype).min
    plain = a.astype(np.float64) @ b  # float64 holds such sums exactly
    exact = (a.astype(np.float64) - za[:, None]) @ (b.astype(np.float64) - zb)
    got = matmul_int8(a, b, a_zero_point=za, b_zero_point=zb, dtype=np.int64)
    assert got.dtype == np.int64
    assert (got == exact).all()
    out = np.full((18, 6), -1, np.int64).T[::2]
    assert matmul_int8(a, pack(b.T), out=out) is out
    assert (out == plain).all()


def test_a_sum_outside_int32_says_how_long_it_is_and_what_helps():
    a, b = np.full((1, 40000), 255, np.uint8), np.full((40000, 1), 127, np.int8)
    a[:, 39000:] = 0
    zero = {"a_zero_point": 0, "b_zero_point": -128}
    message = "a sum of K = 40000 products is outside int32, which K of at most 33025 never is"
    with pytest.raises(OverflowError, match=f"{message}; ask matmul_int8 for dtype=np.int64"):
        matmul_int8(a, b, **zero)


OUTPUT_DTYPES = ["float32", "float16", "int8", "uint8",
                 *(["bfloat16"] if importlib.util.find_spec("ml_dtypes") else [])]


@given(st.integers(0, 9), st.integers(0, 70), st.integers(0, 40), DTYPES, st.booleans(), st.booleans(), st.booleans(),
       st.sampled_from(OUTPUT_DTYPES), st.sampled_from([None, "relu", "gelu", "gelu_tanh", "silu"]), SEEDS)
@settings(deadline=None)
def test_a_layer_has_the_same_bits_from_sums_in_int64(m, k, n, dtype, zeroed, biased, added, output, activation, seed):
    rng = np.random.default_rng(seed)
    w = QuantizedTensor(codes(rng, (n, k), np.int8, False), rng.uniform(1e-3, 1, n).astype(np.float32),
                        (zeros(rng, np.int8, n) * zeroed).astype(np.int32), 0)
    x, scale = codes(rng, (m, k), dtype, False), (10.0 ** rng.uniform(-45, 30, m)).astype(np.float32)
    zero = zeros(rng, dtype, m).astype(np.int32) * zeroed
    scale = np.where(rng.random(m) < 0.7, np.float32(0.01), np.maximum(scale, np.float32(2.0**-126)))
    bias = rng.choice(np.array([-0.0, 0, 1, -1e-40, 3e38], np.float32), n) if biased else None
    residual = rng.standard_normal((m, n), np.float32) if added else None
    grid = {"output_scale": 0.3, "output_zero_point": 5} if "int" in output else {}
    layer = Linear(w, bias, activation=activation, output_dtype=output, **grid)
    expected = layer(QuantizedTensor(x, scale, zero, 0), residual=residual)
    y = np.empty((m, n + 3), expected.dtype)[:, :n] if not grid else np.empty((m, n), expected.dtype)
    layer._fill_from_long_sums(x, scale, zero, residual, y)
    assert y.tobytes() == expected.tobytes()


@pytest.mark.parametrize("backend", ["native", "jit", "reference"])
@pytest.mark.parametrize("options", [{}, {"input_scale": 0.01}, {"output_dtype": "float16"},
                                     {"output_dtype": "int8", "output_scale": 9e5}], ids=str)
def test_a_row_whose_sums_leave_int32_is_right_and_spares_the_others(backend, options):
    rng = np.random.default_rng(9)
    k, w = 70_000, np.ones((3, 70_000), np.float32)
    w[1], w[2, ::2] = -1, 0.5
    x = rng.standard_normal((5, k), np.float32)
    x[1], x[3] = 1, 1.27
    quiet, loud = [0, 2, 4], [1, 3]
    layer = Linear(w, np.array([-0.0, 1, 2], np.float32), **options)
    pycomp.set_backend(backend)
    try:
        y = layer(x)
        if backend != "reference":  # which rounds a float64 result
            assert y[quiet].tobytes() == layer(x[quiet]).tobytes()
        out = np.empty((3, 5), y.dtype).T
        assert layer(x, out=out) is out
        assert out.tobytes() == y.tobytes()
    finally:
        pycomp.set_backend(None)
    if "output_dtype" in options:
        plain = Linear(w, np.array([-0.0, 1, 2], np.float32))(x)
        with np.errstate(over="ignore"):
            expected = plain.astype(np.float16) if y.dtype == np.float16 else quantize(plain, scale=9e5).data
        assert (y == expected).all()
    else:
        exact = x[loud].astype(np.float64) @ quantize(w, axis=0).dequantize().T.astype(np.float64) + np.array([0, 1, 2])
        assert (np.abs(y[loud] - exact) <= 8 * 2.0**-24 * np.abs(exact)).all()  # 1 and 1.27 have codes of their own


def test_no_row_of_a_layer_makes_the_others_fail_where_codes_cannot_express_nan():
    w, x = np.ones((2, 70_000), np.float32), np.ones((2, 70_000), np.float32)
    x[1, 0] = np.nan
    layer, out = Linear(w, output_dtype="int8", output_scale=1.0), np.full((2, 2), -1, np.int8)
    residual = np.array([[0, 0], [0, np.nan]], np.float32)
    for operands in ({"x": x}, {"x": quantize(np.nan_to_num(x)), "residual": residual}):
        with pytest.raises(ValueError, match="an output is NaN, which codes cannot express"):
            layer(**operands, out=out)
        assert (out == -1).all()


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.usefixtures("at_level")
def test_long_sums_agree_on_every_level():
    rng = np.random.default_rng(1)
    k, n = 70001, 35
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


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.parametrize(("m", "k", "n"), [(300, 2060, 250), (70, 9000, 35), (9, 60001, 17)])
@pytest.mark.usefixtures("at_level")
def test_more_rows_than_are_copied_at_a_time_are_exact(m, k, n):
    """And columns that end within a vector."""
    rng = np.random.default_rng(0)
    b, zb = codes(rng, (k, n), np.int8, False), zeros(rng, np.int8, n)
    for dtype in (np.uint8, np.int8):
        a, za = codes(rng, (m, k), dtype, False), zeros(rng, dtype, m)
        plain = a.astype(np.float64) @ b  # float64 holds such sums exactly
        assert (matmul_int8(a, b) == plain).all()
        assert (matmul_int8(a, pack(b.T)) == plain).all()
        exact = (a.astype(np.float64) - za[:, None]) @ (b.astype(np.float64) - zb)
        assert (matmul_int8(a, b, a_zero_point=za, b_zero_point=zb) == exact).all()
        q = QuantizedTensor(b.T, np.ones(n, np.float32), zb.astype(np.int32), 0)
        assert (matmul_int8(a, pack(q), a_zero_point=za) == exact).all()


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.parametrize(("m", "k", "n"), [(20, 256, 192), (23, 259, 201), (47, 700, 192), (48, 257, 208),
                                           (49, 1025, 209), (66, 1300, 385), (257, 260, 193), (60, 1030, 1500)])
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.usefixtures("at_level")
def test_products_of_sums_of_codes_are_exact(m, k, n, extreme):
    """Where rows, inputs and columns are enough: odd ones of each, several steps of k, and the largest sums; the last
    has columns enough for three threads."""
    rng = np.random.default_rng(m)
    b, zb = codes(rng, (k, n), np.int8, extreme), zeros(rng, np.int8, n).astype(np.int32)
    w, moved = pack(b.T), pack(QuantizedTensor(b.T, np.ones(n, np.float32), zb, 0))
    for dtype, threads in itertools.product((np.uint8, np.int8), (1, 3)):
        a, za = codes(rng, (m, k), dtype, extreme), zeros(rng, dtype, m)
        plain = a.astype(np.float64) @ b  # float64 holds such sums exactly
        exact = (a.astype(np.float64) - za[:, None]) @ (b.astype(np.float64) - zb)
        with pycomp.threads(threads):
            assert (matmul_int8(a, w) == plain).all()
            assert (matmul_int8(a, b) == plain).all()
            assert (matmul_int8(a, moved, a_zero_point=za) == exact).all()
            for rows in (a[:-1], np.pad(a, ((0, 0), (5, 1)))[:, 5:-1]):
                assert (matmul_int8(rows, w) == plain[: len(rows)]).all()


@pytest.fixture(scope="module")
def large():
    """Codes and zero points of few rows and of weights that no cache keeps, and both products of them."""
    rng = np.random.default_rng(0)
    a, b = codes(rng, (61, 5501), np.uint8, False), codes(rng, (5501, 2322), np.int8, False)
    za, zb = zeros(rng, np.uint8, 61), zeros(rng, np.int8, 2322).astype(np.int32)
    plain = a.astype(np.float64) @ b
    shifted = plain - np.outer(a.sum(axis=1), zb) - np.outer(za, b.sum(axis=0)) + 5501 * np.outer(za, zb)
    moved = QuantizedTensor(b.T, np.ones(2322, np.float32), zb, 0)
    return a, za, pack(b.T), pack(moved), plain, shifted


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.usefixtures("at_level")
def test_few_rows_of_weights_larger_than_caches_are_exact(large):
    """Sums that wait between blocks of inputs, in one panel of rows to eight, for integers and floats."""
    a, za, packed, moved, plain, shifted = large
    sums, scale = packed.column_sums.astype(np.float64), np.ldexp(np.float32(1), np.arange(61) % 5)
    less, signed = plain - np.outer(za, sums), plain - (a >= 128).astype(np.float64) @ packed.unpack().T * 256
    for m, threads in itertools.product((1, 2, 5, 7, 12, 29, 61), (1, 3)):
        with pycomp.threads(threads):
            assert (matmul_int8(a[:m], packed) == plain[:m]).all()
            assert (matmul_int8(a[:m].view(np.int8), packed) == signed[:m]).all()
            assert (matmul_int8(a[:m], packed, a_zero_point=za[:m]) == less[:m]).all()
            assert (matmul_int8(a[:m], moved, a_zero_point=za[:m]) == shifted[:m]).all()
            for zero, exact in (None, plain), (za[:m].astype(np.int32), less):
                y = np.empty((m, 2322), np.float32)
                dispatch.gemm_u8s8_f32(
                    a[:m], scale[:m], zero, packed.data, packed.column_sums, packed.scale, None, None, None, 0, y)
                assert (y == exact[:m].astype(np.float32) * scale[:m, None]).all()


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.usefixtures("at_level")
def test_few_rows_of_threads_that_begin_within_a_strip_are_exact():
    """Three of them share 500 columns by sixteens, and each has more weights than L2 keeps."""
    rng = np.random.default_rng(0)
    a, b = codes(rng, (12, 10000), np.uint8, False), codes(rng, (10000, 500), np.int8, False)
    with pycomp.threads(3):
        assert (matmul_int8(a, pack(b.T)) == a.astype(np.float64) @ b).all()


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.parametrize("options", [{}, {"input_scale": 0.02}, {"input_scale": 0.02, "input_dtype": "uint8"}])
@pytest.mark.usefixtures("at_level")
def test_a_layer_that_multiplies_for_long_gives_rows_the_bits_they_have_alone(options):
    """It may quantize by another level, for 280 x 700 x 700 is above 2^27 multiply-adds; a row by itself does not."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((280, 700), np.float32), rng.standard_normal((700, 700), np.float32)
    layer = Linear(w, **options)
    with pycomp.threads(1):
        assert layer(x).tobytes() == np.concatenate([layer(x[i : i + 1]) for i in range(280)]).tobytes()


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.parametrize(("pair", "at", "column"), [
    ((127, -128), 0, 0), ((127, 2), 0, 0), ((2, 127), 36, 50), ((-127, -2), 68, 96), ((-128, -1), 68, 47),
    ((-1, -128), 34, 48)])
@pytest.mark.usefixtures("at_level")
def test_weights_whose_pairs_barely_fit_16_bits_are_exact(pair, at, column):
    """255 times weights that add up to 128 is below 2^15, to 129 above; the pair that does may lie anywhere."""
    rng = np.random.default_rng(0)
    first = rng.integers(-128, 129, (35, 97))
    second = (128 - np.abs(first)) * rng.choice([-1, 1], first.shape)
    second[first == 128], first[first == 128] = 1, 127
    w = np.stack([first, second], axis=1).reshape(70, 97)
    w[at : at + 2, column] = pair
    w = w.astype(np.int8)
    for low, high, dtype in ((0, 255, np.uint8), (-128, 127, np.int8)):
        x = rng.choice(np.array([low, high], dtype), (200, 70))
        x[::3], x[1::3] = low, high
        zx, zw = zeros(rng, dtype, 200), zeros(rng, np.int8, 97).astype(np.int32)
        moved = pack(QuantizedTensor(w.T, np.ones(97, np.float32), zw, 0))
        for m, threads in itertools.product((15, 16, 200), (1, 3)):
            with pycomp.threads(threads):
                assert (matmul_int8(x[:m], w) == x[:m].astype(np.int64) @ w).all()
                y = matmul_int8(x[:m], moved, a_zero_point=zx[:m])
            assert (y == (x[:m].astype(np.int64) - zx[:m, None]) @ (w.astype(np.int64) - zw)).all()


STRIDED = {
    "rows": lambda b: b,
    "columns": np.asfortranarray,
    "every other row": lambda b: np.repeat(b, 2, axis=0)[::2],
    "every other column": lambda b: np.repeat(b, 2, axis=1)[:, ::2],
    "backwards": lambda b: b[::-1, ::-1].copy()[::-1, ::-1],
    "rows backwards": lambda b: b[::-1].copy()[::-1],
    "columns backwards": lambda b: b[:, ::-1].copy("F")[:, ::-1],
    "wide rows": lambda b: np.pad(b, ((0, 0), (3, 10)))[:, 3:-10],
}


@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1031, 4250), (3, 30, 70), (4, 514, 1100), (5, 515, 1700),
                                           (32, 1200, 780), (33, 1027, 820), (40, 2050, 600), (600, 700, 17)])
@pytest.mark.usefixtures("at_level")
def test_plain_matrices_are_exact_around_the_edges_of_blocks(m, k, n):
    """Of rows, columns and inputs that are packed at a time, at any strides, on one thread and on three."""
    rng = np.random.default_rng(m)
    for a_dtype, b_dtype in itertools.product(*[(np.uint8, np.int8)] * 2):
        a, b = codes(rng, (m, k), a_dtype, False), codes(rng, (k, n), b_dtype, False)
        za, zb = zeros(rng, a_dtype, m), zeros(rng, b_dtype, n)
        plain = a.astype(np.float64) @ b  # float64 holds such sums exactly
        shifted = (a.astype(np.float64) - za[:, None]) @ (b.astype(np.float64) - zb)
        only_a = plain - za[:, None] * b.sum(axis=0, dtype=np.float64)
        only_b = plain - a.sum(axis=1, dtype=np.float64)[:, None] * zb
        for threads, turn in itertools.product((1, 3), STRIDED.values()):
            with pycomp.threads(threads):
                assert (matmul_int8(a, turn(b)) == plain).all()
                assert (matmul_int8(a, turn(b), b_zero_point=zb) == only_b).all()
                assert (matmul_int8(a, turn(b), a_zero_point=za) == only_a).all()
                assert (matmul_int8(a, turn(b), a_zero_point=za, b_zero_point=zb) == shifted).all()


@given(st.data(), DTYPES, DTYPES, st.sampled_from([np.int32, np.int64]), st.booleans(), SEEDS)
@settings(deadline=None)
def test_vectors_and_stacks_are_taken_as_numpy_takes_them(stacks, data, a_dtype, b_dtype, dtype, zeroed, seed):
    rng, shapes = np.random.default_rng(seed), data.draw(stacks)
    a, b = (codes(rng, shape, kind, False) for shape, kind in zip(shapes, (a_dtype, b_dtype), strict=True))
    if zeroed:  # one a row or column of a matrix, else one
        za = zeros(rng, a_dtype, a.shape[0] if a.ndim == 2 else ())
        zb = zeros(rng, b_dtype, b.shape[1] if b.ndim == 2 else ())
    else:
        za, zb = 0, 0
    exact = (a.astype(np.int64) - (za[:, None] if np.ndim(za) else za)) @ (b.astype(np.int64) - zb)
    y = matmul_int8(a, b, a_zero_point=za, b_zero_point=zb, dtype=dtype)
    assert (type(y), y.dtype, y.shape) == (np.ndarray, dtype, exact.shape)
    assert (y == exact).all()
    out = np.full(exact.shape[::-1], -1, dtype).T
    assert matmul_int8(a, b, a_zero_point=za, b_zero_point=zb, out=out) is out
    assert (out == exact).all()
    if b.ndim == 2:
        za = za if a.ndim == 2 else int(za)
        packed = matmul_int8(a, pack(b.T), a_zero_point=za, dtype=dtype)
        exact = (a.astype(np.int64) - (za[:, None] if np.ndim(za) else za)) @ b.astype(np.int64)
        assert packed.shape == exact.shape
        assert (packed == exact).all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("m", "k", "n"), [
    (2, 3, 4), (3, 0, 2), (1, 8192, 1), (1, 8193, 1), (16, 32, 16), (17, 32, 16),
])
def test_stacks_of_matrices_around_the_size_that_numpy_multiplies_are_exact(m, k, n, dtype, monkeypatch):
    used = []
    fill = product._fill_sums
    monkeypatch.setattr(product, "_fill_sums", lambda *given: (used.append(given), fill(*given)))
    for left, right in itertools.product((np.int8, np.uint8), repeat=2):
        low, high = np.iinfo(left).min, np.iinfo(right).max
        a, b = np.full((5, 1, m, k), low, left), np.full((3, k, n), high, right)
        a_zero, b_zero = np.iinfo(left).max, np.iinfo(right).min
        out = np.empty((5, 3, m, n), dtype)
        assert matmul_int8(a, b, a_zero_point=a_zero, b_zero_point=b_zero, out=out) is out
        assert (out == -255 * 255 * k).all()
        assert (matmul_int8(a, b, dtype=dtype) == low * high * k).all()
    assert bool(used) == (m * k * n > 8192)


def test_a_result_without_elements_takes_no_time():
    a, b, long, wide = (np.broadcast_to(np.int8(0), shape) for shape in (
        (10**7, 0, 3), (10**7, 3, 100), (0, 2**40), (2**40, 3)))
    begun = time.perf_counter()
    assert matmul_int8(a, b).shape == (10**7, 0, 100)
    assert matmul_int8(long, wide, dtype=np.int64).shape == (0, 3)
    assert time.perf_counter() - begun < 5


def test_sums_of_stacks_outside_int32_are_refused_or_in_int64():
    a, b = np.full((2, 1, 40_000), 255, np.uint8), np.full(40_000, 255, np.uint8)
    assert (matmul_int8(a, b, dtype="int64") == 255 * 255 * 40_000).all()
    for right in (b, np.stack([b[:, None]] * 2)):
        with pytest.raises(OverflowError, match="a sum of K = 40000 products is outside int32"):
            matmul_int8(a, right)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(2, 40_000), (2, 1, 40_000), (40_000,)])
def test_a_sum_outside_int32_leaves_out_as_it_was(shape, packed):
    a, b = np.full(shape, 255, np.uint8), np.full((40_000, 3), 255, np.uint8)
    if a.ndim > 1:
        a[0] = 0  # whose sums fit
    out = np.full((*shape[:-1], 3), -1, np.int32)
    with pytest.raises(OverflowError, match="outside int32"):
        matmul_int8(a, pack(b.T) if packed else b, out=out)
    assert (out == -1).all()


def test_out_takes_rows_apart_and_is_returned():
    a, b = np.ones((3, 5), np.int8), np.ones((5, 18), np.int8)
    wide = np.full((3, 40), -1, np.int32)
    out = wide[:, 2:20]
    assert matmul_int8(a, b, out=out) is out
    assert (out == 5).all()
    assert (wide[:, :2] == -1).all()
    assert (wide[:, 20:] == -1).all()
    assert (matmul_int8(a.T[::2].T, b[::2]) == 3).all()


@pytest.mark.parametrize("options", [{}, {"input_scale": 0.5}, {"weight_only": True}])
def test_the_bias_of_a_layer_can_be_set_and_is_checked(options):
    layer = Linear(np.eye(3, dtype=np.float32), **options)
    bias = np.array([1, 2, 3], np.float32)
    layer.bias = bias
    bias[:] = 0
    assert (layer(np.zeros((1, 3), np.float32)) == [1, 2, 3]).all()
    for wrong, error in ((bias[:2], ValueError), (bias.astype(float), TypeError), ([1, 2, 3], TypeError)):
        with pytest.raises(error, match="bias"):
            layer.bias = wrong
    layer.bias.shape = 3, 1
    assert layer.bias.shape == (3,)
    layer.bias = None
    assert (layer(np.zeros((1, 3), np.float32)) == 0).all()
    with pytest.raises(AttributeError, match="weight"):
        layer.weight = Linear(np.eye(4, dtype=np.float32)).weight


@pytest.mark.parametrize("options", [{}, {"weight_only": True}])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_the_bias_of_a_layer_changes_in_no_other_way(options, copied):
    layer = Linear(np.eye(3, dtype=np.float32), np.ones(3, np.float32), **options)
    for one in (layer, copied(layer)):
        with pytest.raises(ValueError, match="read-only"):
            one.bias[:] = 5
    x = np.zeros((1, 3), np.float32)
    assert (layer(x) == 1).all()
    one = copied(layer)
    assert (one(x) == 1).all()
    one.bias = np.full(3, 2, np.float32)
    assert (one(x) == 2).all()
    assert (layer(x) == 1).all()


class Named(Linear):
    __slots__ = ("name",)


class Noted(Linear):
    pass


@pytest.mark.parametrize("kind", [Named, Noted])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_of_a_kind_of_layer_of_ones_own(kind, copied):
    layer = kind(np.eye(3, dtype=np.float32), np.ones(3, np.float32))
    layer.name = "mine"
    x = np.zeros((1, 3), np.float32)
    layer(x)
    assert copied(layer).name == "mine"
    assert (copied(layer)(x) == 1).all()


def test_a_bias_that_is_set_during_a_call_is_that_of_the_next(monkeypatch):
    layer, x = Linear(np.eye(3, dtype=np.float32), np.ones(3, np.float32)), np.zeros((1, 3), np.float32)

    class Late(dispatch.Holding):
        def __init__(self, kernel, **held):
            layer.bias = np.full(3, 2, np.float32)  # by another thread
            super().__init__(kernel, **held)

    with monkeypatch.context() as patch:
        patch.setattr(pycomp.quantization.linear, "Holding", Late)
        assert (layer(x) == 1).all()
    assert (layer(x) == 2).all()


@pytest.mark.parametrize("pack_by", [pack, pack_groups])
@pytest.mark.parametrize("remade", [
    lambda p: p, copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)),
    lambda p: replace(p, **{name: a.copy() for name, a in vars(p).items() if isinstance(a, np.ndarray)}),
])
def test_what_was_checked_of_a_packed_matrix_cannot_be_written_to(pack_by, remade):
    w = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    made = pack_by(quantize(w, axis=0, symmetric=False))
    packed = remade(made)
    for name, array in vars(made).items():
        if isinstance(array, np.ndarray):
            a = getattr(packed, name)
            assert (a == array).all()
            with pytest.raises(ValueError, match="read-only"):
                a[...] = 3
    assert (Linear(packed)(w) == Linear(made)(w)).all()


def test_a_packed_matrix_does_not_follow_arrays_that_change_and_its_pickle_is_checked():
    packed = pack(np.ones((3, 5), np.int8))
    sums = packed.column_sums.copy()
    again = replace(packed, column_sums=sums)
    sums[:] = 777
    assert again.column_sums.tolist() == [5, 5, 5]
    groups = pack_groups(quantize(np.ones((3, 4), np.float32)))
    for p, name in ((packed, "column_sums"), (groups, "scale")):
        p = copy.copy(p)
        vars(p)[name] = 0 * vars(p)[name]
        content = pickle.dumps(p)
        with pytest.raises(ValueError, match=name):
            pickle.loads(content)


def test_sums_of_a_packed_matrix_are_checked():
    with pytest.raises(ValueError, match=r"column_sums\[1\] is 6, expected the sum of its codes 5"):
        replace(pack(np.ones((3, 5), np.int8)), column_sums=np.array([5, 6, 7], np.int32))


@pytest.mark.parametrize(("at", "message"), [
    ((0, 1, 0, 2, 1), r"data holds 9 past the last of 5 inputs, expected 0"),
    ((0, 0, 0, 3, 0), r"data holds 9 past the last of 3 outputs, expected 0"),
])
def test_codes_past_the_last_are_zeros(at, message):
    """A signed x, moved by 128, would be multiplied by them."""
    packed = pack(np.ones((3, 5), np.int8))
    data, sums = packed.data.copy(), packed.column_sums.copy()
    data[at] = 9
    sums[at[3] :] += 9  # as if they counted
    with pytest.raises(ValueError, match=message):
        replace(packed, data=data, column_sums=sums)


@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (0, 0), (48, 4)])
def test_a_packed_matrix_of_any_shape_is_copied(shape):
    for packed in (pack(np.ones(shape, np.int8)), pack_groups(quantize(np.ones(shape, np.float32), axis=0))):
        for again in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            assert again.shape == shape
            assert (again.unpack() == packed.unpack()).all()


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


@given(st.integers(0, 20), st.integers(0, 70), st.integers(0, 40), st.sampled_from(["int8", "uint8"]),
       st.sampled_from(["dynamic", "static", "weight-only"]), SEEDS)
@settings(deadline=None)
def test_every_output_is_the_float32_result_rounded_once_more(m, k, n, kind, mode, seed):
    """Fused equals unfused, bit for bit."""
    rng = np.random.default_rng(seed)
    w, x = (rng.standard_normal(s).astype(np.float32) for s in ((n, k), (m, k)))
    bias, residual = rng.standard_normal(n).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32)
    given = {"activation": "relu"} | {"dynamic": {}, "static": {"input_scale": 0.02, "input_dtype": kind},
                                      "weight-only": {"weight_only": True}}[mode]
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


@pytest.mark.parametrize("options", [{}, {"weight_only": True, "group_size": 10}])
def test_bfloat16_is_the_float32_result_rounded_once_more(options):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(3)
    w, x = (rng.standard_normal(s).astype(np.float32) for s in ((33, 50), (9, 50)))
    y = Linear(w, output_dtype="bfloat16", **options)(x)
    assert y.dtype == ml_dtypes.bfloat16
    assert (y == Linear(w, **options)(x).astype(ml_dtypes.bfloat16)).all()


@pytest.mark.parametrize("output", [{"output_dtype": "float16"}, {"output_dtype": "int8", "output_scale": 0.5}])
def test_the_kernel_that_ran_last_is_the_product_not_what_its_result_ends_by(output):
    Linear(W, weight_only=True, **output)(X)
    assert pycomp.info(last=True)["kernel"] == "gemm_f32s8"


def test_large_results_become_infinite_in_half_precision_and_saturate_as_codes():
    w, x = np.full((1, 4), 300, np.float32), np.array([[300] * 4, [-300] * 4], np.float32)
    assert Linear(w, output_dtype="float16")(x).tolist() == [[np.inf], [-np.inf]]
    assert Linear(w, output_dtype="uint8", output_scale=1)(x).tolist() == [[255], [0]]


@given(st.integers(0, 9), st.integers(0, 70), st.integers(0, 20), st.booleans(), DTYPES, DTYPES, SEEDS)
@settings(deadline=None)
def test_codes_given_to_a_layer_are_multiplied_as_they_are(m, k, n, by_row, dtype, w_dtype, seed):
    rng = np.random.default_rng(seed)
    axis, length = (0, m) if by_row else (None, ())
    x = QuantizedTensor(codes(rng, (m, k), dtype, False), rng.uniform(0.01, 2, length).astype(np.float32),
                        np.asarray(zeros(rng, dtype, length), np.int32), axis)
    w = QuantizedTensor(codes(rng, (n, k), w_dtype, False), rng.uniform(0.01, 2, n).astype(np.float32),
                        zeros(rng, w_dtype, n).astype(np.int32), 0)
    zero = np.broadcast_to(x.zero_point, m)[:, None]
    sums = (x.data.astype(np.int64) - zero) @ (w.data.astype(np.int64) - w.zero_point[:, None]).T
    scale = np.broadcast_to(x.scale, m)[:, None] * w.scale
    exact = (sums.astype(np.float32).astype(np.float64) * scale).astype(np.float32)
    for layer in (Linear(w), Linear(w, input_scale=3.0, input_dtype="uint8", input_zero_point=7)):
        assert (layer(x) == exact).all()
    turned = QuantizedTensor(np.asfortranarray(x.data), x.scale, x.zero_point, x.axis)
    assert (Linear(w)(turned) == exact).all()


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("output", [{}, {"output_dtype": "float16"}, {"output_dtype": "uint8", "output_scale": 0.1}])
def test_codes_given_to_a_layer_give_the_bits_of_the_layer_that_makes_them(kind, output):
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((9, 65), np.float32), rng.standard_normal((33, 65), np.float32)
    options = {"bias": rng.standard_normal(33, np.float32), "activation": "gelu", **output}
    residual = rng.standard_normal((9, 33), np.float32)
    given = quantize(x, scale=0.03, zero_point=5, dtype=kind)
    static = Linear(w, input_scale=0.03, input_zero_point=5, input_dtype=kind, **options)
    layer = Linear(w, **options)
    assert layer(given, residual=residual).tobytes() == static(x, residual=residual).tobytes()
    by_rows = QuantizedTensor(*quantize_rows(x, symmetric=False), axis=0)
    assert layer(by_rows).tobytes() == layer(x).tobytes()


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_layers_of_codes_follow_each_other(kind):
    rng = np.random.default_rng(6)
    x, w, v = (rng.standard_normal(s, np.float32) for s in ((9, 40), (50, 40), (7, 50)))
    y = Linear(w, activation="relu", output_dtype=kind, output_scale=0.1, output_zero_point=3)(x)
    between = QuantizedTensor(y, 0.1, 3)
    second = Linear(v, input_scale=0.1, input_zero_point=3, input_dtype=kind)
    assert second(between).tobytes() == second(between.dequantize()).tobytes()


def test_a_layer_shows_its_size_and_how_it_computes():
    w = np.ones((4, 3), np.float32)
    static = {"input_scale": 1.0, "output_dtype": "int8", "output_scale": 1.0}
    for options, mode, output in (({}, "dynamic", "float32"), ({"weight_only": True}, "weight_only", "float32"),
                                  (static, "static", "int8")):
        expected = f"Linear(in_features=3, out_features=4, mode={mode!r}, output_dtype={output!r})"
        assert repr(Linear(w, **options)) == expected


class Foreign:
    """An array of another library: what NumPy makes of it, and a dtype that NumPy does not know."""

    dtype = "foreign"

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_arrays_of_other_libraries_are_taken_by_their_numpy_form():
    rng = np.random.default_rng(7)
    for dtype in (np.int8, np.uint8):
        a, b = codes(rng, (3, 5), dtype, False), codes(rng, (5, 4), dtype, False)
        assert (matmul_int8(Foreign(a), Foreign(b)) == matmul_int8(a, b)).all()
        q = QuantizedTensor(Foreign(a), Foreign(np.full(3, 0.5, np.float32)), Foreign(np.ones(3, np.int32)), 0)
        assert all(type(field) is np.ndarray for field in (q.data, q.scale, q.zero_point))
        assert (q.dequantize() == (a.astype(np.float32) - 1) / 2).all()
    q = quantize(rng.standard_normal((4, 8)).astype(np.float32), axis=0)
    for packed in (pack(q), pack_groups(q)):
        given = {f.name: getattr(packed, f.name) for f in fields(packed)}
        again = type(packed)(**{k: Foreign(v) if isinstance(v, np.ndarray) else v for k, v in given.items()})
        for name, value in given.items():
            assert type(getattr(again, name)) is type(value)
            assert value is None or np.array_equal(getattr(again, name), value)
    with pytest.raises(TypeError, match=r"^a has dtype float32, expected int8 or uint8$"):
        matmul_int8(Foreign(np.ones((3, 5), np.float32)), b)


A, B = np.ones((2, 3), np.int8), np.ones((3, 4), np.int8)
PACKED = pack(B.T)
CODES = QuantizedTensor(A, 1.0, 0)
W = np.ones((4, 3), np.float32)
X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: matmul_int8(A.astype(np.int16), B), TypeError, "a has dtype int16, expected int8 or uint8"),
        (lambda: matmul_int8(A, B.astype(np.float32)), TypeError, "b has dtype float32"),
        (lambda: matmul_int8(A.tolist(), B), TypeError, "a is a list"),
        (lambda: matmul_int8(np.array(1, np.int8), B), ValueError, "a has shape () and b has (3, 4), expected one"),
        (lambda: matmul_int8(np.array(1, np.int8), PACKED), ValueError, "a has shape (), expected one dimension"),
        (lambda: matmul_int8(A[0], A), ValueError, "a has 3 columns, b has 2 rows"),
        (lambda: matmul_int8(A[:, :2], PACKED), ValueError, "a has 2 columns, b has 3 rows"),
        (lambda: matmul_int8(A[0, :2], PACKED), ValueError, "a has 2 columns, b has 3 rows"),
        (lambda: matmul_int8(np.stack([A] * 3), np.stack([B] * 2)), ValueError, "which do not broadcast"),
        (lambda: matmul_int8(A[None], B, a_zero_point=[1, 2]), ValueError, "a_zero_point has shape (2,), expected ()"),
        (lambda: matmul_int8(A, B[None], b_zero_point=np.ones(4, int)), ValueError, "b_zero_point has shape (4,)"),
        (lambda: matmul_int8(A[0], B, out=np.empty((1, 4), np.int32)), ValueError, "out has shape (1, 4), expected"),
        (lambda: matmul_int8(A, A), ValueError, "a has 3 columns, b has 2 rows"),
        (lambda: matmul_int8(A, B, a_zero_point=128), ValueError, "a_zero_point holds 128"),
        (lambda: matmul_int8(A, B, a_zero_point=[1, 2, 3]), ValueError, "a_zero_point has shape (3,)"),
        (lambda: matmul_int8(A, B, b_zero_point=0.0), TypeError, "b_zero_point"),
        (lambda: matmul_int8(A, PACKED, b_zero_point=1), ValueError, "has its own"),
        (lambda: matmul_int8(A, B, out=np.empty((2, 4))), TypeError, "out has dtype"),
        (lambda: matmul_int8(A, B, out=np.empty((2, 3), np.int32)), ValueError, "out has shape"),
        (lambda: matmul_int8(A, B, dtype=np.int16), ValueError,
         "dtype is <class 'numpy.int16'>, expected one of 'int32', 'int64'"),
        (lambda: matmul_int8(A, B, dtype=np.array([[1], [2]])), TypeError, "dtype is array([[1], [2]]), expected one"),
        (lambda: matmul_int8(A, B, dtype=np.int64, out=np.empty((2, 4), np.int32)), TypeError, "out has dtype"),
        (lambda: pack(W), TypeError, "q has dtype float32"),
        (lambda: pack(quantize(W, axis=1)), ValueError, "q has shape (4, 3) and axis 1"),
        (lambda: pack(quantize(W, group_size=3)), ValueError, "q has group_size 3"),
        (lambda: Linear(quantize(W, axis=1)), ValueError, "weight has shape (4, 3) and axis 1"),
        (lambda: Linear(quantize(W[0])), ValueError, "weight has shape (3,) and axis None"),
        (lambda: Linear(quantize(W, axis=1), weight_only=True), ValueError, "weight has shape (4, 3), axis 1"),
        (lambda: pack_groups(quantize(W, axis=1)), ValueError, "q has shape (4, 3), axis 1"),
        (lambda: replace(PACKED, data=PACKED.data[:, :, :2]), ValueError, "data has shape"),
        (lambda: replace(PACKED, in_features=5), ValueError, "data has shape"),
        (lambda: replace(PACKED, scale=PACKED.scale[:3]), ValueError, "scale has shape"),
        (lambda: replace(PACKED, scale=-PACKED.scale), ValueError, "scale holds -1"),
        (lambda: replace(PACKED, zero_point=np.full(4, 128, np.int32)), ValueError, "zero_point holds 128"),
        (lambda: Linear(W.astype(np.float64)), TypeError, "weight has dtype float64"),
        (lambda: Linear(W * np.float32(np.nan)), ValueError, "weight holds NaN or infinity"),
        (lambda: Linear(W)(A), TypeError, "x has dtype int8, expected float32, or codes with their scale"),
        (lambda: Linear(W)(A), TypeError, ": QuantizedTensor(x, scale, zero_point)"),
        (lambda: Linear(W, weight_only=True)(A), TypeError, ": QuantizedTensor(x, scale, zero_point).dequantize()"),
        (lambda: Linear(W, weight_only=True)(CODES), TypeError, "a weight_only layer multiplies float32"),
        (lambda: Linear(A), TypeError, "weight has dtype int8, expected float32, or codes with their scale: "
                                       "QuantizedTensor(weight, scale, zero_point, axis=0)"),
        (lambda: Linear(W)(QuantizedTensor(A[:, :2], 1.0, 0)), ValueError, "x has 2 columns, weight has 3"),
        (lambda: Linear(W)(quantize(X, axis=1)), ValueError,
         "x has shape (2, 3), axis 1 and group_size None, expected one scale, one an index of the first"),
        (lambda: Linear(W)(quantize(X, group_size=1)), ValueError, "axis 1 and group_size 1"),
        (lambda: Linear(W)(quantize(X[0], axis=0)), ValueError, "x has shape (3,), axis 0 and group_size None"),
        (lambda: Linear(W, X[0]), ValueError, "bias has 3 elements"),
        (lambda: Linear(W, activation="swish"), ValueError, "activation is 'swish'"),
        (lambda: Linear(W, output_dtype="int16"), ValueError, "output_dtype is 'int16'"),
        (lambda: Linear(W, output_dtype="int8"), ValueError, "needs output_scale"),
        (lambda: Linear(W, output_dtype="int8", output_scale=-1), ValueError, "output_scale is -1"),
        (lambda: Linear(W, output_dtype="int8", output_scale=1, output_zero_point=128), ValueError, "holds 128"),
        (lambda: Linear(W, output_scale=1), ValueError, "output_dtype is 'float32'"),
        (lambda: Linear(W)(X, residual=X), ValueError, "residual has shape"),
        (lambda: Linear(W)(X, residual=X.astype(np.float64)), TypeError, "residual has dtype float64"),
        (lambda: Linear(W, output_dtype="int8", output_scale=1)(X * np.float32(np.nan)), ValueError, "output is NaN"),
        (lambda: Linear(W, input_scale=0), ValueError, "input_scale is 0.0"),
        (lambda: Linear(W, input_scale=np.nan), ValueError, "input_scale is nan"),
        (lambda: Linear(W, input_scale=1.0, input_zero_point=200), ValueError, "input_zero_point holds 200"),
        (lambda: Linear(W, input_zero_point=0), ValueError, "input_zero_point is given without input_scale"),
        (lambda: Linear(W, input_dtype="uint8"), ValueError, "input_dtype is given without input_scale"),
        (lambda: Linear(W, input_dtype="int8", weight_only=True), ValueError, "weight_only takes no input_scale,"),
        (lambda: Linear(W, output_dtype=np.float64), ValueError, "output_dtype is <class 'numpy.float64'>, expected"),
        (lambda: Linear(W, output_dtype=np.dtype(">f2")), ValueError, "output_dtype is dtype('>f2'), expected one of"),
        (lambda: Linear(W, output_dtype=None), TypeError, "output_dtype is None, expected one of 'float32', 'float16'"),
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


SQUARE, BYTES = np.ones((4, 4), np.float32), np.ones((4, 16), np.int8)


@pytest.mark.parametrize("call", [
    lambda: Linear(SQUARE)(SQUARE.T, out=SQUARE),
    lambda: Linear(SQUARE)(SQUARE.copy(), residual=SQUARE.T, out=SQUARE),
    lambda: Linear(SQUARE, weight_only=True)(SQUARE.T, out=SQUARE),
    lambda: Linear(SQUARE)(QuantizedTensor(BYTES.T[:4], 1.0, 0), out=BYTES.view(np.float32)),
    lambda: matmul_int8(BYTES.T[:4], BYTES[:, :4].copy(), out=BYTES.view(np.int32)),
    lambda: matmul_int8(BYTES[:, :4].copy(), BYTES.T[:4], out=BYTES.view(np.int32)),
    lambda: matmul_int8(BYTES.reshape(4, 4, 4)[0].T, BYTES[:, :4].copy()[None], out=BYTES.view(np.int32)[None]),
    lambda: matmul_int8(A, B, a_zero_point=(o := np.zeros((2, 4), np.int32))[:, 0], out=o),
    lambda: quantize(X, scale=1.0, zero_point=(o := np.zeros((2, 3), np.int8))[0, 0:1][0:1].reshape(()), out=o),
])
def test_out_over_an_input_that_was_copied_first_is_refused_and_not_changed(call):
    with pytest.raises(ValueError, match="out overlaps an input"):
        call()
    assert SQUARE.all()
    assert BYTES.all()


def test_arrays_whose_overlap_takes_long_to_find_count_as_overlapping():
    buffer = np.zeros(4_000_000, np.int8)
    out = as_strided(buffer, (6, 11, 10), (98275, 44157, 71698))
    x = as_strided(buffer[2:], (11, 8, 10), (71960, 73360, 45002))
    with pytest.raises(np.exceptions.TooHardError):
        np.shares_memory(out, x, max_work=_validate.OVERLAP_WORK)
    with pytest.raises(ValueError, match="out overlaps an input"):
        _validate.result(out, out.shape, out.dtype, (x,))


@pytest.mark.parametrize("m", [3, 300])
@pytest.mark.parametrize("options", [{}, {"weight_only": True}, {"input_scale": 0.02}])
def test_out_may_be_other_columns_of_the_buffer_that_holds_x(m, options):
    rng = np.random.default_rng(8)
    buffer, w = rng.standard_normal((m, 73), np.float32), rng.standard_normal((33, 40), np.float32)
    before, layer = buffer.copy(), Linear(w, **options)
    expected = layer(before[:, :40])
    layer(buffer[:, :40], out=buffer[:, 40:])
    assert (buffer[:, 40:] == expected).all()
    assert (buffer[:, :40] == before[:, :40]).all()
    with pytest.raises(ValueError, match="overlaps"):
        layer(buffer[:, :40], out=buffer[:, 39:72])
    assert (buffer[:, 40:] == expected).all()


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
