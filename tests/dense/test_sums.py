"""A product that goes on from a sum has the bits of one product over all of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp import dense
from pycomp.kernels import dispatch


def operands(seed, m, k, n):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), m=st.integers(1, 40), n=st.integers(1, 120), threads=st.sampled_from([1, 2, 5]),
       parts=st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_parts_one_after_the_other_equal_the_whole(seed, m, n, threads, parts):
    x, w = operands(seed, m, sum(parts), n)
    expected = dense.linear(x, w)
    y, l = np.zeros((m, n), np.float32), 0
    with pycomp.threads(threads):
        for part in parts:
            here = slice(l, l + part)
            dispatch.gemm_add_f32(np.ascontiguousarray(x[:, here]), dense.pack(w[:, here]).data, y, y)
            l += part
    assert y.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("m", "k", "n"), [(1, 3000, 100), (9, 3000, 50), (17, 1500, 1240), (300, 1100, 1000)])
def test_long_chains_go_on_in_their_own_rows(m, k, n):
    x, w = operands(0, m, k, n)
    start, wide = dense.linear(x[:, : k // 3], w[:, : k // 3]), np.full((m, n + 7), 5, np.float32)
    before = start.copy()
    rest = np.ascontiguousarray(x[:, k // 3 :]), dense.pack(w[:, k // 3 :]).data
    for count in (1, 2, 5):
        with pycomp.threads(count):
            dispatch.gemm_add_f32(*rest, start, wide[:, :n])
        assert wide[:, :n].tobytes() == dense.linear(x, w).tobytes()
    assert (wide[:, n:] == 5).all()
    assert start.tobytes() == before.tobytes()


def test_packed_weights_without_inputs_unpack_and_odd_ones_are_refused():
    assert dense.pack(np.ones((5, 0), np.float32)).unpack().shape == (5, 0)
    assert dense.pack(np.ones((0, 3), np.float32)).unpack().shape == (0, 3)
    for count, error in ((-5, ValueError), (5.0, TypeError), (None, TypeError)):
        with pytest.raises(error, match="out_features is"):
            dense.PackedMatrix(np.zeros((0, 3, 16), np.float32), count)
