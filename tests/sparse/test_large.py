"""More than 2³¹ entries: positions in 64 bits. The entries before the last are zeros that take no memory."""

import numpy as np
import pytest

from pycomp.kernels import native

COUNT = 2**31 + 5
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))]


def zeros(shape, dtype):
    """Zeros that the system gives when they are first written; reading them costs nothing but time."""
    try:
        return np.zeros(shape, dtype)
    except MemoryError:
        pytest.skip("the system does not promise so much memory")


def test_csr_beyond_31_bits():
    data, indices = zeros(COUNT, np.float32), zeros(COUNT, np.int32)
    indptr = np.array([0, COUNT - 3, COUNT])
    data[-3:], indices[-3:] = [1, 2, 3], [0, 1, 2]
    x, y = np.array([1, 10, 100], np.float32), np.full(2, 77, np.float32)
    native.implementation("spmv_csr_f32")(x, data, indices, indptr, None, None, 0, y)
    assert y.tolist() == [0, 321]
    for m in (1, 5):
        y = np.full((m, 2), 77, np.float32)
        native.implementation("spmm_csr_f32")(x[None].repeat(m, 0), data, indices, indptr, None, None, 0, y)
        assert y.tolist() == [[0, 321]] * m


@pytest.mark.parametrize("height", [4, 16])
def test_packed_entries_beyond_31_bits(height):
    steps = COUNT // height + 3
    values, columns = zeros((steps, height), np.float32), zeros((steps, height), np.uint16)
    values[-1], columns[-1] = np.arange(height), 1
    starts = np.array([0, steps - 1, steps])
    rows = np.arange(2 * height, dtype=np.int32).reshape(2, height)
    x = np.array([1, 10], np.float32)
    expected = [0] * height + [10 * i for i in range(height)]
    if height == 16:
        y = np.full(2 * height, 77, np.float32)
        native.implementation("spmv_sell_f32")(x, values, columns, rows, starts, None, None, 0, y)
        assert y.tolist() == expected
        return
    groups = np.array([0, 2]), np.array([0, 2 * height])
    for m in (1, 5):
        y, product = np.full((m, 2 * height), 77, np.float32), native.implementation("spmm_tiles_f32")
        product(x[None].repeat(m, 0), values, columns, rows, starts, *groups, None, None, 0, y)
        assert y.tolist() == [expected] * m
