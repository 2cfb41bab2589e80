"""Observers: what they have seen does not depend on split and order, and their ranges are what they say."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pycomp.quantization import (
    MSE,
    Entropy,
    Linear,
    MinMax,
    MovingAverage,
    Percentile,
    fake_quantize,
    fake_quantize_backward,
    quantize,
    quantize_rows,
)
from pycomp.quantization.histogram import HALF, Histogram

HISTOGRAMS = (Percentile, Entropy, MSE)
VALUES = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(-(2.0**127), 2.0**127, width=32))
NORMAL = np.random.default_rng(0).standard_normal(20000).astype(np.float32)


def state(seen):
    return [(c.counts.tobytes(), c.exponent, c.min, c.max) for c in seen.channels]


def observed(kind, *arrays, **options):
    seen = kind(**options)
    for a in arrays:
        seen.update(a)
    return seen


@given(VALUES, st.lists(st.integers(0, 60), max_size=4), st.randoms())
@settings(deadline=None)
def test_any_split_and_order_gives_the_histogram_of_one_pass(x, cuts, random):
    pieces = np.split(x, sorted(min(c, len(x)) for c in cuts))
    random.shuffle(pieces)
    whole, parts, merged = observed(Percentile, x), observed(Percentile, *pieces), Percentile()
    for piece in pieces:
        merged.merge(observed(Percentile, piece))
    assert state(parts) == state(whole)
    assert state(merged) == state(whole)


@given(VALUES)
@settings(deadline=None)
def test_every_value_is_counted_in_its_bin(x):
    h = Histogram()
    h.add(x)
    expected = np.zeros(2 * HALF, np.int64)
    for v in x.astype(np.float64):
        expected[int(np.searchsorted(h.edges, v, side="right")) - 1] += 1
    assert (h.counts == expected).all()
    if x.size and np.abs(x).max() > 2.0**-130:  # the width follows from the largest magnitude
        assert HALF / 2 <= np.abs(x).max() / h.width <= HALF


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-10, 1.0, 1e30])
@pytest.mark.parametrize("kind", HISTOGRAMS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_follow_the_values_at_every_magnitude(kind, scale, symmetric):
    x = (NORMAL[:500] * np.float32(scale)).astype(np.float32)
    got, zero = observed(kind, x).scale_and_zero_point(symmetric=symmetric)
    largest = float(np.abs(x).max())
    assert 2.0**-126 <= got <= max(largest / 127, 2.0**-126) * 1.001
    assert -128 <= zero <= 127


@pytest.mark.parametrize("kind", [MinMax, MovingAverage, *HISTOGRAMS])
def test_a_channel_is_observed_as_if_alone(kind):
    x = NORMAL[:600].reshape(4, 3, 50) * np.array([1, 10, 0.01], np.float32)[:, None]
    seen = observed(kind, x, x[:2] * np.float32(2), axis=1)
    scale, zero = seen.scale_and_zero_point(dtype="uint8")
    assert scale.dtype == np.float32
    assert zero.dtype == np.int32
    for c in range(3):
        alone = observed(kind, x[:, c], x[:2, c] * np.float32(2)).scale_and_zero_point(dtype="uint8")
        assert (float(scale[c]), int(zero[c])) == alone


def test_a_percentile_leaves_out_no_more_than_it_says():
    x = np.concatenate([NORMAL, np.array([1000], np.float32)])
    for percentile in (90.0, 99.0, 99.9, 100.0):
        seen = observed(Percentile, x, percentile=percentile)
        edge = seen.scale_and_zero_point(symmetric=True)[0] * 127
        inside = np.count_nonzero(np.abs(x) <= edge * (1 + 1e-6)) / x.size
        assert inside >= percentile / 100
        assert edge <= np.quantile(np.abs(x), percentile / 100) + 2 * seen.channels[0].width


@pytest.mark.parametrize(("percentile", "total"), [(99.9, 1000), (99.9, 10_000), (99.99, 10_000), (99.7, 1000),
                                                   (99.95, 2000), (58.0, 100), (0.7, 1000)])
def test_a_percentile_is_the_decimal_that_was_typed(percentile, total):
    """The outliers that may lie outside, and not one more: binary fractions of a total miss it on both sides."""
    outliers = int((100 - Decimal(str(percentile))) * total / 100)
    for more in (0, 1):
        x = np.ones(2 * total, np.float32)
        x[: outliers + more] = 100
        scale, _ = observed(Percentile, x[:total], percentile=percentile).scale_and_zero_point(symmetric=True)
        assert scale * 127 == pytest.approx(100 if more else 1, rel=0.1)
        x[-outliers:] = -100  # a tail of each sign, of half of what may be lost of twice as many
        scale, _ = observed(Percentile, x, percentile=percentile).scale_and_zero_point()
        assert scale * 255 == pytest.approx(100 if more else 1, rel=0.1)


@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_clips_where_the_squared_error_is_smallest(symmetric):
    x = np.concatenate([NORMAL, np.full(3, 30, np.float32)])

    def error(scale, zero):
        back = quantize(x, scale=scale, zero_point=zero).dequantize()
        return float(np.mean((back.astype(np.float64) - x) ** 2))

    best = error(*observed(MSE, x).scale_and_zero_point(symmetric=symmetric))
    low, high = (float(x.min()), float(x.max()))
    for part in np.arange(1, 65) / 64:
        tried = observed(MinMax, np.array([part * low, part * high], np.float32))
        assert best <= error(*tried.scale_and_zero_point(symmetric=symmetric)) * 1.02


def test_entropy_drops_a_far_outlier_and_keeps_an_even_range():
    even = np.linspace(-1, 1, 40001, dtype=np.float32)
    assert observed(Entropy, even).scale_and_zero_point(symmetric=True)[0] * 127 > 0.98
    outlier = np.concatenate([NORMAL, np.array([20], np.float32)])
    assert observed(Entropy, outlier).scale_and_zero_point(symmetric=True)[0] * 127 < 10


@pytest.mark.parametrize("far", [100, 1000])
def test_entropy_drops_an_outlier_that_leaves_few_bins_to_the_rest(far):
    outlier = np.concatenate([NORMAL, np.array([far], np.float32)])
    assert observed(Entropy, outlier).scale_and_zero_point(symmetric=True)[0] * 127 < 6


@pytest.mark.parametrize("kind", ["relu", "mostly zeros", "far off zero"])
def test_entropy_does_not_clip_what_has_a_spike_at_zero_or_lies_far_off_it(kind):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50_000, np.float32)
    x = {"relu": np.maximum(x, 0), "mostly zeros": x * (rng.random(x.size) < 0.1), "far off zero": x + 20}[kind]
    x = x.astype(np.float32)

    def squared_error(kind):
        scale, zero_point = observed(kind, x).scale_and_zero_point()
        return np.square(x - fake_quantize(x, scale, zero_point), dtype=np.float64).sum()

    assert squared_error(Entropy) < 5 * squared_error(MSE)  # without either remedy 500 times and more


@pytest.mark.parametrize("kind", [MinMax, MovingAverage, *HISTOGRAMS])
def test_zeros_alone_have_scale_one(kind):
    assert observed(kind, np.zeros(5, np.float32)).scale_and_zero_point(symmetric=True) == (1.0, 0)


@pytest.mark.parametrize("kind", [MinMax, MovingAverage])
@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("symmetric", [True, False])
def test_powers_of_two_are_those_of_quantize(kind, axis, symmetric):
    x = np.random.default_rng(2).standard_normal((50, 3), np.float32)
    q = quantize(x, axis=axis, symmetric=symmetric, power_of_two=True)
    scale, zero = observed(kind, x, axis=axis).scale_and_zero_point(symmetric=symmetric, power_of_two=True)
    assert (q.scale == scale).all()
    assert (q.zero_point == zero).all()


def test_a_moving_average_follows_its_formula():
    seen = observed(MovingAverage, *(np.array([-v, v], np.float32) for v in (1, 2, 4)), momentum=0.75)
    assert seen.max == 1 + 0.25 + 0.25 * (4 - 1.25)
    assert seen.min == -seen.max


ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("kind", [MinMax, MovingAverage, *HISTOGRAMS])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.scale_and_zero_point(), ValueError, "no values were seen"),
        (lambda s: s.update(ONE * np.float32(np.nan)), ValueError, "NaN or infinity"),
        (lambda s: s.update(ONE * np.float32(np.inf)), ValueError, "NaN or infinity"),
        (lambda s: s.update(np.array([[1, -np.inf], [np.nan, 1]], np.float32)), ValueError,
         r"x holds NaN or infinity, first -inf at \(0, 1\)"),
        (lambda s: s.update(ONE.astype(np.float64)), TypeError, "x has dtype float64"),
        (lambda s: type(s)(axis=-1), ValueError, "axis is -1"),
        (lambda s: type(s)(axis=2).update(ONE), ValueError, "axis is 2, but x has 2 dimensions"),
        (lambda s: s.merge(3), TypeError, "int|cannot be merged"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(kind, call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(kind())
    assert "\n" not in str(caught.value)
    seen = observed(kind, ONE)
    before = seen.scale_and_zero_point()
    with pytest.raises((TypeError, ValueError)):
        seen.update(ONE * np.float32(np.nan))
    assert seen.scale_and_zero_point() == before


@pytest.mark.parametrize("kind", [MinMax, MovingAverage, *HISTOGRAMS])
@pytest.mark.parametrize("flag", ["symmetric", "narrow_range", "power_of_two"])
def test_flags_are_bools(kind, flag):
    seen = observed(kind, NORMAL[:100])
    for value in (False, True):
        assert seen.scale_and_zero_point(**{flag: np.bool_(value)}) == seen.scale_and_zero_point(**{flag: value})
    for bad in (7, 2**40, np.nan, "no"):
        with pytest.raises(TypeError, match=f"^{flag} is {bad!r}, expected True or False$"):
            seen.scale_and_zero_point(**{flag: bad})


def test_the_smallest_percentile_still_leaves_a_range():
    seen = observed(Percentile, np.array([-5, 5], np.float32), percentile=1e-18)
    scale, zero_point = seen.scale_and_zero_point(symmetric=False)
    assert scale == pytest.approx(10 / 255, rel=1e-3)
    assert zero_point in (-1, 0)


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"symmetric": False, "narrow_range": True}])
def test_the_callers_errstate_reaches_no_scale(options):
    x = np.array([1e-40, -1e-42], np.float32)
    with np.errstate(all="raise"):
        q, seen = quantize(x, **options), observed(MinMax, x).scale_and_zero_point(**options)
    assert q.scale == seen[0] == 2.0**-126


@pytest.mark.parametrize(("call", "flag"), [
    (lambda no: Linear(np.ones((2, 4), np.float32), weight_only=no), "weight_only"),
    (lambda no: quantize_rows(NORMAL[None], return_sums=no), "return_sums"),
    (lambda no: fake_quantize_backward(NORMAL, NORMAL, 1.0, lsq_scale=no), "lsq_scale"),
], ids=range(3))
def test_what_is_no_bool_is_no_flag(call, flag):
    with pytest.raises(TypeError, match=f"^{flag} is 'no', expected True or False$"):
        call("no")


@pytest.mark.parametrize("kind", [MinMax, MovingAverage, *HISTOGRAMS])
def test_no_values_leave_an_observer_as_it_was(kind):
    seen = observed(kind, np.zeros((0, 3), np.float32), axis=1)
    seen.update(ONE.T)
    seen.update(np.zeros((0, 5), np.float32))
    assert seen.scale_and_zero_point()[0].shape == (2,)


@pytest.mark.parametrize("kind", [MinMax, *HISTOGRAMS])
def test_channels_must_stay(kind):
    seen = observed(kind, ONE, axis=1)
    with pytest.raises(ValueError, match="2 channels along axis 1, expected 3"):
        seen.update(ONE.T)
    with pytest.raises(ValueError, match="other has axis None, expected 1"):
        seen.merge(observed(kind, ONE))
    with pytest.raises(ValueError, match="2 channels"):
        seen.merge(observed(kind, np.ascontiguousarray(ONE.T), axis=1))
    with pytest.raises(ValueError, match="percentile is 0"):
        Percentile(0)
    with pytest.raises(ValueError, match="momentum is 1"):
        MovingAverage(1)


@given(kind=st.sampled_from(["normal", "even", "outlier", "few"]), symmetric=st.booleans(), seed=st.integers(0, 2**32))
def test_the_smallest_of_exact_sums_is_chosen_and_of_equals_the_largest(kind, symmetric, seed):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(500)
    x = {"normal": normal, "even": rng.uniform(-1, 3, 500), "outlier": np.append(normal, 1000),
         "few": rng.choice([-1.0, 0.5, 2.0], 9)}[kind]
    seen = observed(MSE, x.astype(np.float32)).channels[0]
    filled = np.flatnonzero(seen.counts)
    low, high, steps = min(seen.min, 0.0), max(seen.max, 0.0), 254 if symmetric else 255
    if symmetric:
        low, high = min(low, -high), max(-low, high)
    errors = []
    for j in range(1, 129):
        lo, hi = j / 128 * low / seen.width, j / 128 * high / seen.width
        step = (hi - lo) / steps
        first = math.floor(lo / step + 0.5)
        codes = np.clip(np.rint((filled - 2048 + 0.5) / step), first, first + steps)
        errors.append(math.fsum(seen.counts[filled] * (filled - 2048 + 0.5 - codes * step) ** 2))
    part = max(j for j in range(1, 129) if errors[j - 1] == min(errors)) / 128
    assert MSE()._range(seen, symmetric) == (part * low, part * high)


def test_averages_that_are_subnormal_warn_of_nothing():
    with np.errstate(all="raise"):
        seen = observed(MovingAverage, *np.array([[[1.3e-38], [-1e-45]], [[5e-39], [1e-38]]], np.float32), axis=1)
        scale, _ = seen.scale_and_zero_point()
    assert (scale == np.float32(2.0**-126)).all()
