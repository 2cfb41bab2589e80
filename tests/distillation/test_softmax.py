import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp.distillation import kd_loss, log_softmax, logsumexp, softmax
from pycomp.kernels import native
from pycomp.kernels.reference import distillation as reference
from pycomp.testing import assert_within_bound

INF = np.inf


def same_numbers(a, b):
    """Equal bits, but that any NaN equals any other."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    known = ~np.isnan(a)
    return np.array_equal(known, ~np.isnan(b)) and a[known].tobytes() == b[known].tobytes()


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


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), outer=st.integers(1, 3), size=st.sampled_from([1, 3, 16, 33, 130, 600, 2100, 4200]),
       beside=st.integers(7, 90), temperature=st.sampled_from([1e-30, 1e-3, 1.0, 2.5, 1e4, 1e30]), half=st.booleans())
def test_columns_side_by_side_have_the_bits_of_rows(seed, outer, size, beside, temperature, half):
    rng = np.random.default_rng(seed)
    rows = np.stack([reference.logits(rng, beside, size) for _ in range(outer)])
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float16) if half else rows
    x = np.ascontiguousarray(rows.transpose(0, 2, 1))
    for function in (softmax, log_softmax):
        expected = function(rows, temperature=temperature).transpose(0, 2, 1)
        assert same_numbers(function(x, temperature=temperature, axis=1), expected)
        same = x.copy()
        assert same_numbers(function(same, temperature=temperature, axis=1, out=same), expected)
        turned = rows.transpose(0, 2, 1)  # columns that lie as rows
        assert same_numbers(function(turned, temperature=temperature, axis=1), expected)
    assert same_numbers(logsumexp(x, temperature=temperature, axis=1), logsumexp(rows, temperature=temperature))


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


@pytest.mark.parametrize(("bad", "option"), [(-INF, {"on_empty": "raise"}), (np.nan, {"check_finite": True})])
@pytest.mark.parametrize("beside", [1, 20])
def test_what_is_refused_leaves_out_as_it_was(bad, option, beside):
    x = np.ones((2, 3, beside), np.float32)
    x[1, :, 0] = bad
    for function, axis in itertools.product((softmax, log_softmax), (1, 2)):
        held = np.ascontiguousarray(np.moveaxis(x, 1, axis))
        with pytest.raises(ValueError, match="x h"):
            function(held, axis=axis, out=held, **option)
        np.testing.assert_array_equal(held, np.moveaxis(x, 1, axis))


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


@pytest.mark.parametrize("n", [19, 70, 1000, 3000])
@pytest.mark.parametrize("among", [0.0, -INF])
def test_nan_shows_wherever_it_stands(n, among):
    """A maximum is found while another row's terms are made: no row and no place is passed over."""
    rng = np.random.default_rng(n)
    x = np.where(rng.random((37, n)) < 0.5, among, rng.standard_normal((37, n))).astype(np.float32)
    x[5::7] = -INF
    bad = np.arange(37) % 3 == 2
    y = x.copy()
    y[bad, rng.integers(0, n, bad.sum())] = np.nan
    y[bad, rng.integers(0, n, bad.sum())] = rng.choice([np.nan, INF], bad.sum())
    for function in (softmax, log_softmax, logsumexp):
        clean, got = function(x), function(y)
        assert np.isnan(got[bad]).all()
        assert got[~bad].tobytes() == clean[~bad].tobytes()


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
    (np.zeros((2, 2), int), TypeError), (np.zeros((2, 2), np.longdouble), TypeError),
    (np.zeros((2, 2), ">f4"), TypeError), ([[1.0, 2.0]], TypeError), (np.ma.zeros((2, 2), np.float32), TypeError),
    (np.float32(1), ValueError), (np.zeros((), np.float32), ValueError),
])
def test_anything_but_an_array_of_floats_is_refused(x, error):
    with pytest.raises(error, match="x "):
        softmax(x)


def test_bad_axis_and_out_are_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="axis"):
        softmax(x, axis=2)
    with pytest.raises(TypeError, match="axis"):
        softmax(x, axis=1.0)
    with pytest.raises(ValueError, match="overlaps"):
        softmax(x[:1], out=x[:1])
    with pytest.raises(ValueError, match="shape"):
        softmax(x, out=np.empty((3, 2), np.float32))


