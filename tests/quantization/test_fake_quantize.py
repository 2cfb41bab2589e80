"""Fake quantization: the bits of the real one, and gradients against the formulas in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pycomp.quantization import fake_quantize, fake_quantize_backward, quantize

KINDS = {"int8": (-128, 127), "uint8": (0, 255)}
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=7),
                    elements=st.floats(-1000, 1000, width=32) | st.sampled_from([np.inf, -np.inf, 0.0, -0.0]))


def grid(draw, shape, axis, kind):
    length = () if axis is None else (shape[axis],)
    scale = draw(hnp.arrays(np.float32, length, elements=st.floats(2.0**-10, 64, width=32)))
    return scale, draw(hnp.arrays(np.int32, length, elements=st.integers(*KINDS[kind])))


@settings(deadline=None)
@given(st.data(), ARRAYS, st.sampled_from(list(KINDS)))
def test_forward_has_the_bits_of_quantize_then_dequantize(data, x, kind):
    axis = data.draw(st.none() | st.integers(0, x.ndim - 1))
    scale, zero = grid(data.draw, x.shape, axis, kind)
    got = fake_quantize(x, scale, zero, axis=axis, dtype=kind)
    expected = quantize(x, scale=scale, zero_point=zero, axis=axis, dtype=kind).dequantize()
    assert got.tobytes() == expected.tobytes()
    out = np.empty_like(x)
    assert fake_quantize(x, scale, zero, axis=axis, dtype=kind, out=out) is out
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("offset", [0, 1, 15])
def test_what_goes_past_the_caches_has_the_bits_of_its_parts(axis, offset):
    shape = (8, (1 << 20) + 3)  # rows begin anywhere in a line of memory
    rng = np.random.default_rng(axis)
    x = rng.standard_normal(shape, np.float32)
    scale = rng.uniform(0.01, 0.05, shape[axis]).astype(np.float32)
    zero = rng.integers(-20, 20, shape[axis])
    out = np.empty(x.size + offset, np.float32)[offset:].reshape(shape)
    fake_quantize(x, scale, zero, axis=axis, out=out)
    codes = quantize(x, scale=scale, zero_point=zero, axis=axis)
    for first in range(0, shape[1], 1 << 18):
        part = slice(first, first + (1 << 18))
        s, z = (scale, zero) if axis == 0 else (scale[part], zero[part])
        assert (out[:, part] == fake_quantize(x[:, part], s, z, axis=axis)).all()
    assert out.tobytes() == codes.dequantize().tobytes()


@settings(deadline=None)
@given(st.data(), ARRAYS, st.sampled_from(list(KINDS)), st.booleans())
def test_gradients_are_those_of_the_formulas(data, x, kind, narrow):
    axis = data.draw(st.none() | st.integers(0, x.ndim - 1))
    scale, zero = grid(data.draw, x.shape, axis, kind)
    low, high = KINDS[kind][0] + narrow, KINDS[kind][1]
    zero = np.maximum(zero, low)
    grad = np.random.default_rng(x.size).standard_normal(x.shape).astype(np.float32)
    dx, dscale, dzero = fake_quantize_backward(grad, x, scale, zero, axis=axis, dtype=kind, narrow_range=narrow)
    shape = () if axis is None else tuple(-1 if i == axis else 1 for i in range(x.ndim))
    s, z = scale.reshape(shape), zero.reshape(shape)
    with np.errstate(over="ignore"):
        q = (x / s).astype(np.float32)
    code = np.rint(q).astype(np.float64) + z
    inside = (code >= low) & (code <= high)
    assert (dx == np.where(inside, grad, 0)).all()
    g = grad.astype(np.float64)
    with np.errstate(invalid="ignore"):
        by_scale = g * np.where(inside, code - z - q, np.where(code < low, low - z, high - z))
    by_zero = np.where(inside, 0, -g * s)
    axes = tuple(i for i in range(x.ndim) if i != axis)
    for got, terms in ((dscale, by_scale), (dzero, by_zero)):
        exact = terms.sum(axis=axes)
        assert type(got) is np.ndarray
        assert got.shape == np.shape(exact)
        bound = 2.0**-24 * np.abs(exact) + 2.0**-42 * np.abs(terms).sum(axis=axes) + 2.0**-149
        assert (np.abs(got - exact) <= bound).all()


def test_lsq_scales_the_gradients_by_the_number_of_elements():
    x = np.linspace(-100, 100, 48, dtype=np.float32).reshape(6, 8)
    plain = fake_quantize_backward(np.ones_like(x), x, 0.5, axis=None)
    scaled = fake_quantize_backward(np.ones_like(x), x, 0.5, axis=None, lsq_scale=True)
    assert (scaled[0] == plain[0]).all()
    for a, b in zip(scaled[1:], plain[1:], strict=True):
        assert a == pytest.approx(b / np.sqrt(48 * 127), rel=2**-22)


def test_a_step_along_the_gradient_lowers_the_error():
    """What the gradients are for: the scale that minimises the squared error is found by descent."""
    x = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    scale, errors = 0.1, []
    for _ in range(60):
        error = fake_quantize(x, scale) - x
        errors.append(float((error.astype(np.float64) ** 2).mean()))
        scale -= 0.2 * float(fake_quantize_backward(2 * error / np.float32(x.size), x, scale)[1])
    assert errors[-1] < errors[0] / 4


ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fake_quantize(ONE, 0), ValueError, "scale is 0"),
        (lambda: fake_quantize(ONE, -1.0), ValueError, "scale is -1"),
        (lambda: fake_quantize(ONE, np.nan), ValueError, "scale is nan"),
        (lambda: fake_quantize(ONE, np.inf), ValueError, "scale is inf"),
        (lambda: fake_quantize(ONE, 1.0, 128), ValueError, "zero_point holds 128"),
        (lambda: fake_quantize(ONE, 1.0, -128, narrow_range=True), ValueError, "zero_point holds -128"),
        (lambda: fake_quantize(ONE, 1.0, axis=2), ValueError, "axis is 2"),
        (lambda: fake_quantize(ONE, ONE[0], axis=0), ValueError, "scale has shape"),
        (lambda: fake_quantize(ONE * np.float32(np.nan), 1.0), ValueError, "x holds NaN"),
        (lambda: fake_quantize(ONE.astype(np.float64), 1.0), TypeError, "x has dtype float64"),
        (lambda: fake_quantize(ONE, 1.0, out=ONE), ValueError, "overlaps"),
        (lambda: fake_quantize(ONE, 1.0, dtype="int4"), ValueError, "dtype is 'int4'"),
        (lambda: fake_quantize_backward(ONE[0], ONE, 1.0), ValueError, "grad has shape"),
    ],
)
def test_bad_input_is_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
