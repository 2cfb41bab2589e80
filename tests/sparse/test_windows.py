"""The layout that reads x by windows, and where it is chosen."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pycomp
from pycomp import dense
from pycomp.kernels import layouts, native
from pycomp.sparse import BSRMatrix, CSRMatrix, linear, matmul_int8, matrix, quantize


def pruned(seed, n, k, sparsity):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, k)) >= sparsity, rng.standard_normal((n, k)), 0).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 99), st.sampled_from([0, 1, 15, 63, 64, 65, 130]), st.sampled_from([0, 1, 30, 31, 32, 33, 200]),
       st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
@example(0, 64, 0, 0.0)
def test_every_entry_has_one_place_in_a_window_that_x_holds(seed, n, k, sparsity):
    a = CSRMatrix.from_dense(pruned(seed, n, k, sparsity))
    made = layouts.windows(a.indices, a.indptr, k)
    windows, slices, lanes, turns = made.places.shape
    assert (slices, lanes) == (4, 16)
    assert turns == (2 if a.nnz > 0.3 * n * k else 1)
    assert np.array_equal(np.sort(made.rows[made.rows >= 0]), np.arange(n))
    assert ((made.begins >= 0) & (made.begins <= max(k, 31) - 31)).all()
    assert made.starts[0] == 0
    assert made.starts[-1] == windows
    assert (np.diff(made.starts) >= 0).all()
    # read back: the column of each place that is not padding, and what lies there
    group = np.repeat(np.arange(len(made.rows)), np.diff(made.starts))
    place = np.moveaxis(made.places, 3, 2)[:, :, :, None, :].astype(int) >> np.array([0, 5, 10])[:, None] & 31
    taken = place != 16
    column = made.begins[:, :, None, None, None] + place - (place > 16)
    row = np.broadcast_to(made.rows[group][:, :, None, None, :], place.shape)
    values = made.values(np.arange(1, a.nnz + 1, dtype=np.int32), 0)
    assert values.shape == place.shape
    assert np.array_equal(taken, values > 0)
    got = np.zeros((n, k), np.int32)
    got[row[taken], column[taken]] = values[taken]
    expected = np.zeros((n, k), np.int32)
    expected[a._entry_rows(), a.indices] = np.arange(1, a.nnz + 1)
    assert np.array_equal(got, expected)
    # and entries of a row in order
    each = (values[group == g, s][..., r].reshape(-1)
            for g in range(len(made.rows)) for s in range(4) for r in range(16))
    assert all((np.diff(lane[lane > 0]) > 0).all() for lane in each)


@pytest.mark.parametrize("skewed", [False, True])
def test_rows_stay_together_unless_that_pads_much(skewed):
    w = pruned(0, 512, 200, 0.5)
    if skewed:
        w[:, 10:] = 0
        w[::50] = 1
    a = CSRMatrix.from_dense(w)
    for layout, together in ((layouts.windows, 64), (layouts.slices, 256)):
        rows = layout(a.indices, a.indptr, 200).rows.reshape(-1)
        part = rows // together
        assert (np.diff(part) < 0).any() == skewed
    x = np.random.default_rng(1).standard_normal((3, 200)).astype(np.float32)
    for threads in (1, 2, 5):
        with pycomp.threads(threads):
            for format in ("windows", "slices"):
                assert linear(x, a, format=format).tobytes() == dense.linear(x, w).tobytes()


@pytest.mark.skipif(native.missing() is not None, reason="there is no C core")
@pytest.mark.parametrize("level", [name for name, usable in native.levels().items() if usable])
@pytest.mark.usefixtures("at_level")
def test_the_width_of_registers(level):
    width = {"generic": 16, "neon": 16, "avx2": 32, "avxvnni": 32}.get(level, 64)
    assert native.register_bytes() == width
    full = CSRMatrix.from_dense(pruned(0, 128, 64, 0.5).astype(np.float16))
    assert full._format(1) == ("windows" if width == 64 else "slices")
    assert full._format(4) == ("windows" if width == 64 else "tiles")
    assert full._format(5) == "tiles"


def test_windows_are_chosen_where_they_are_full(monkeypatch):
    monkeypatch.setattr(native, "register_bytes", lambda: 64)

    def chosen(n, k, sparsity):
        return CSRMatrix.from_dense(pruned(0, n, k, sparsity).astype(np.float16))._format(1)

    assert chosen(64, 100, 0.5) == "windows"
    assert chosen(64, 100, 0.95) == "slices"
    assert chosen(4, 100, 0.5) == "slices"  # a group is of 64 rows
    assert chosen(64, 65536, 0.5) == "csr"
    assert matrix.windows_pay(64 * 10, (64, 100))
    assert not matrix.windows_pay(64 * 10 - 1, (64, 100))
    assert not matrix.windows_pay(64 * 10, (65, 100))
    assert quantize(CSRMatrix.from_dense(pruned(0, 64, 100, 0.5)))._format(2) == "windows"
    assert BSRMatrix.from_dense(pruned(0, 64, 100, 0.5), (1, 4))._format(1) == "windows"


@pytest.mark.skipif(native.missing() is not None, reason="there is no C core")
@pytest.mark.parametrize("turns", [0, 3])
def test_c_refuses_windows_of_other_than_one_turn_or_two(turns):
    values, places = np.zeros((1, 4, turns, 3, 16), np.float32), np.full((1, 4, 16, turns), 16, np.uint16)
    begins, rows, starts = np.zeros((1, 4), np.int32), np.full((1, 4, 16), -1, np.int32), np.array([0, 1])
    x, y = np.zeros((1, 31), np.float32), np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="refused"):
        native.implementation("spmm_windows_f32")(x, values, places, begins, rows, starts, None, None, 0, y)


@pytest.mark.skipif(native.missing() is not None, reason="there is no C core")
@pytest.mark.parametrize(("width", "kernel"), [(64, "spmv_windows_u8s8"), (32, "spmv_sell_u8s8")])
def test_codes_of_one_row_take_windows_where_those_pay(monkeypatch, width, kernel):
    monkeypatch.setattr(native, "register_bytes", lambda: width)
    rng = np.random.default_rng(0)
    for k in (100, 200):
        w = np.where(rng.random((70, k)) < 0.5, rng.integers(-127, 128, (70, k)), 0).astype(np.int8)
        a = CSRMatrix.from_dense(w)
        for x in (rng.integers(0, 256, (1, k)).astype(np.uint8), rng.integers(-128, 128, (1, k)).astype(np.int8)):
            assert np.array_equal(matmul_int8(x, a), x.astype(int) @ w.T.astype(int))
            assert pycomp.info(last=True)["kernel"] == kernel