TYPES = {"float16": 2.0**-11, "float32": 2.0**-22, "float64": 2.0**-46, "bfloat16": 2.0**-8}


def of_type(x, name):
    return x.astype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


@pytest.mark.parametrize("name", TYPES)
@given(seed=st.integers(0, 2**32), shape=st.lists(st.integers(1, 6), min_size=1, max_size=3), data=st.data())
@settings(deadline=None)
def test_every_float_type_is_near_the_exact_value(name, seed, shape, data):
    x = of_type(3 * np.random.default_rng(seed).standard_normal(shape), name)
    axis = data.draw(st.integers(0, len(shape) - 1))
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    log_p = reference.log_probabilities(rows.astype(np.float64), 2.0)
    back = (*shape[:axis], *shape[axis + 1 :])
    for function, expected, least in ((softmax, np.exp(log_p), 2.0**-10), (log_softmax, log_p, 1.0)):
        y = function(x, temperature=2.0, axis=axis)
        assert y.dtype == x.dtype
        got = np.moveaxis(y, axis, -1).reshape(rows.shape).astype(np.float64)
        assert (np.abs(got - expected) <= 1.01 * TYPES[name] * np.maximum(np.abs(expected), least)).all()
    y = logsumexp(x, temperature=2.0, axis=axis)
    assert y.dtype == x.dtype
    assert y.shape == back
    expected = (rows.astype(np.float64) / 2)[:, 0] - log_p[:, 0]
    assert (np.abs(y.reshape(-1).astype(np.float64) - expected) <= TYPES[name] * np.maximum(np.abs(expected), 1)).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_types_are_the_float32_result_rounded_once(name):
    x = of_type(np.random.default_rng(0).standard_normal((4, 100)), name)
    for function in (softmax, log_softmax):
        assert function(x).tobytes() == function(x.astype(np.float32)).astype(x.dtype).tobytes()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("backend", ["native", "jit"])
def test_in_place(name, backend):
    x = of_type(np.random.default_rng(0).standard_normal((5, 37)), name)
    pycomp.set_backend(backend)
    try:
        for function in (softmax, log_softmax):
            for axis in (0, 1):
                expected, same = function(x, axis=axis), x.copy()
                assert function(same, axis=axis, out=same) is same
                assert same.tobytes() == expected.tobytes()
    finally:
        pycomp.set_backend(None)


@pytest.mark.parametrize("name", TYPES)
def test_masks_and_lengths_are_minus_infinity(name):
    rng = np.random.default_rng(1)
    x = of_type(rng.standard_normal((3, 4, 6)), name)
    mask, lengths = rng.random((4, 6)) < 0.6, rng.integers(0, 7, (3, 4))
    lengths[0, 0] = 0
    both = np.where(mask & (np.arange(6) < lengths[:, :, None]), x, np.array(-INF, x.dtype))
    for function in (softmax, log_softmax, logsumexp):
        assert function(x, mask=mask, lengths=lengths).tobytes() == function(both).tobytes()
    turned, across = np.moveaxis(x, -1, 0), np.moveaxis(mask, -1, 0)[:, None]
    expected = np.moveaxis(softmax(x, mask=mask, lengths=lengths), -1, 0)
    assert (softmax(turned, axis=0, mask=across, lengths=lengths) == expected).all()
    x[0, 0, 0] = np.nan  # what does not count is not looked at
    assert (softmax(x, mask=mask, lengths=lengths, check_finite=True)[0, 0] == 0).all()
    with pytest.raises(ValueError, match="-inf alone"):
        softmax(x, lengths=lengths, on_empty="raise")


def test_logsumexp_of_nothing_and_of_what_is_not_finite():
    x = np.array([[-INF, -INF], [INF, 0], [np.nan, 0], [1e30, -INF]], np.float32)
    for values in (x, x.astype(np.float64)):
        np.testing.assert_array_equal(logsumexp(values), np.array([-INF, np.nan, np.nan, x[3, 0]], values.dtype))
        np.testing.assert_array_equal(logsumexp(values[:, :0]), np.full(4, -INF))
        with pytest.raises(ValueError, match=r"NaN or \+inf"):
            logsumexp(values, check_finite=True)
    assert logsumexp(np.zeros((2, 0, 3)), axis=0).shape == (0, 3)


