import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp.distillation import log_softmax, softmax
from pycomp.kernels.reference import distillation as reference
from pycomp.testing import assert_within_bound

INF = np.inf


def exact(x, temperature):
    return np.exp(reference.log_probabilities(x, temperature))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 3000), scale=st.floats(-3, 4), offset=st.floats(-1e6, 1e6),
       temperature=st.floats(-3, 4).map(lambda e: 10.0**e))
def test_within_four_ulp_at_any_temperature_scale_and_offset(seed, n, scale, offset, temperature):
    x = (np.random.default_rng(seed).standard_normal((2, n)) * 10.0**scale + offset).astype(np.float32)
    p = exact(x, temperature)
    assert_within_bound(softmax(x, temperature=temperature), p, 4 * reference.ulp(p))
    log_p = reference.log_probabilities(x, temperature)
    assert_within_bound(log_softmax(x, temperature=temperature), log_p, 2.0**-22 * np.maximum(1, np.abs(log_p)))


@pytest.mark.parametrize("value", [0.0, -0.1, -1.7, -9.3])
def test_within_four_ulp_where_every_term_is_rounded_alike(value):
    x = np.full((1, 100_003), value, np.float32)
    x[0, 5] = 0.0
    p = exact(x, 1.0)
    assert_within_bound(softmax(x), p, 4 * reference.ulp(p))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e4])
def test_within_four_ulp_on_rows_of_2_to_the_24(temperature):
    x = np.random.default_rng(0).standard_normal((1, 1 << 24), dtype=np.float32)
    p = exact(x, temperature)
    assert_within_bound(softmax(x, temperature=temperature), p, 4 * reference.ulp(p))


@given(seed=st.integers(0, 2**32), shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), data=st.data())
def test_any_axis_equals_the_last_one_moved(seed, shape, data):
    x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for function in (softmax, log_softmax):
        expected = np.moveaxis(function(np.ascontiguousarray(np.moveaxis(x, axis, -1))), -1, axis)
        got = function(x, axis=axis)
        assert got.shape == x.shape
        assert np.array_equal(got, expected)
        out = np.empty_like(x)
        assert function(x, axis=axis, out=out) is out
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("order", ["F", "reversed", "strided"])
def test_any_memory_order_gives_the_same_bits(order):
    x = np.random.default_rng(0).standard_normal((6, 40), dtype=np.float32)
    orders = {"F": np.asfortranarray(x), "reversed": x[:, ::-1].copy()[:, ::-1], "strided": np.repeat(x, 2, 1)[:, ::2]}
    assert softmax(orders[order]).tobytes() == softmax(x).tobytes()


def test_a_masked_row_gives_zeros_and_minus_infinity():
    x = np.array([[-INF] * 20, [0.0] * 20], np.float32)
    assert (softmax(x)[0] == 0).all()
    assert (log_softmax(x)[0] == -INF).all()
    assert np.isfinite(log_softmax(x)[1]).all()
    for function in (softmax, log_softmax):
        with pytest.raises(ValueError, match="-inf alone"):
            function(x, on_empty="raise")
        function(x[1:], on_empty="raise")
        with pytest.raises(ValueError, match="on_empty"):
            function(x, on_empty="ignore")


@pytest.mark.parametrize("bad", [INF, np.nan])
@pytest.mark.parametrize("position", [0, 7, 18])
def test_nan_or_infinity_gives_a_row_of_nan(bad, position):
    x = np.zeros((3, 19), np.float32)
    x[1, position] = bad
    for function in (softmax, log_softmax):
        y = function(x)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()
        with pytest.raises(ValueError, match=r"NaN or \+inf"):
            function(x, check_finite=True)
        function(x[::2], check_finite=True)
        assert np.isnan(function(np.where(x == 0, -INF, x).astype(np.float32))[1]).all()


def test_masked_entries_get_exactly_zero():
    x = np.array([[1.0, -INF, 2.0]], np.float32)
    assert softmax(x)[0, 1] == 0
    assert log_softmax(x)[0, 1] == -INF


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, INF, -0.0])
def test_a_temperature_that_is_not_positive_and_finite_is_refused(temperature):
    for function in (softmax, log_softmax):
        with pytest.raises(ValueError, match="temperature"):
            function(np.zeros((1, 2), np.float32), temperature=temperature)


def test_extreme_temperatures_keep_their_meaning():
    x = np.array([[0.0, 1e-3, -1.0]], np.float32)
    assert softmax(x, temperature=1e-300).tolist() == [[0.0, 1.0, 0.0]]
    assert np.array_equal(softmax(x, temperature=1e300), np.full((1, 3), np.float32(1 / 3)))


@pytest.mark.parametrize(("x", "error"), [
    (np.zeros((2, 2)), TypeError), (np.zeros((2, 2), np.float16), TypeError), (np.zeros((2, 2), ">f4"), TypeError),
    ([[1.0, 2.0]], TypeError), (np.float32(1), ValueError), (np.zeros((), np.float32), ValueError),
    (np.ma.zeros((2, 2), np.float32), TypeError),
])
def test_anything_but_a_float32_array_is_refused(x, error):
    with pytest.raises(error, match="x "):
        softmax(x)


def test_bad_axis_and_out_are_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="axis"):
        softmax(x, axis=2)
    with pytest.raises(TypeError, match="axis"):
        softmax(x, axis=1.0)
    with pytest.raises(ValueError, match="overlaps"):
        softmax(x, out=x)
    with pytest.raises(ValueError, match="shape"):
        softmax(x, out=np.empty((3, 2), np.float32))
