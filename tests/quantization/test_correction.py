"""Bias correction: the mean output of the quantized layer is that of the float layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp import dense
from pycomp.quantization import InputMean, Linear, MinMax, bias_correction, fake_quantize, quantize

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.integers(1, 300), st.booleans(), st.booleans())
def test_the_correction_is_that_of_the_formula_in_float64(seed, n, k, with_bias, quantized_inputs):
    rng = np.random.default_rng(seed)
    w, mean = rng.standard_normal((n, k), np.float32), rng.standard_normal(k) * 10.0 ** rng.integers(-3, 4)
    q = quantize(w, axis=0)
    bias = rng.standard_normal(n, np.float32) if with_bias else None
    seen = mean + rng.standard_normal(k) if quantized_inputs else None
    got = bias_correction(w, q, mean, bias, quantized_mean=seen)
    other = mean if seen is None else seen
    rounded = q.dequantize().astype(np.float64)
    exact = (0 if bias is None else bias) - (rounded @ other - w.astype(np.float64) @ mean)
    bound = 2.0**-48 * (np.abs(rounded) @ np.abs(other) + np.abs(w.astype(np.float64)) @ np.abs(mean))
    assert (np.abs(got - exact) <= bound + np.spacing(np.abs(exact).astype(np.float32))).all()


@pytest.mark.parametrize("static", [False, True])
def test_mean_outputs_are_those_of_the_float_layer(static):
    """Positive inputs, as after relu: rounding weights shifts outputs, and the correction takes it back."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((48, 200), np.float32)
    w[:, 0] *= 30  # an outlier makes the steps large
    x = np.abs(rng.standard_normal((4000, 200), np.float32)) + 1
    x[:, 0] = 0
    bias = rng.standard_normal(48, np.float32)
    mean, seen, options = InputMean(), InputMean(), {"weight_only": True}
    if static:
        range_ = MinMax()
        range_.update(x)
        scale, zero = range_.scale_and_zero_point(symmetric=False)
        seen.update(fake_quantize(x, scale, zero))
        options = {"input_scale": scale, "input_zero_point": zero}
    mean.update(x)
    q = quantize(w, axis=0)
    corrected = bias_correction(w, q, mean, bias, quantized_mean=seen if static else None)
    exact = dense.linear(x, w, bias)

    def shift(layer):
        return float(np.abs((layer(x).astype(np.float64) - exact).mean(axis=0)).max())

    before, after = shift(Linear(q, bias, **options)), shift(Linear(q, corrected, **options))
    assert after < 1e-3 * before
    less, more = (np.abs(Linear(q, b, **options)(x) - exact).mean() for b in (corrected, bias))
    assert less < more


@settings(deadline=None)
@given(SEEDS, st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 20))
def test_the_mean_of_batches_is_that_of_all_rows(seed, sizes, k):
    rng = np.random.default_rng(seed)
    batches = [rng.standard_normal((m, k), np.float32) for m in sizes]
    one, parts = InputMean(), [InputMean() for _ in batches]
    for batch, part in zip(batches, parts, strict=True):
        one.update(batch)
        part.update(batch)
    merged = InputMean()
    for part in parts:
        merged.merge(part)
    rows = np.concatenate(batches).astype(np.float64)
    assert one.count == merged.count == len(rows)
    if len(rows):
        bound = 2.0**-48 * np.abs(rows).mean(axis=0)
        for seen in (one, merged):
            assert (np.abs(seen.mean - rows.mean(axis=0)) <= bound).all()


@pytest.mark.parametrize(("large", "mean", "expected"), [
    (3e38, 10.0, [-np.inf, np.inf]),
    (np.finfo(np.float32).max, 1e300, [-np.inf, np.inf]),  # float64 overflows too
    (np.finfo(np.float32).max, 0.0, None),  # codes may stand for infinity
])
@pytest.mark.filterwarnings("error")
def test_a_bias_beyond_float32_is_infinite_without_a_warning(large, mean, expected):
    w = np.array([[large], [-large]], np.float32)
    got = bias_correction(-w, quantize(w, axis=0), np.array([mean]))
    assert expected is None or got.tolist() == expected


W, Q, MEAN = np.ones((3, 8), np.float32), quantize(np.ones((3, 8), np.float32)), np.ones(8)


def fed(x):
    seen = InputMean()
    seen.update(np.ones((2, 8), np.float32))
    seen.update(x)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: bias_correction(W, Q, InputMean()), ValueError, "no inputs were seen"),
    (lambda: bias_correction(W, W, MEAN), TypeError, "quantized is a ndarray"),
    (lambda: bias_correction(W[:2], Q, MEAN), ValueError, r"quantized has shape \(3, 8\), weight has \(2, 8\)"),
    (lambda: bias_correction(W * np.float32(np.nan), Q, MEAN), ValueError, "^weight holds NaN or infinity"),
    (lambda: bias_correction(W, Q, MEAN[:7]), ValueError, "mean has 7 elements, expected 8"),
    (lambda: bias_correction(W, Q, np.array([1, 2, np.nan] * 2 + [np.inf] * 2)), ValueError,
     r"mean holds NaN or infinity, first nan at \(2,\)"),
    (lambda: bias_correction(W, Q, MEAN.astype(np.float32)), TypeError, "mean has dtype float32, expected float64"),
    (lambda: bias_correction(W, Q, MEAN, quantized_mean=MEAN[:2]), ValueError, "quantized_mean has 2 elements"),
    (lambda: bias_correction(W, Q, MEAN, np.ones(2, np.float32)), ValueError, "bias has 2 elements, expected 3"),
    (lambda: fed(np.ones((2, 7), np.float32)), ValueError, "x has 7 columns, expected 8 as before"),
    (lambda: fed(np.full((2, 8), np.nan, np.float32)), ValueError, "x holds NaN or infinity"),
    (lambda: fed(np.ones((2, 8))), TypeError, "x has dtype float64"),
    (lambda: InputMean().merge(MEAN), TypeError, "other is a ndarray"),
])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
