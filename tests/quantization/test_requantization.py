"""int32 sums back to codes: both definitions, as plain Python has them, and bad input."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pycomp.quantization import quantize_multiplier, requantize, requantize_fixed_point

F32 = np.float32
INT32 = st.integers(-(2**31), 2**31 - 1)
DTYPES = st.sampled_from(["int8", "uint8"])
sums = hnp.arrays(np.int32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20),
                  elements=st.integers(-1000, 1000) | INT32)


def saturating_rounding_doubling_high_mul(a, b):
    """gemmlowp's, with C's division, which truncates."""
    if a == b == -(2**31):
        return 2**31 - 1
    total = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return total // 2**31 if total >= 0 else -(-total // 2**31)


def rounding_divide_by_pot(x, exponent):
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def multiply_by_quantized_multiplier(x, multiplier, shift):
    x = min(max(x << max(shift, 0), -(2**31)), 2**31 - 1)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x, multiplier), max(-shift, 0))


def channels(data, acc, values):
    """One value or one a channel of an axis; the axis, and the values against acc."""
    axis = data.draw(st.integers(-acc.ndim, acc.ndim - 1)) if acc.ndim else -1
    if not acc.ndim or data.draw(st.booleans()):
        value = data.draw(values)
        return axis, value, np.full(acc.shape, value)
    given_values = np.array(data.draw(st.lists(values, min_size=acc.shape[axis], max_size=acc.shape[axis])))
    shape = [-1 if d == axis % acc.ndim else 1 for d in range(acc.ndim)]
    return axis, given_values, np.broadcast_to(given_values.reshape(shape), acc.shape)


@given(sums, DTYPES, st.data())
@settings(deadline=None)
def test_float_scale_rounds_sum_then_product_then_to_even(acc, dtype, data):
    limits = np.iinfo(dtype)
    axis, scale, scales = channels(data, acc, st.floats(2.0**-20, 4, width=32))
    zero = data.draw(st.integers(limits.min, limits.max))
    scale = np.asarray(scale, F32) if np.ndim(scale) else scale
    y = requantize(acc, scale, zero, axis=axis, dtype=dtype)
    r = np.rint(acc.astype(F32) * scales.astype(F32)).astype(np.float64)
    assert y.dtype == dtype
    assert y.shape == acc.shape
    assert (y == np.clip(r + zero, limits.min, limits.max)).all()


@given(sums, DTYPES, st.data())
@settings(deadline=None)
def test_fixed_point_is_gemmlowps_definition(acc, dtype, data):
    limits = np.iinfo(dtype)
    axis, pair, pairs = channels(data, acc, st.integers(0, 2**24))
    def parts(packed):  # a multiplier and a shift drawn as one number
        packed = np.asarray(packed, np.int64)
        return 2**30 + (packed * 64) % 2**30, packed % 62 - 31
    multiplier, shift = parts(pair)
    zero = data.draw(st.integers(limits.min, limits.max))
    y = requantize_fixed_point(acc, multiplier, shift, zero, axis=axis, dtype=dtype)
    multipliers, shifts = parts(pairs)
    for code, a, m, s in zip(y.flat, acc.flat, np.ravel(multipliers), np.ravel(shifts), strict=True):
        exact = multiply_by_quantized_multiplier(int(a), int(m), int(s)) + zero
        assert code == min(max(exact, limits.min), limits.max)


@pytest.mark.parametrize("shift", [-31, -30, -3, -1, 0, 1, 30])
@pytest.mark.parametrize("multiplier", [0, 2**30, 2**30 + 1, 2**31 - 1])
def test_fixed_point_at_the_ends_of_int32(multiplier, shift):
    acc = np.array([0, 1, -1, 2, -2, 3, -3, 4, 5, -5, 2**30, -(2**30), 2**31 - 1, -(2**31)] * 3, np.int32)
    expected = [multiply_by_quantized_multiplier(int(a), multiplier, shift) for a in acc]
    assert (requantize_fixed_point(acc, multiplier, shift) == np.clip(expected, -128, 127)).all()


@given(st.floats(0, 2.0**30, exclude_max=True, allow_subnormal=True))
@example(1 - 2.0**-53)
@example(2.0**-32)
@example(math.nextafter(2.0**-32, 0))
@example(0.0)
def test_multiplier_is_within_half_a_unit(real):
    if round(real) == 2**30:  # rounds to what has no multiplier
        with pytest.raises(ValueError, match="rounds to 2³⁰"):
            quantize_multiplier(real)
        return
    multiplier, shift = quantize_multiplier(real)
    assert type(multiplier) is type(shift) is int
    if real < 2.0**-32 * (1 - 2.0**-32):
        assert (multiplier, shift) == (0, 0)
        return
    assert 2**30 <= multiplier < 2**31
    assert -31 <= shift <= 30
    assert abs(math.ldexp(multiplier, shift - 31) - real) <= math.ldexp(0.5, shift - 31)


def test_multipliers_of_an_array_are_those_of_its_numbers():
    numbers = np.array([[0.1, 3.5], [1e-12, 1e6]])
    multiplier, shift = quantize_multiplier(numbers)
    assert multiplier.dtype == shift.dtype == np.int32
    pairs = [quantize_multiplier(float(n)) for n in numbers.flat]
    assert list(zip(multiplier.ravel(), shift.ravel(), strict=True)) == pairs


@given(sums, st.floats(2.0**-12, 2))
@settings(deadline=None)
def test_both_ways_agree_within_one(acc, scale):
    acc = np.asarray(acc // 2**8, np.int32)
    a, b = requantize(acc, scale), requantize_fixed_point(acc, *quantize_multiplier(float(F32(scale))))
    assert (np.abs(a.astype(int) - b) <= 1).all()


def test_out_and_strides():
    acc = np.random.default_rng(0).integers(-500, 500, (40, 300)).astype(np.int32)
    out = np.empty((300, 40), np.uint8)
    scale = np.linspace(0.1, 1, 300, dtype=F32)
    assert requantize(acc.T, scale, 3, axis=0, dtype="uint8", out=out) is out
    assert (requantize(acc, scale, 3, dtype="uint8") == out.T).all()
    whole = requantize(np.tile(acc, (2, 1)), 0.5)  # more than one row of the matrix that one scale is laid out as
    assert (whole == np.clip(np.rint(np.tile(acc, (2, 1)) * 0.5), -128, 127)).all()


ACC = np.ones((2, 3), np.int32)
SHARED = np.zeros(64, np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: requantize(ACC.astype(np.int64), 1.0), TypeError, "acc has dtype int64"),
        (lambda: requantize([1], 1.0), TypeError, "acc is a list"),
        (lambda: requantize(ACC, 0.0), ValueError, "scale is 0.0"),
        (lambda: requantize(ACC, -1.0), ValueError, "scale is -1.0"),
        (lambda: requantize(ACC, np.nan), ValueError, "scale is nan"),
        (lambda: requantize(ACC, np.inf), ValueError, "scale is inf"),
        (lambda: requantize(ACC, 1e-40), ValueError, "at least 2⁻¹²⁶"),
        (lambda: requantize(ACC, np.ones(3)), TypeError, "scale has dtype float64"),
        (lambda: requantize(ACC, np.ones(2, F32)), ValueError, "scale has shape (2,)"),
        (lambda: requantize(ACC, 1.0, 128), ValueError, "zero_point holds 128"),
        (lambda: requantize(ACC, 1.0, -1, dtype="uint8"), ValueError, "zero_point holds -1"),
        (lambda: requantize(ACC, 1.0, dtype="int16"), ValueError, "dtype is 'int16'"),
        (lambda: requantize(ACC, 1.0, axis=2), ValueError, "axis is 2"),
        (lambda: requantize(ACC, 1.0, axis=None), TypeError, "axis is None"),
        (lambda: requantize(ACC, 1.0, out=np.empty((2, 3), np.uint8)), TypeError, "out has dtype"),
        (lambda: requantize(ACC, 1.0, out=np.empty((3, 2), np.int8)), ValueError, "out has shape"),
        (lambda: requantize(SHARED[:24].view(np.int32), 1.0, out=SHARED[20:26].view(np.int8)), ValueError,
         "out overlaps an input"),
        (lambda: requantize_fixed_point(ACC, 2**31, 0), ValueError, "multiplier holds 2147483648"),
        (lambda: requantize_fixed_point(ACC, 2**30 - 1, 0), ValueError, "multiplier holds 1073741823, expected 2³⁰"),
        (lambda: requantize_fixed_point(ACC, -1, 0), ValueError, "multiplier holds -1"),
        (lambda: requantize_fixed_point(ACC, 0.5, 0), TypeError, "multiplier is 0.5"),
        (lambda: requantize_fixed_point(ACC, 2**30, -32), ValueError, "shift holds -32"),
        (lambda: requantize_fixed_point(ACC, 2**30, 31), ValueError, "shift holds 31"),
        (lambda: requantize_fixed_point(ACC, 2**30, [1, 2]), ValueError, "shift has shape (2,)"),
        (lambda: requantize_fixed_point(ACC, 2**30, 0, 200), ValueError, "zero_point holds 200"),
        (lambda: quantize_multiplier(-1), ValueError, "real holds -1.0"),
        (lambda: quantize_multiplier(np.nan), ValueError, "real holds nan"),
        (lambda: quantize_multiplier(2**30), ValueError, "real holds 1073741824.0"),
        (lambda: quantize_multiplier("1"), TypeError, "real is '1'"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_changes_nothing(call, error, message):
    before = SHARED.tobytes()
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SHARED.tobytes() == before


def test_a_scalar_has_one_channel():
    acc = np.array(5, np.int32)
    for codes in (requantize(acc, np.array([0.4], np.float32)), requantize(acc, 0.4, [0]),
                  requantize_fixed_point(acc, *quantize_multiplier([0.4]))):
        assert codes.shape == ()
        assert codes == 2
