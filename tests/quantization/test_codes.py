"""Quantize and dequantize: definition, special values, bad input."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycomp
from pycomp.quantization import (
    Linear,
    MinMax,
    QuantizedTensor,
    dequantize,
    fake_quantize,
    fake_quantize_backward,
    matmul_int8,
    onnx_ops,
    pack,
    quantize,
    quantize_multiplier,
    quantize_rows,
    requantize,
    requantize_fixed_point,
)

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=FINITE)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=FINITE)


@given(arrays, st.booleans(), st.sampled_from(["int8", "uint8"]), st.data())
def test_values_return_within_half_a_step(x, symmetric, dtype, data):
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    q = quantize(x, axis=axis, symmetric=symmetric, dtype=dtype)
    scale = q.scale if axis is None else q.scale.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    assert q.data.dtype == dtype
    assert q.data.shape == x.shape
    half = scale.astype(np.float64) * (0.5 if symmetric else 1.0) * (1 + 2.0**-14)
    assert (np.abs(q.dequantize().astype(np.float64) - x) <= half).all()


@given(matrices)
def test_channels_are_independent_and_axes_are_alike(x):
    q = quantize(x, axis=0)
    columns = quantize(np.ascontiguousarray(x.T), axis=1)
    assert columns.data.T.tobytes() == q.data.tobytes()
    assert columns.scale.tobytes() == q.scale.tobytes()
    for row, data, scale in zip(x, q.data, q.scale, strict=True):
        alone = quantize(row)
        assert alone.data.tobytes() == data.tobytes()
        assert alone.scale == scale


@given(matrices, st.booleans())
def test_given_scale_repeats_the_chosen_one(x, symmetric):
    chosen = quantize(x, axis=0, symmetric=symmetric)
    again = quantize(x, axis=0, scale=chosen.scale, zero_point=chosen.zero_point)
    assert again.data.tobytes() == chosen.data.tobytes()


def test_halves_go_to_even_after_a_true_division():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 7], np.float32)
    assert quantize(x, scale=1.0).data.tolist() == [0, 2, 2, 0, -2, 7]
    # 21/3 is exact, 21·float32(1/3) is not
    x = np.arange(-300, 300, dtype=np.float32) * np.float32(1.5)
    expected = np.clip(np.rint(x / np.float32(3)), -128, 127)
    assert (quantize(x, scale=3).data == expected).all()


@pytest.mark.parametrize("backend", ["native", "jit", "reference"])
def test_codes_of_ties_are_those_of_the_definition_on_every_backend(backend):
    """Quotients and products in float32, which are ties that those in float64 are not."""
    rng = np.random.default_rng(0)
    pycomp.set_backend(backend)
    try:
        for s in rng.uniform(0.005, 0.05, 20).astype(np.float32):
            x = (np.arange(-127, 127, dtype=np.float32) + np.float32(0.5)) * s
            codes = np.clip(np.rint(x / s), -128, 127)
            assert (quantize(x, scale=s).data == codes).all()
            assert (onnx_ops.quantize_linear(x, s, np.int8(0)) == codes).all()
            assert (fake_quantize(x, s) == codes.astype(np.float32) * s).all()
            acc, r = rng.integers(-(2**31), 2**31, 5000).astype(np.int32), np.float32(s * np.float32(2e-6))
            assert (requantize(acc, r) == np.clip(np.rint(acc.astype(np.float32) * r), -128, 127)).all()
            x = rng.standard_normal((9, 300), np.float32)
            own = np.abs(x).max(axis=1) / np.float32(127)
            codes, scale, _ = quantize_rows(x)
            assert (scale == own).all()
            assert (codes == np.rint(x / own[:, None])).all()
            w, y = rng.standard_normal((40, 9), np.float32), np.ascontiguousarray(x.T)
            fused = Linear(w, output_dtype="int8", output_scale=s)(y)
            assert (fused == quantize(Linear(w)(y), scale=s).data).all()
    finally:
        pycomp.set_backend(None)


def test_codes_beside_ties_are_those_of_the_quotient_whatever_the_scale():
    """Quotients that round to a half or to a float beside it; of 2 - 2^-23 two products, not a division, err."""
    rng = np.random.default_rng(0)
    left = np.arange(9).repeat(30)
    low = np.concatenate([left, -left, rng.integers(0, 2**15, 200), [-1, -2, 4]])
    significand = 2**23 | (rng.integers(0, 2**8, low.size) << 15) | (low % 2**15)
    significand[-3:] = 2**24 - 1, 2**24 - 2, 2**23 + 4
    scales = np.ldexp(significand, rng.integers(-90, 45, low.size) - 23).astype(np.float32)
    scales[-3] = 2 - 2.0**-23
    halves = np.arange(-130, 130) + 0.5
    for scale in scales:
        x = (halves * scale.astype(np.float64)).astype(np.float32)
        x = (x.view(np.int32)[:, None] + np.arange(-3, 4, dtype=np.int32)).view(np.float32)
        codes = np.clip(np.rint(x / scale), -128, 127)
        assert (quantize(x, scale=scale).data == codes).all(), scale
        assert (fake_quantize(x, scale) == codes.astype(np.float32) * scale).all(), scale
        codes = np.clip(np.rint(x / scale) + 128, 0, 255)
        assert (quantize(x, scale=scale, zero_point=128, dtype=np.uint8).data == codes).all(), scale
        column, zero = np.full(x.shape[1], scale), np.full(x.shape[1], 128)
        assert (quantize(x, axis=1, scale=column, zero_point=zero, dtype=np.uint8).data == codes).all(), scale


@pytest.mark.parametrize("size", [63, 64, 65, 130])
@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_whose_scale_divides_badly_have_the_codes_of_the_quotient(size, symmetric):
    """The largest of a row makes its scale 2 - 2^-23; the first is a little more than half of it, and rounds to 1."""
    scale = np.float32(2 - 2.0**-23)
    x = ((np.arange(size) % 100) + 0.5).astype(np.float32) * scale
    x[0], x[-2:] = 1, (scale * (127 if symmetric else 255), 0)
    codes, found, _ = quantize_rows(x[None], symmetric=symmetric)
    expected = np.rint(x / found[0])
    assert found[0] == scale
    assert expected[0] == 1
    assert (codes == expected).all()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("backend", ["native", "jit", "reference"])
def test_results_beyond_a_type_become_infinite_without_a_word(backend, kind):
    pytest.importorskip("ml_dtypes")
    layer = Linear(np.full((1, 1), 1e30, np.float32), output_dtype=kind)
    pycomp.set_backend(backend)
    try:
        with np.errstate(all="raise"):
            assert layer(np.full((1, 1), 1e9, np.float32)).astype(np.float32) == np.inf
    finally:
        pycomp.set_backend(None)


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_infinity_and_large_values_saturate(dtype, low, high):
    x = np.array([-np.inf, -3e38, 3e38, np.inf], np.float32)
    for zero in (low, high):
        q = quantize(x, scale=2.0**-126, zero_point=zero, dtype=dtype)
        assert q.data.tolist() == [low, low, high, high]


def test_extreme_magnitudes_keep_a_finite_scale():
    huge = np.float32(3.4e38)
    for symmetric in (True, False):
        q = quantize(np.array([-huge, huge], np.float32), symmetric=symmetric)
        assert np.isfinite(q.scale)
        tiny = quantize(np.array([2.0**-149, -(2.0**-149)], np.float32), symmetric=symmetric)
        assert tiny.scale == np.float32(2.0**-126)
        zeros = quantize(np.zeros(3, np.float32), symmetric=symmetric)
        assert zeros.scale == 1
        assert zeros.dequantize().tobytes() == bytes(12)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_row_that_is_not_finite_gets_scale_nan_and_zero_codes(symmetric, bad):
    for column in (0, 15, 16, 36):
        x = np.ones((3, 37), np.float32)
        x[1, column] = bad
        codes, scale, zero = quantize_rows(x, symmetric=symmetric)
        assert np.isnan(scale).tolist() == [False, True, False]
        assert not codes[1].any()
        assert zero.tolist() == [0, 0, 0]
        assert (codes[[0, 2]] == (127 if symmetric else 255)).all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), ()])
def test_empty_arrays_quantize(shape):
    q = quantize(np.zeros(shape, np.float32), axis=0 if len(shape) > 1 else None)
    assert q.dequantize().shape == shape


def test_input_is_not_changed_and_strides_do_not_matter():
    x = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    before = x.tobytes()
    for view in (x[::2, ::3], x.T, x[::-1], x[:, 3:17]):
        for axis in (None, 0, 1):
            assert quantize(view, axis=axis).data.tobytes() == quantize(view.copy(), axis=axis).data.tobytes()
        assert quantize_rows(view)[0].tobytes() == quantize_rows(view.copy())[0].tobytes()
    assert x.tobytes() == before


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quantize(X.astype(np.float64)), TypeError, "x has dtype float64"),
        (lambda: quantize(X.astype(">f4")), TypeError, "byte-swapped"),
        (lambda: quantize(np.ma.masked_array(X)), TypeError, "MaskedArray"),
        (lambda: quantize([[1.0]]), TypeError, "x is a list"),
        (lambda: quantize(X * np.float32(np.nan)), ValueError, "x holds NaN"),
        (lambda: quantize(X * np.float32(np.nan), scale=1.0), ValueError, "x holds NaN"),
        (lambda: quantize(X * np.float32(np.inf)), ValueError, "x holds infinity"),
        (lambda: quantize(X, scale=0.0), ValueError, "scale is 0.0"),
        (lambda: quantize(X, scale=-1), ValueError, "scale is -1.0"),
        (lambda: quantize(X, scale=np.nan), ValueError, "scale is nan"),
        (lambda: quantize(X, scale=np.inf), ValueError, "scale is inf"),
        (lambda: quantize(X, scale=1e-60), ValueError, "scale is 1e-60"),
        (lambda: quantize(X, scale=1e300), ValueError, "scale is 1e+300"),
        (lambda: quantize(X, scale=True), TypeError, "scale"),
        (lambda: quantize(X, scale=np.ones(2)), TypeError, "scale has dtype float64"),
        (lambda: quantize(X, scale=np.ones(2, np.float32)), ValueError, "scale has shape"),
        (lambda: quantize(X, axis=1, scale=np.ones(2, np.float32)), ValueError, "scale has shape"),
        (lambda: quantize(X, scale=1.0, zero_point=128), ValueError, "zero_point holds 128"),
        (lambda: quantize(X, scale=1.0, zero_point=-1, dtype="uint8"), ValueError, "zero_point holds -1"),
        (lambda: quantize(X, scale=1.0, zero_point=-128, narrow_range=True), ValueError, "holds -128, expected -127"),
        (lambda: quantize(X, scale=1.0, zero_point=0, narrow_range=True, dtype="uint8"), ValueError, "expected 1 to"),
        (lambda: quantize(X, scale=1.0, zero_point=0.5), TypeError, "zero_point is 0.5"),
        (lambda: quantize(X, scale=1, zero_point=2**70), ValueError, f"zero_point is {2**70}, expected integers from"),
        (lambda: quantize(X, zero_point=3), ValueError, "without scale"),
        (lambda: quantize(X, symmetric="no"), TypeError, "symmetric is 'no', expected True or False"),
        (lambda: quantize(X, narrow_range=7), TypeError, "narrow_range is 7"),
        (lambda: quantize(X, scale=1.0, narrow_range=7), TypeError, "narrow_range is 7"),
        (lambda: quantize(X, power_of_two=np.nan), TypeError, "power_of_two is nan"),
        (lambda: quantize_rows(X, symmetric=None), TypeError, "symmetric is None"),
        (lambda: fake_quantize(X, 1.0, narrow_range=2**40), TypeError, "narrow_range is 1099511627776"),
        (lambda: quantize(X, dtype=[]), TypeError, "dtype is [], expected one of 'int8', 'uint8'"),
        (lambda: Linear(X, output_dtype=[]), TypeError, "output_dtype is [], expected one of 'float32',"),
        (lambda: quantize(X, axis=2), ValueError, "axis is 2"),
        (lambda: quantize(X, axis=0.0), TypeError, "axis is 0.0"),
        (lambda: quantize(X, dtype="int16"), ValueError, "dtype is 'int16'"),
        (lambda: quantize_rows(X[0, 0]), ValueError, "x has 0 dimensions"),
        (lambda: dequantize(X), TypeError, "expected a QuantizedTensor"),
        (lambda: QuantizedTensor(X, X[0, 0], np.int32(0)), TypeError, "data"),
        (lambda: QuantizedTensor(CODES.astype(">i4"), 1.0, 0), TypeError, "data has dtype int32 (byte-swapped), exp"),
        *((lambda x=x: quantize(x), ValueError, message) for x, message in (
            (np.array([[0, 1], [np.inf, np.nan]], np.float32), "x holds NaN, first at (1, 1)"),
            (np.array([[0, 1], [-np.inf, 3]], np.float32), "x holds infinity, first at (1, 0), which needs a scale"))),
        *((lambda call=call: call(np.array([[[0, np.inf], [2, np.nan]]], np.float32)), ValueError,
           "x holds NaN, first at (0, 1, 1)") for call in (
            lambda x: quantize(x, scale=1), lambda x: quantize(x, axis=2, scale=1),
            lambda x: fake_quantize(x, 1.0), lambda x: fake_quantize_backward(x, x, 1.0, axis=2))),
        (lambda: _tensor(scale=np.float32(0)), ValueError, "scale holds 0.0"),
        (lambda: _tensor(scale=np.ones(2, np.float32)), ValueError, "scale"),
        (lambda: _tensor(zero_point=np.array(300, np.int32)), ValueError, "zero_point holds 300"),
        (lambda: _tensor(zero_point=True), TypeError, "zero_point is True"),
        (lambda: QuantizedTensor(np.zeros((2, 3), np.int8), True, 0), TypeError, "scale is a bool"),
        (lambda: QuantizedTensor(np.zeros((2, 3), np.int8), 0.5, 0.5), TypeError, "zero_point is 0.5"),
        (lambda: QuantizedTensor(np.zeros((2, 3), np.int8), 1e-40, 0), ValueError, "scale is 1e-40, expected"),
        (lambda: QuantizedTensor(np.zeros((2, 3), np.int8), np.ones(3, np.float32), 0, 0), ValueError, "scale has"),
        (lambda: quantize(X, scale=1, axis=0, zero_point=[0, 10**30]), ValueError, f"zero_point holds {10**30}"),
        (lambda: _tensor(bits=4), ValueError, "bits is 4, expected 8"),
        (lambda: _tensor(bits=np.array([8, 8])), TypeError, "bits is array([8, 8]), expected an integer"),
        (lambda: _tensor(axis=-9), ValueError, "axis is -9, expected from -2 to 1"),
        (lambda: QuantizedTensor(np.zeros((), np.int8), 1.0, 0, axis=0), ValueError, "data has no dimensions"),
        (lambda: QuantizedTensor.from_dict(None), TypeError, "arrays is a NoneType, expected a mapping from names to"),
        (lambda: _tensor(axis=5), ValueError, "axis is 5"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


ACC = np.ones((2, 3), np.int32)
CODES, ZEROS = ACC.astype(np.int8), np.zeros(2, np.int32)
WITH_SCALE = [
    lambda s: quantize(X, scale=s, axis=1),
    lambda s: fake_quantize(X, s, axis=1),
    lambda s: fake_quantize_backward(X, X, s, axis=1),
    lambda s: requantize(ACC, s),
    lambda s: QuantizedTensor(CODES, s, np.zeros(3, np.int32), 1),
]
WITH_INTEGERS = [
    ("zero_point", lambda z: quantize(X, scale=1.0, zero_point=z, axis=1)),
    ("zero_point", lambda z: fake_quantize(X, 1.0, z, axis=1)),
    ("zero_point", lambda z: requantize(ACC, 1.0, z)),
    ("multiplier", lambda z: requantize_fixed_point(ACC, z, 0)),
    ("shift", lambda z: requantize_fixed_point(ACC, 2**30, z)),
    ("a_zero_point", lambda z: matmul_int8(CODES.T, CODES, a_zero_point=z)),
    ("b_zero_point", lambda z: matmul_int8(CODES, pack(CODES), b_zero_point=z)),
    ("real", quantize_multiplier),
]
MASKED = np.ma.masked_array([1, 1, 1], [0, 1, 0])


@pytest.mark.parametrize("call", WITH_SCALE)
@pytest.mark.parametrize(("scale", "given"), [
    (MASKED.astype(np.float32), "MaskedArray"), (np.ma.masked, "MaskedConstant"), ([1.0, 2.0, 3.0], "list"),
    ([1.0, [2.0, 3.0]], "list"), ("1", "str"),
])
def test_a_scale_that_is_no_number_or_plain_array_is_refused(call, scale, given):
    with pytest.raises(TypeError, match=rf"^scale is a {given}, expected .*float32.*$"):
        call(scale)


@pytest.mark.parametrize(("name", "call"), WITH_INTEGERS)
@pytest.mark.parametrize(("value", "error", "message"), [
    (MASKED, TypeError, "is a MaskedArray, expected"),
    ([1, [2, 3]], ValueError, "is a list of unequal parts, expected"),
    (["1", "2", "3"], TypeError, "holds str, expected"),
    ([b"1", b"2", b"3"], TypeError, "holds bytes, expected"),
    (np.array([1, 2, 3], object), TypeError, "holds object, expected"),
    ([[None] * 40] * 40, TypeError, "holds None, expected"),
    (True, TypeError, "is True, expected"),
    (2**70, ValueError, f"is {2**70}, expected"),
])
def test_what_makes_no_array_of_numbers_is_refused_by_name(name, call, value, error, message):
    with pytest.raises(error, match=rf"^{name} {message} (a plain array of )?(integers|numbers).*$"):
        call(value)


def test_small_arrays_are_copied_and_codes_are_not():
    scale, zero = np.ones(2, np.float32), np.zeros(2, np.int32)
    q = QuantizedTensor(CODES, scale, zero, 0)
    assert np.shares_memory(q.data, CODES)
    layers = [quantize(X, scale=scale, zero_point=zero, axis=0), q]
    scale[:], zero[:] = 5, 5
    for made in layers:
        assert (made.scale == 1).all()
        assert not made.zero_point.any()


@pytest.mark.parametrize("remade", [lambda q: q, pickle.dumps, copy.copy, copy.deepcopy], ids=range(4))
@pytest.mark.parametrize("make", [
    lambda: quantize(X), lambda: quantize(X, axis=0), lambda: quantize(X, group_size=3, symmetric=False),
    lambda: quantize(X, axis=1, scale=np.ones(3, np.float32), zero_point=3),
    lambda: QuantizedTensor(CODES, 0.5, 1), lambda: QuantizedTensor(CODES, np.ones(2, np.float32), ZEROS, 0),
])
def test_what_was_checked_of_a_tensor_cannot_be_written_to(make, remade):
    made = make()
    q = remade(made)
    q = pickle.loads(q) if isinstance(q, bytes) else q
    for a, b in ((q.scale, made.scale), (q.zero_point, made.zero_point)):
        assert (a == b).all()
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 3
    assert (q.dequantize() == made.dequantize()).all()
    assert (q.axis, q.group_size, q.bits) == (made.axis, made.group_size, made.bits)


def test_a_shape_or_dtype_that_somebody_sets_is_not_the_tensors():
    codes = np.ones((4, 6), np.int8)
    given = QuantizedTensor(codes, np.arange(1, 5, dtype=np.float32), 0, axis=0)
    made = quantize(np.ones((4, 6), np.float32), axis=0, out=codes)
    codes.shape = (24,)
    for q in (given, made):
        for array in (q.data, q.scale, q.zero_point):
            array.shape = (2, 2) if array.size == 4 else (24,)
            array.dtype = np.uint8
        assert (q.shape, q.data.dtype, q.scale.shape, q.zero_point.shape) == ((4, 6), np.int8, (4,), (4,))
        assert q.dequantize().shape == (4, 6)


def test_the_numbers_of_a_tensor_are_plain_integers():
    scale, zero = np.ones((2, 1), np.float32), np.zeros((2, 1), np.int32)
    q = QuantizedTensor(CODES, scale, zero, np.int64(1), np.int8(3), np.uint8(8))
    assert [(type(n), n) for n in (q.axis, q.group_size, q.bits)] == [(int, 1), (int, 3), (int, 8)]


def test_a_tensor_takes_one_number_for_all_and_axes_from_the_last():
    q = QuantizedTensor(CODES, 0.5, 3, axis=-1)
    assert (q.axis, q.scale.tolist(), q.zero_point.tolist()) == (1, [0.5] * 3, [3] * 3)
    q = QuantizedTensor(CODES, np.array([1, 2], np.float32), np.array([4, 5], np.int8), axis=0)
    assert (q.zero_point.dtype, q.zero_point.tolist()) == (np.int32, [4, 5])


def test_the_shape_of_a_tensor_stays_when_that_of_the_array_changes():
    data = np.zeros((4, 6), np.int8)
    q = QuantizedTensor(data, np.ones(4, np.float32), 0, 0)
    data.resize((24, 1), refcheck=False)
    assert q.dequantize().shape == q.shape == (4, 6)


def test_a_dtype_is_given_by_name_type_or_dtype():
    for make in (np.dtype, lambda name: np.dtype(name).type, str):
        for name in ("int8", "uint8"):
            kind, seen = make(name), MinMax()
            seen.update(X)
            assert quantize(X, dtype=kind).data.dtype == name
            assert requantize(ACC, 1.0, dtype=kind).dtype == name
            assert requantize_fixed_point(ACC, 2**30, 0, dtype=kind).dtype == name
            assert (fake_quantize(-X, 1.0, dtype=kind) == (-1 if name == "int8" else 0)).all()
            assert seen.scale_and_zero_point(dtype=kind) == seen.scale_and_zero_point(dtype=name)
            assert onnx_ops.quantize_linear(X, X[0, 0], output_dtype=kind).dtype == name
            layer = Linear(X, input_scale=1.0, input_dtype=kind, output_dtype=kind, output_scale=1.0)
            assert layer(X).dtype == name
        for name in ("float32", "float16"):
            assert Linear(X, output_dtype=make(name))(X).dtype == name
            assert onnx_ops.dequantize_linear(CODES, X[0, 0], output_dtype=make(name)).dtype == name
        for name in ("int32", "int64"):
            assert matmul_int8(CODES, CODES.T, dtype=make(name)).dtype == name
    half = pytest.importorskip("ml_dtypes").bfloat16
    for kind in (half, np.dtype(half), "bfloat16"):
        assert Linear(X, output_dtype=kind)(X).dtype == half
        assert onnx_ops.dequantize_linear(CODES, X[0, 0], output_dtype=kind).dtype == half


@pytest.mark.parametrize("options", [{}, {"weight_only": True}, {"input_scale": np.array(0.5, np.float32)}])
def test_a_layer_does_not_follow_arrays_that_change(options):
    bias = np.array([1, 2], np.float32)
    layer = Linear(X, bias, **options)
    expected = layer(X)
    for a in (bias, options.get("input_scale", bias)):
        a[...] = 9
    assert (layer(X) == expected).all()


def _tensor(**changes):
    fields = {"data": np.zeros((2, 3), np.int8), "scale": np.ones((), np.float32), "zero_point": np.zeros((), np.int32)}
    fields.update(changes)
    fields["scale"] = np.asarray(fields["scale"])
    return QuantizedTensor(**fields)


@given(st.lists(matrices, min_size=1, max_size=5), st.randoms())
def test_observer_does_not_depend_on_split_or_order(parts, random):
    whole = MinMax()
    for part in parts:
        whole.update(part)
    random.shuffle(parts)
    merged = MinMax()
    for part in parts:
        one = MinMax()
        one.update(part)
        merged.merge(one)
    assert (merged.min, merged.max) == (whole.min, whole.max)
    values = np.concatenate([part.ravel() for part in parts])
    for symmetric in (True, False):
        for dtype in ("int8", "uint8"):
            q = quantize(values, symmetric=symmetric, dtype=dtype)
            assert merged.scale_and_zero_point(symmetric=symmetric, dtype=dtype) == (float(q.scale), int(q.zero_point))


def test_observer_refuses_nothing_seen_and_values_that_are_not_finite():
    seen = MinMax()
    seen.update(np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="no values were seen"):
        seen.scale_and_zero_point()
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            seen.update(np.array([1, bad], np.float32))
    with pytest.raises(TypeError, match="float64"):
        seen.update(np.ones(3))
    with pytest.raises(TypeError, match="MinMax"):
        seen.merge(3)