def test_rows_of_float64_do_not_depend_on_their_batch():
    x = np.random.default_rng(0).standard_normal((6, 1000))
    assert (softmax(x)[2] == softmax(x[2:3])[0]).all()


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"mask": np.ones((2, 3), int)}, TypeError, "mask has dtype int64, expected bool"),
    ({"mask": np.ones((3, 2), bool)}, ValueError, r"mask has shape \(3, 2\), expected one that broadcasts to \(2, 3\)"),
    ({"lengths": [1.0, 2.0]}, TypeError, "lengths has dtype float64, expected integers"),
    ({"lengths": [1, 2, 3]}, ValueError, r"lengths has shape \(3,\), expected \(2,\)"),
    ({"lengths": [1, 4]}, ValueError, "lengths has values from 1 to 4, expected 0 to 3"),
    ({"lengths": [-1, 3]}, ValueError, "lengths has values from -1 to 3"),
])
def test_masks_that_do_not_fit_are_refused(options, error, message):
    for function in (softmax, log_softmax, logsumexp):
        with pytest.raises(error, match=message):
            function(np.zeros((2, 3), np.float32), **options)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_types_are_worked_on_by_parts(name):
    """More rows than are widened at a time, some of them small: as float32 rounded, as row by row, and in place."""
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if name == "bfloat16" else name)
    x = (np.random.default_rng(3).standard_normal((9, 70000)) * 3).astype(dtype)
    y = softmax(x, temperature=2.0)
    assert y.dtype == dtype
    assert (y == softmax(x.astype(np.float32), temperature=2.0).astype(dtype)).all()
    assert all((softmax(x[i], temperature=2.0) == y[i]).all() for i in (0, 3, 8))
    assert (logsumexp(x) == logsumexp(x.astype(np.float32)).astype(dtype)).all()
    loss, grad = kd_loss(x, x[::-1], temperature=2.0, return_grad=True)
    wide, slope = kd_loss(x.astype(np.float32), x[::-1].astype(np.float32), temperature=2.0, return_grad=True)
    assert loss == wide
    assert (grad == slope.astype(dtype)).all()
    softmax(x, temperature=2.0, out=x)
    assert (x == y).all()


@pytest.mark.parametrize("n", [20, 100, 500, 3000])
def test_parts_down_to_the_smallest_subnormal_have_the_same_bits_beside_any_others(n):
    """Vectors with a small term go another way than those beside them; in a batch of short rows they are columns."""
    rng = np.random.default_rng(n)
    small = rng.random((70, n)) < 0.1
    x = np.where(small, rng.uniform(-110, -40, (70, n)), rng.uniform(-5, 0, (70, n))).astype(np.float32)
    x[:, -1] = 0
    p, y = exact(x, 1.0), softmax(x)
    assert ((y > 0) & (y < 2.0**-126)).any()
    assert_within_bound(y, p, 4 * reference.ulp(p))
    for rows in (1, 3, 16, 17, 64):
        assert softmax(x[:rows]).tobytes() == y[:rows].tobytes()


@pytest.mark.parametrize("n", [20, 100, 500, 3000])
def test_small_parts_have_the_same_bits_whether_or_not_some_beside_them_are_subnormal(n):
    """None of them shows in the sum."""
    x = np.random.default_rng(n).uniform(-86, -60, (70, n)).astype(np.float32)
    x[:, -1] = 0
    other = x.copy()
    other[:, ::7] = -100
    same = np.arange(n) % 7 > 0
    for rows in (1, 70):
        assert softmax(x[:rows])[:, same].tobytes() == softmax(other[:rows])[:, same].tobytes()


@pytest.mark.skipif(native.missing() is not None, reason="needs the native backend")
@pytest.mark.parametrize("columns", [48, 4000])
def test_low_temperatures_take_no_longer_than_others(columns):
    """Intel's CPUs take a hundred times as long for a product that is subnormal: it was 10 to 20 times as long."""
    rng = np.random.default_rng(0)
    x, y = 3 * rng.standard_normal((2, 192000 // columns, columns), np.float32)
    for function in (softmax, log_softmax, lambda x, **how: kd_loss(x, y, return_grad=True, **how)):
        took = {1.0: [], 0.1: []}
        for _ in range(9):
            for temperature, seconds in took.items():
                begun = time.perf_counter()
                function(x, temperature=temperature)
                seconds.append(time.perf_counter() - begun)
        assert min(took[0.1]) < 4 * min(took[1.0])
