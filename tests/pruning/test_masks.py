"""What the contract tests cannot know of masks: their properties, special values, and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycomp
from pycomp.pruning import block_mask, channel_mask, magnitude, nm_mask, unstructured_mask

SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1.0, -1.0, 3.4028235e38, -3.4028235e38, np.inf, -np.inf]
values = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32, allow_nan=False))
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40), elements=values)
unit = st.floats(0, 1)


def first_of_stable_sort(scores, k):
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.reshape(-1), kind="stable")[:k]] = True
    return mask.reshape(scores.shape)


@given(arrays, unit, st.booleans())
def test_unstructured_equals_a_stable_sort(scores, sparsity, by_magnitude):
    compared = np.abs(scores) if by_magnitude else scores
    mask = unstructured_mask(scores, sparsity, by_magnitude=by_magnitude)
    assert mask.dtype == bool
    assert mask.shape == scores.shape
    assert np.array_equal(mask, first_of_stable_sort(compared, round((1 - sparsity) * scores.size)))


@given(arrays, unit, unit)
def test_more_sparsity_keeps_a_subset(scores, a, b):
    low, high = sorted((a, b))
    assert not (unstructured_mask(scores, high) & ~unstructured_mask(scores, low)).any()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 15, 16, 17, 1000])
def test_count_is_exact_for_every_density(n):
    scores = np.zeros(n, np.float32)
    for kept in range(n + 1):
        assert unstructured_mask(scores, 1 - kept / n).sum() == kept
    assert unstructured_mask(np.zeros(5, np.float32), 0.5).sum() == 2  # 2.5: to even


def test_ties_are_kept_by_position_across_chunks_and_threads():
    scores = np.tile(np.array([2, 1, 1, -0.0, 0.0, 1], np.float32), 200_001)
    expected = first_of_stable_sort(scores, 500_000)
    for threads in (1, 2, 3):
        with pycomp.threads(threads):
            assert np.array_equal(unstructured_mask(scores, 1 - 500_000 / scores.size), expected)


@pytest.mark.parametrize("by_magnitude", [False, True])
@pytest.mark.parametrize("make", [
    lambda rng, n: np.sort(rng.standard_normal(n)),
    lambda rng, n: np.zeros(n),
    lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, rng.standard_normal(n)),
    lambda rng, n: np.where(np.arange(n) < n // 2, 1e-40, np.inf),
    lambda rng, n: rng.standard_normal(n) * np.exp(10 * rng.standard_normal(n)),
    # Every vector that a sample with a fixed stride would meet is unlike the rest.
    lambda rng, n: np.where(np.arange(n) % 4096 < 16, 1e6, 1) * rng.random(n),
], ids=["sorted", "constant", "half zeros", "two values", "many magnitudes", "periodic"])
def test_large_arrays_equal_a_stable_sort(make, by_magnitude):
    n = (1 << 20) + 77
    scores = make(np.random.default_rng(1), n).astype(np.float32)
    compared = np.abs(scores) if by_magnitude else scores
    for kept in (1, n // 100, n // 2, n - 1):
        mask = unstructured_mask(scores, 1 - kept / n, by_magnitude=by_magnitude)
        assert np.array_equal(mask, first_of_stable_sort(compared, kept))


@given(st.integers(1, 70), st.integers(0, 5), st.booleans(), st.data())
def test_nm_equals_unstructured_of_each_group(m, groups, by_magnitude, data):
    n = data.draw(st.integers(0, m))
    scores = data.draw(hnp.arrays(np.float32, (groups, m), elements=values))
    mask = nm_mask(scores, n, m, by_magnitude=by_magnitude)
    compared = np.abs(scores) if by_magnitude else scores
    for row, kept in zip(compared, mask, strict=True):
        assert np.array_equal(kept, first_of_stable_sort(row, n))


def test_nm_along_another_axis_is_that_of_the_transpose():
    scores = np.random.default_rng(0).standard_normal((8, 3, 5)).astype(np.float32)
    assert np.array_equal(nm_mask(scores, 2, 4, axis=0), nm_mask(scores.T, 2, 4).T)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.integers(0, 4), unit, st.integers(0, 2**32 - 1))
def test_blocks_are_kept_whole(h, w, r, c, sparsity, seed):
    scores = np.random.default_rng(seed).integers(-9, 9, (r * h, c * w)).astype(np.float32)
    mask = block_mask(scores, sparsity, (h, w))
    sums = scores.reshape(r, h, c, w).sum((1, 3))
    kept = first_of_stable_sort(sums, round((1 - sparsity) * r * c))
    assert np.array_equal(mask, np.kron(kept, np.ones((h, w), bool)).astype(bool).reshape(scores.shape))


def test_block_by_magnitude_is_that_of_magnitudes():
    w = np.random.default_rng(0).standard_normal((48, 64)).astype(np.float32)
    assert np.array_equal(block_mask(w, 0.7, (4, 8), by_magnitude=True), block_mask(magnitude(w), 0.7, (4, 8)))


def test_channels_by_each_norm_and_axis():
    w = np.array([[3, -4], [1, 1], [-6, 0]], np.float32)
    assert channel_mask(w, 2 / 3).tolist() == [False, True, False]
    assert channel_mask(w, 2 / 3, norm="l1").tolist() == [True, False, False]
    assert channel_mask(w, 2 / 3, norm="l2").tolist() == [False, False, True]
    assert channel_mask(w, 0.5, axis=1, norm="l1").tolist() == [True, False]
    assert channel_mask(w.T, 2 / 3, axis=-1, norm="l2").tolist() == [False, False, True]


def test_strided_input_gives_the_mask_of_its_copy_and_is_not_changed():
    base = np.random.default_rng(0).standard_normal((40, 60)).astype(np.float32)
    for view in (base.T, base[::-1, ::3], base[:, 5:21]):
        before = base.copy()
        assert np.array_equal(unstructured_mask(view, 0.3), unstructured_mask(view.copy(), 0.3))
        assert np.array_equal(channel_mask(view, 0.3), channel_mask(view.copy(), 0.3))
        assert base.tobytes() == before.tobytes()


def test_empty_arrays_give_empty_masks():
    empty = np.zeros((0, 8), np.float32)
    assert unstructured_mask(empty, 0.5).shape == (0, 8)
    assert nm_mask(empty, 2, 4).shape == (0, 8)
    assert nm_mask(empty, 2, 4, axis=0).shape == (0, 8)
    assert block_mask(empty, 0.5, (2, 4)).shape == (0, 8)
    assert channel_mask(empty, 0.5).shape == (0,)
    assert channel_mask(empty, 0.5, axis=1).tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("backend", ["native", "jit", "reference"])
@pytest.mark.parametrize("place", [0, 15, 16, 39])
def test_nan_is_refused_and_found(backend, place):
    try:
        pycomp.set_backend(backend)
    except ValueError as error:
        pytest.skip(str(error))
    scores = np.ones((5, 8), np.float32)
    scores.reshape(-1)[place] = np.nan
    at = rf"scores is NaN at \({place // 8}, {place % 8}\)"
    try:
        for sparsity in (0, 0.5, 1):
            for by_magnitude in (False, True):
                with pytest.raises(ValueError, match=at):
                    unstructured_mask(scores, sparsity, by_magnitude=by_magnitude)
        with pytest.raises(ValueError, match=at):
            nm_mask(scores, 2, 4)
        with pytest.raises(ValueError, match=at):
            nm_mask(scores, 4, 8)
        with pytest.raises(ValueError, match="block.*" + at):
            block_mask(scores, 0.5, (5, 2))
        with pytest.raises(ValueError, match="channel.*" + at):
            channel_mask(scores, 0.5)
    finally:
        pycomp.set_backend(None)


def test_infinities_that_cancel_are_refused():
    with pytest.raises(ValueError, match="infinities"):
        channel_mask(np.array([[np.inf, -np.inf], [0, 0]], np.float32), 0.5)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan"), float("inf")])
def test_sparsity_outside_0_1_is_refused(sparsity):
    scores = np.ones((4, 4), np.float32)
    for call in (lambda: unstructured_mask(scores, sparsity), lambda: block_mask(scores, sparsity, (2, 2)),
                 lambda: channel_mask(scores, sparsity)):
        with pytest.raises(ValueError, match="sparsity"):
            call()


@pytest.mark.parametrize("bad", [np.ones((4, 4)), np.ones((4, 4), np.float16), np.ones((4, 4), ">f4"),
                                 np.ones((4, 4), object), [[1.0]], np.ma.ones((4, 4), np.float32), None])
def test_other_dtypes_and_kinds_are_refused(bad):
    for call in (magnitude, lambda s: unstructured_mask(s, 0.5), lambda s: nm_mask(s, 2, 4),
                 lambda s: block_mask(s, 0.5, (2, 2)), lambda s: channel_mask(s, 0.5)):
        with pytest.raises(TypeError):
            call(bad)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda s: nm_mask(s, 5, 4), ValueError, "n is 5"),
    (lambda s: nm_mask(s, -1, 4), ValueError, "n is -1"),
    (lambda s: nm_mask(s, 2, 2**31), ValueError, "m is 2147483648, expected from 1 to 2147483647"),
    (lambda s: nm_mask(s, 2, 3), ValueError, "m is 3, which does not divide the 8 scores along axis 1"),
    (lambda s: nm_mask(s, 0, 0), ValueError, "m is 0"),
    (lambda s: nm_mask(s, 2.0, 4), TypeError, "n is 2.0"),
    (lambda s: nm_mask(s, 2, 4, axis=2), ValueError, "axis is 2"),
    (lambda s: block_mask(s, 0.5, (3, 2)), ValueError, "blocks of 3 x 2 do not divide scores of 4 x 8"),
    (lambda s: block_mask(s, 0.5, (0, 2)), ValueError, r"block\[0\] is 0"),
    (lambda s: block_mask(s, 0.5, 2), TypeError, "block is 2"),
    (lambda s: block_mask(s, 0.5, (2, 2), by_magnitude="no"), TypeError, "by_magnitude is 'no', expected"),
    (lambda s: nm_mask(s, 2, 4, by_magnitude=1), TypeError, "by_magnitude is 1, expected True or False"),
    (lambda s: unstructured_mask(s, 0.5, by_magnitude=None), TypeError, "by_magnitude is None, expected True or False"),
    (lambda s: block_mask(s[0], 0.5, (1, 2)), ValueError, "scores has 1 dimensions"),
    (lambda s: channel_mask(s, 0.5, axis=-3), ValueError, "axis is -3"),
    (lambda s: channel_mask(s, 0.5, norm="max"), ValueError, "norm is 'max'"),
    (lambda s: unstructured_mask(s[0, 0].reshape(()), 0.5), ValueError, "0 dimensions"),
    (lambda s: unstructured_mask(s, "half"), TypeError, "sparsity is 'half'"),
])
def test_bad_arguments_say_what_and_where(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((4, 8), np.float32))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_extreme_magnitudes_keep_their_order(seed):
    bits = np.random.default_rng(seed).integers(0, 2**32, 3000, dtype=np.uint32)
    scores = bits.view(np.float32)
    scores = scores[~np.isnan(scores)]
    assert np.array_equal(unstructured_mask(scores, 0.5), first_of_stable_sort(scores, round(0.5 * scores.size)))
