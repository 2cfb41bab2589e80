"""Every form in which a matrix runs: the same bits; every class: conversions, files and bad input."""

import contextlib
import copy
import itertools
import pickle
import re
import threading
import warnings
import weakref
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp import dense
from pycomp.kernels import layouts, native
from pycomp.sparse import (
    BitmapMatrix,
    BSRMatrix,
    CodedMatrix,
    CSRMatrix,
    NMMatrix,
    advise,
    linear,
    linear_backward,
    load,
    matmul,
    matmul_int8,
    quantize,
    save,
    sddmm,
)
from pycomp.sparse.csr import stable_order

OF_ENTRIES = ("csr", "tiles", "slices", "windows", "bitmap", "dense")
"""Forms of every matrix of float32."""
ACTIVATIONS = [None, "relu", "gelu", "gelu_tanh", "silu"]


def pruned(seed, n, k, kind, sparsity=0.6):
    """A matrix of a pattern: 'any', 'nm' (2 of 4) or blocks 'hxw'."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((n, k)).astype(np.float32)
    if kind == "nm":
        keep = np.argsort(rng.random((n, k // 4, 4)), axis=2) < 2
        return np.where(keep.reshape(n, k), w, 0).astype(np.float32)
    h, b = (1, 1) if kind == "any" else map(int, kind.split("x"))
    kept = rng.random((n // h, k // b)) >= sparsity
    return (w * np.kron(kept, np.ones((h, b)))).astype(np.float32)


def same(a, b):
    """Equal bits, but for the sign of a zero, which a stored zero may change."""
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


def every_matrix(w):
    """The matrix in each class that can hold it, with the forms that it has."""
    csr = CSRMatrix.from_dense(w)
    yield csr, [*OF_ENTRIES]
    yield BitmapMatrix.from_dense(w), [*OF_ENTRIES]
    for block in ((1, 4), (4, 1), (1, 16), (16, 1), (4, 4), (16, 16), (2, 3)):
        if w.shape[0] % block[0] == 0 and w.shape[1] % block[1] == 0:
            yield BSRMatrix.from_dense(w, block), [*OF_ENTRIES, "blocks"]


@pytest.mark.parametrize("m", [1, 2, 16, 70])
@pytest.mark.parametrize("kind", ["any", "4x4", "16x1"])
def test_every_class_and_form_has_the_bits_of_the_dense_product(m, kind):
    rng = np.random.default_rng(m)
    w = pruned(m, 48, 144, kind)
    x, bias = rng.standard_normal((m, 144)).astype(np.float32), rng.standard_normal(48).astype(np.float32)
    residual = rng.standard_normal((m, 48)).astype(np.float32)
    sums = dense.linear(x, w, bias) + residual
    for activation in ACTIVATIONS:
        plain = dense.linear(x, w, bias, activation=activation)
        ended = dense.activate(sums, activation)
        for a, formats in every_matrix(w):
            for format in [None, *formats]:
                assert same(linear(x, a, bias, activation=activation, format=format), plain), (a, format)
                got = linear(x, a, bias, activation=activation, residual=residual, format=format)
                assert same(got, ended), (a, format)


@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize(("n", "of"), [(1, 4), (2, 4), (4, 8), (2, 8), (3, 16), (1, 1), (5, 5)])
def test_n_of_m_has_the_bits_of_the_dense_product(m, n, of):
    rng = np.random.default_rng(n)
    keep = np.argsort(rng.random((37, 6, of)), axis=2) < n
    w = np.where(keep.reshape(37, -1), rng.standard_normal((37, 6 * of)), 0).astype(np.float32)
    x, bias = rng.standard_normal((m, 6 * of)).astype(np.float32), rng.standard_normal(37).astype(np.float32)
    a = NMMatrix.from_dense(w, n, of)
    for format in (None, "nm", "tiles", "csr", "dense"):
        assert same(linear(x, a, bias, format=format), dense.linear(x, w, bias))
        assert same(matmul(a, x.T, format=format), dense.matmul(w, np.ascontiguousarray(x.T)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 300), st.integers(0, 300), st.floats(0, 1))
def test_forms_agree_on_any_shape(seed, m, k, n, sparsity):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((n, k)).astype(np.float32)
    w[rng.random((n, k)) < sparsity] = 0
    x = rng.standard_normal((m, k)).astype(np.float32)
    expected = dense.linear(x, w).tobytes()
    a = CSRMatrix.from_dense(w)
    for format in OF_ENTRIES:
        assert linear(x, a, format=format).tobytes() == expected, format
    assert linear(x, BitmapMatrix.from_csr(a)).tobytes() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_skewed_rows_have_their_bits_in_tiles_on_any_threads(threads):
    rng = np.random.default_rng(0)
    w = np.zeros((2500, 300), np.float32)
    for i, count in enumerate(np.minimum(300, 1 + rng.pareto(0.7, 2500).astype(int))):
        w[i, rng.choice(300, count, replace=False)] = rng.standard_normal(count)
    x = rng.standard_normal((130, 300)).astype(np.float32)
    a, expected = CSRMatrix.from_dense(w), dense.linear(x, w).tobytes()
    with pycomp.threads(threads):
        for format in ("csr", "tiles"):
            assert linear(x, a, format=format).tobytes() == expected
        for format in ("slices", "windows", "bitmap"):
            assert linear(x[:1], a, format=format).tobytes() == expected[: 4 * 2500]


@pytest.mark.parametrize("m", [1, 3])
def test_zeros_that_are_not_stored_contribute_nothing_in_any_form(m):
    w = np.zeros((20, 40), np.float32)
    w[:, 7] = 2
    x = np.full((m, 40), np.nan, np.float32)
    x[:, ::2] = np.inf
    x[:, 7] = 3
    for a in (CSRMatrix.from_dense(w), BitmapMatrix.from_dense(w)):
        for format in (None, *OF_ENTRIES):
            assert (linear(x, a, format=format) == 6).all(), format
    x[:, 7] = np.nan
    for format in OF_ENTRIES:
        assert np.isnan(linear(x, a, format=format)).all()


def test_the_last_call_says_which_kernel_ran():
    if pycomp.info()["backends"]["native"]:
        pytest.skip("other backends have other names")
    w = pruned(0, 32, 64, "16x16")
    few = "spmm_windows" if native.register_bytes() == 64 else "spmv_sell"
    x, csr = np.ones((8, 64), np.float32), CSRMatrix.from_dense(w)
    for a, rows, format, kernel in (
        (csr, 2, None, "spmm_csr_f32"), (csr, 1, None, "spmv_csr_f32"), (csr, 2, "tiles", "spmm_tiles_f32"),
        (csr, 1, "bitmap", "spmm_bitmap_f32"), (csr, 2, "dense", "gemm_f32"),
        (BSRMatrix.from_dense(w, (16, 16)), 2, None, "spmm_bsr_f32"),
        (BSRMatrix.from_dense(w, (16, 16)), 1, None, "spmv_bsr_f32"),
        (BSRMatrix.from_dense(w, (1, 4)), 1, None, f"{few}_f32"),
        (quantize(csr), 1, None, f"{few}_s8"), (quantize(csr, bits=4), 8, None, "spmm_tiles_s4"),
        (csr, 1, "slices", "spmv_sell_f32"), (csr, 3, "windows", "spmm_windows_f32"),
    ):
        linear(x[:rows], a, format=format)
        assert pycomp.info(last=True)["kernel"] == kernel


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_the_product_and_not_what_ends_it_is_said_to_have_run_last(activation):
    x, a = np.ones((2, 64), np.float32), CSRMatrix.from_dense(pruned(0, 32, 64, "any"))
    linear(x, a, activation=activation, residual=np.ones((2, 32), np.float32), format="dense")
    assert pycomp.info(last=True)["kernel"] == "gemm_f32"


def orders(a):
    """An array in other orders in memory, each also as one that nobody can write."""
    for other in (np.asfortranarray(a), a.swapaxes(-1, -2).copy().swapaxes(-1, -2), np.repeat(a, 2, -1)[..., ::2]):
        fixed = other.copy(order="K")
        fixed.flags.writeable = False
        yield from (other, fixed)


@pytest.mark.parametrize("m", [1, 5])
def test_arrays_in_any_order_make_the_same_matrix(m):
    x, codes = np.random.default_rng(m).standard_normal((m, 48)).astype(np.float32), np.arange(m * 48, dtype=np.uint8)
    blocks = [BSRMatrix.from_dense(pruned(1, 32, 48, "4x4"), block) for block in ((4, 4), (16, 16), (1, 3))]
    whole = BSRMatrix.from_dense((9 * pruned(1, 32, 48, "4x4")).astype(np.int8), (4, 4))
    others = NMMatrix.from_dense(pruned(1, 32, 48, "nm"), 2, 4), BitmapMatrix.from_dense(pruned(1, 32, 48, "any"))
    for a in (*blocks, whole, *others):
        names = [field for field in a.__dataclass_fields__ if hasattr(a, field)]
        arrays = {name: getattr(a, name) for name in names}
        for changed in (name for name in a._arrays if arrays[name].ndim > 1):
            for other in orders(arrays[changed]):
                b = type(a)(**{**arrays, changed: other})
                assert getattr(b, changed).flags.c_contiguous
                for format in (None, *OF_ENTRIES):
                    assert linear(x, b, format=format).tobytes() == linear(x, a, format=format).tobytes()
                if a is whole:
                    rows = codes.reshape(m, 48)
                    assert matmul_int8(rows, b).tobytes() == matmul_int8(rows, a).tobytes()


# -- types of values
@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8"])
def test_values_are_widened_exactly(m, name):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    rng = np.random.default_rng(0)
    w = pruned(3, 50, 90, "any") * (40 if name == "int8" else 1)
    w = (np.clip(np.rint(w), -128, 127) if name == "int8" else w).astype(dtype)
    x = rng.standard_normal((m, 90)).astype(np.float32)
    a = CSRMatrix.from_dense(w)
    assert a.dtype == dtype
    assert (a.to_dense() == w).all()
    for format in (None, *OF_ENTRIES):
        assert same(linear(x, a, format=format), dense.linear(x, w.astype(np.float32))), format


def test_special_halves_are_widened():
    halves = np.array([1.0, -0.0, 6e-8, -5e-5, np.inf, -np.inf, np.nan, 65504], np.float16)
    for m in (1, 3):
        for format in ("tiles", "slices", "windows"):
            a = CSRMatrix(halves, np.zeros(len(halves), np.int32), np.arange(len(halves) + 1), (len(halves), 1))
            got = linear(np.ones((m, 1), np.float32), a, format=format)
            assert np.array_equal(got, np.tile(halves.astype(np.float32), (m, 1)), equal_nan=True)


@pytest.mark.parametrize("m", [1, 4])
def test_float64_keeps_its_precision(m):
    rng = np.random.default_rng(1)
    w = rng.standard_normal((30, 50))
    w[rng.random(w.shape) < 0.7] = 0
    x, bias = rng.standard_normal((m, 50)), rng.standard_normal(30)
    residual = rng.standard_normal((m, 30))
    a = CSRMatrix.from_dense(w)
    exact = (x.astype(np.longdouble) @ w.T + bias + residual).astype(np.float64)
    assert np.abs(linear(x, a, bias, residual=residual) - exact).max() < 1e-14
    assert same(linear(x, a, bias, activation="relu"), np.maximum(linear(x, a, bias), 0))
    assert np.abs(matmul(a, x.T) - w @ x.T).max() < 1e-14
    for i in range(m):
        assert linear(x[i : i + 1], a).tobytes() == linear(x, a)[i : i + 1].tobytes()
    with pytest.raises(ValueError, match="activation is 'gelu', expected None, 'identity' or 'relu' for float64"):
        linear(x, a, activation="gelu")
    with pytest.raises(TypeError, match="x has dtype float32, expected float64"):
        linear(x.astype(np.float32), a)
    with pytest.raises(ValueError, match="expected 'csr' for a matrix of float64"):
        linear(x, a, format="tiles")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("m", [1, 4])
def test_codes_are_within_half_a_step_and_products_within_their_bound(bits, m):
    rng = np.random.default_rng(2)
    w = pruned(4, 60, 100, "any")
    a = CSRMatrix.from_dense(w)
    q = quantize(a, bits=bits)
    assert (np.abs(q.to_dense() - w) <= 0.5000001 * q.scale[:, None] * (w != 0)).all()
    x, bias = rng.standard_normal((m, 100)).astype(np.float32), rng.standard_normal(60).astype(np.float32)
    codes = q.codes.to_dense().astype(np.float64)
    exact = x @ (codes * q.scale[:, None]).T + bias
    entries, u = np.diff(q.codes.indptr), 2.0**-24
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(codes * q.scale[:, None]).T
    bound = 1.01 * (entries + 2) * u * magnitude + u * np.abs(exact)
    got = [linear(x, q, bias, format=format) for format in ("tiles", "slices", "windows")]
    assert (np.abs(got[0] - exact) <= bound).all()
    assert got[0].tobytes() == got[1].tobytes() == got[2].tobytes() == linear(x, q, bias).tobytes()
    small = q.nbytes
    assert small < a.nbytes
    with pytest.raises(ValueError, match="expected one of 'tiles', 'slices', 'windows' for a CodedMatrix"):
        linear(x, q, format="csr")


def test_a_row_of_zeros_and_extremes_can_be_coded():
    a = CSRMatrix(np.array([0, 1e-45, 3e38], np.float32), np.array([1, 0, 0], np.int32), np.array([0, 1, 2, 3]), (3, 2))
    q = quantize(a)
    assert q.scale[0] == 1
    assert np.isfinite(q.scale).all()
    assert (q.scale > 0).all()
    assert q.codes.data.tolist() == [0, 0, 127]


# -- conversions
def test_conversions_keep_every_entry():
    w = pruned(5, 32, 48, "16x16")
    csr = CSRMatrix.from_dense(w)
    for a in (csr, BitmapMatrix.from_csr(csr), BSRMatrix.from_csr(csr, (4, 4)), BSRMatrix.from_csr(csr, (16, 1)),
              NMMatrix.from_csr(CSRMatrix.from_dense(pruned(5, 32, 48, "nm")), 2, 4)):
        expected = pruned(5, 32, 48, "nm") if isinstance(a, NMMatrix) else w
        assert (a.to_dense() == expected).all()
        assert (a.to_csr().to_dense() == expected).all()
        assert (a.to_scipy().toarray() == expected).all()
        assert a.shape == (32, 48)
        assert 0 <= a.sparsity < 1
        assert a.nbytes > 0
        coded = quantize(csr)
        assert not copy.deepcopy(coded).scale.flags.writeable
        assert (pickle.loads(pickle.dumps(coded)).to_dense() == coded.to_dense()).all()
        again = pickle.loads(pickle.dumps(a))
        assert (again.to_dense() == expected).all()
        assert (copy.deepcopy(a).to_dense() == expected).all()
        assert type(a).__name__ in repr(a)
        assert same(a @ np.eye(48, dtype=np.float32), expected)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(2, 4), (1, 4), (3, 5), (4, 4)]))
def test_n_of_m_keeps_its_places_through_csr(seed, pattern):
    n, m = pattern
    rng = np.random.default_rng(seed)
    places = np.sort(np.argsort(rng.random((7, 3, m)), axis=2)[:, :, :n], axis=2).astype(np.uint8).reshape(7, 3 * n)
    data = rng.choice(np.array([0, -0.0, 1, np.nan], np.float32), (7, 3 * n))
    a = NMMatrix.from_places(data, places, n, m)
    assert (a.unpacked_places() == places).all()
    assert a.nbytes == data.nbytes + 7 * (-(-3 * n // 2))
    again = [NMMatrix.from_csr(a.to_csr(), n, m)]
    with contextlib.suppress(ImportError):
        again.append(NMMatrix.from_scipy(a.to_scipy(), n, m))
    for b in again:
        assert (b.data.tobytes(), b.places.tobytes()) == (a.data.tobytes(), a.places.tobytes())


def test_n_of_m_takes_stored_zeros_and_then_the_first_free_places():
    csr = CSRMatrix(np.array([0, 5, 6], np.float32), np.array([3, 6, 7], np.int32), np.array([0, 1, 3]), (2, 8))
    a = NMMatrix.from_csr(csr, 2, 4)
    assert a.unpacked_places().tolist() == [[0, 3, 0, 1], [0, 1, 2, 3]]
    assert a.data.tolist() == [[0, 0, 0, 0], [0, 0, 5, 6]]
    full = CSRMatrix(np.zeros(4, np.float32), np.array([0, 4, 5, 7], np.int32), np.array([0, 0, 4]), (2, 8))
    with pytest.raises(ValueError, match="group 1 of row 1 has 3 entries in columns 4 to 7, expected at most 2"):
        NMMatrix.from_csr(full, 2, 4)


def test_scipy_blocks_that_nobody_can_write_are_shared():
    sparse = pytest.importorskip("scipy.sparse")
    w = pruned(6, 32, 48, "4x4")
    theirs = sparse.bsr_array(w, blocksize=(4, 4))
    theirs.data, theirs.indices = theirs.data.copy(), theirs.indices.copy()
    assert not np.may_share_memory(BSRMatrix.from_scipy(theirs).data, theirs.data)
    for array in (theirs.data, theirs.indices):
        array.flags.writeable = False
    for a in (BSRMatrix.from_scipy(theirs), BSRMatrix.from_scipy(theirs, (4, 4))):
        assert np.shares_memory(a.data, theirs.data)
        assert np.shares_memory(a.indices, theirs.indices)
    assert (BSRMatrix.from_scipy(theirs, (2, 4)).to_dense() == w).all()
    shared = a.to_scipy(copy=False)
    assert np.shares_memory(shared.data, a.data)
    assert np.shares_memory(shared.indices, a.indices)
    assert not shared.data.flags.writeable
    assert (shared.toarray() == w).all()
    assert np.shares_memory(BSRMatrix.from_scipy(shared).data, a.data)
    assert not np.may_share_memory(a.to_scipy().data, a.data)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_scipy_blocks_out_of_order_are_sorted_and_added(dtype):
    sparse = pytest.importorskip("scipy.sparse")
    data = np.arange(1, 13).reshape(3, 2, 2).astype(dtype)
    theirs = sparse.bsr_array((data, np.array([1, 0, 1]), np.array([0, 3])), shape=(2, 4))
    a = BSRMatrix.from_scipy(theirs)
    assert a.dtype == dtype
    assert a.indices.tolist() == [0, 1]
    assert a.to_dense().tolist() == [[5, 6, 10, 12], [7, 8, 14, 16]]


def test_scipy_blocks_keep_their_size():
    sparse = pytest.importorskip("scipy.sparse")
    w = pruned(6, 32, 48, "4x4")
    a = BSRMatrix.from_scipy(sparse.bsr_array(w, blocksize=(4, 4)))
    assert a.block == (4, 4)
    assert (a.to_dense() == w).all()
    assert a.to_scipy().blocksize == (4, 4)
    assert BSRMatrix.from_scipy(sparse.csr_array(w), (2, 2)).block == (2, 2)
    with pytest.raises(ValueError, match="block is None"):
        BSRMatrix.from_scipy(sparse.csr_array(w))


def test_scipy_arrays_that_nobody_can_write_are_shared():
    sparse = pytest.importorskip("scipy.sparse")
    theirs = sparse.csr_array(pruned(0, 9, 20, "any"))
    theirs.data, theirs.indices = theirs.data.copy(), theirs.indices.copy()
    assert not np.may_share_memory(CSRMatrix.from_scipy(theirs).data, theirs.data)
    for array in (theirs.data, theirs.indices):
        array.flags.writeable = False
    a = CSRMatrix.from_scipy(theirs)
    assert np.shares_memory(a.data, theirs.data)
    shared = a.to_scipy(copy=False)
    assert np.may_share_memory(shared.data, a.data)
    assert np.may_share_memory(shared.indices, a.indices)
    assert np.shares_memory(CSRMatrix.from_scipy(shared).data, a.data)
    assert not shared.data.flags.writeable
    assert not np.may_share_memory(a.to_scipy().data, a.data)


def test_what_the_owner_does_with_his_array_objects_does_not_reach_the_matrix():
    data, indices, indptr = np.ones(2, np.float32), np.arange(2, dtype=np.int32), np.arange(3)
    for array in (data, indices, indptr):
        array.flags.writeable = False
    a = CSRMatrix(data, indices, indptr, (2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.dtype, indptr.dtype, indices.shape = np.int32, np.int32, (2, 1)
    np.testing.assert_array_equal(a @ np.eye(2, dtype=np.float32), np.eye(2))


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr"])
@pytest.mark.parametrize("kind", ["i2", "u1", "u4", "u8", ">i4", ">i8"])
def test_scipy_indices_may_be_any_integers(layout, kind):
    sparse = pytest.importorskip("scipy.sparse")
    w = pruned(0, 8, 12, "any")
    theirs = sparse.csr_array(w).asformat(layout)
    for name in ("row", "col") if layout == "coo" else ("indices", "indptr"):
        if layout == "coo":
            theirs.coords = tuple(c.astype(kind) for c in theirs.coords)
        else:
            setattr(theirs, name, getattr(theirs, name).astype(kind))
    np.testing.assert_array_equal(CSRMatrix.from_scipy(theirs).to_dense(), w)


def test_transposing_again_and_again_takes_no_memory():
    a = CSRMatrix.from_dense(pruned(0, 40, 60, "any"))
    b = a.T
    again = b.T
    assert again._pattern is a._pattern
    assert again.T._pattern is b._pattern
    np.testing.assert_array_equal(again.to_dense(), a.to_dense())
    np.testing.assert_array_equal(b.with_data(2 * b.data).T.to_dense(), 2 * a.to_dense())
    kept, w = weakref.ref(a._pattern), a.to_dense()
    del a, again
    assert kept() is None  # nothing goes round in a circle
    np.testing.assert_array_equal(b.T.to_dense(), w)
    assert b.T.T._pattern is b._pattern


def test_transposes_made_by_threads_at_once_are_whole():
    rng = np.random.default_rng(0)
    indices = np.concatenate([np.sort(rng.choice(4000, 1000, replace=False)) for _ in range(600)])
    for _ in range(8):  # whether one thread sees what another has begun is chance
        a = CSRMatrix(np.arange(600_000, dtype=np.float32), indices, np.arange(0, 600_001, 1000), (600, 4000))
        turned, equal, start = a.T, [], threading.Barrier(4)

        def turn(a=a, turned=turned, equal=equal, start=start):
            start.wait()
            equal.append(np.array_equal(turned.T.data, a.data))

        threads = [threading.Thread(target=turn) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert equal == [True] * 4


def test_files_that_scipy_reads_are_read(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    w = pruned(0, 8, 12, "any")
    theirs = sparse.csr_array(w)
    theirs.data, theirs.indices = np.append(theirs.data, np.float32(9)), np.append(theirs.indices, np.int32(0))
    sparse.save_npz(tmp_path / "room.npz", theirs)
    np.testing.assert_array_equal(load(tmp_path / "room.npz").to_dense(), w)
    a = CSRMatrix.from_dense(w)
    np.savez(tmp_path / "text.npz", data=a.data, indices=a.indices, indptr=a.indptr, shape=a.shape, format="csr")
    np.testing.assert_array_equal(load(tmp_path / "text.npz").to_dense(), w)


def test_a_damaged_compressed_file_is_a_format_error(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(np.eye(50, dtype=np.float32)))
    whole = (tmp_path / "a.npz").read_bytes()
    for at in range(0, len(whole), 7):
        (tmp_path / "b.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(pycomp.FormatError):
            assert load(tmp_path / "b.npz").shape == (50, 50)


def test_a_matrix_of_blocks_in_files(tmp_path):
    a = BSRMatrix.from_dense(pruned(7, 16, 32, "4x4"), (4, 4))
    save(tmp_path / "a.npz", a)
    again = load(tmp_path / "a.npz")
    assert again.block == (4, 4)
    assert (again.to_dense() == a.to_dense()).all()
    sparse = pytest.importorskip("scipy.sparse")
    assert (sparse.load_npz(tmp_path / "a.npz").toarray() == a.to_dense()).all()
    sparse.save_npz(tmp_path / "b.npz", sparse.bsr_array(a.to_dense(), blocksize=(2, 2)))
    assert (load(tmp_path / "b.npz").to_dense() == a.to_dense()).all()
    sparse.save_npz(tmp_path / "b.npz", sparse.csr_array(a.to_dense()[::-1].T).tobsr((2, 2)))  # does not sort blocks
    assert (load(tmp_path / "b.npz").to_dense() == a.to_dense()[::-1].T).all()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("make", [
    lambda w: NMMatrix.from_dense(w, 2, 4), BitmapMatrix.from_dense,
    lambda w: quantize(CSRMatrix.from_dense(w), bits=4), lambda w: quantize(CSRMatrix.from_dense(w)),
])
def test_matrices_that_scipy_lacks_keep_their_form_in_files(tmp_path, make, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    a, path = make(pruned(7, 6, 16, "nm")), tmp_path / f"a{suffix}"
    save(path, a)
    again = load(path)
    assert type(again) is type(a)
    assert again.nbytes == a.nbytes
    assert getattr(again, "bits", None) is getattr(a, "bits", None) or np.array_equal(again.bits, a.bits)
    x = np.random.default_rng(0).standard_normal((3, 16), np.float32)
    assert linear(x, again).tobytes() == linear(x, a).tobytes()
    if suffix == ".npz":
        arrays = dict(np.load(path))
        name = next(n for n in ("m", "columns", "bits") if n in arrays and arrays[n].ndim == 0)
        for wrong, message in (([1, 2], f"{name} is an array int64 \\(2,\\), expected one integer"), (99, "99")):
            np.savez(path, **{**arrays, name: wrong})
            with pytest.raises(pycomp.FormatError, match=message):
                load(path)


def test_every_matrix_goes_to_scipy_with_and_without_a_copy():
    pytest.importorskip("scipy")
    w = pruned(7, 6, 16, "nm")
    for a in (NMMatrix.from_dense(w, 2, 4), BitmapMatrix.from_dense(w), CSRMatrix.from_dense(w),
              BSRMatrix.from_dense(w, (2, 2))):
        assert all((a.to_scipy(copy=flag).toarray() == w).all() for flag in (True, False))


def test_blocks_as_others_make_them():
    w = pruned(3, 8, 12, "4x4")
    a = BSRMatrix.from_dense(w, (4, 4))
    order = np.concatenate([np.arange(s, e)[::-1] for s, e in itertools.pairwise(a.indptr)])
    for kind in (np.int16, np.uint64, ">i8"):
        b = BSRMatrix.from_arrays(a.data[order], a.indices[order].astype(kind), a.indptr.astype(kind), a.shape)
        assert (b.indices == a.indices).all()
        assert b.data.tobytes() == a.data.tobytes()
    twice = BSRMatrix.from_arrays(np.ones((3, 1, 2), np.int8), [1, 0, 1], [0, 3], (1, 4))
    assert twice.data.tolist() == [[[1, 1]], [[2, 2]]]
    with pytest.raises(ValueError, match="row of blocks 0, column 1 add up to 200, expected an int8"):
        BSRMatrix.from_arrays(np.full((2, 1, 2), 100, np.int8), [1, 1], [0, 2], (1, 4))
    with pytest.raises(ValueError, match=r"indices\[0\] in row of blocks 0 is 2, expected 0 to 1"):
        BSRMatrix.from_arrays(np.ones((1, 1, 2), np.int8), [2], [0, 1], (1, 4))


@pytest.mark.parametrize("name", ["float64", "float16", "bfloat16", "int8"])
def test_values_of_other_types_in_files(tmp_path, name):
    pytest.importorskip("safetensors")
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    a = CSRMatrix.from_dense((8 * pruned(8, 9, 12, "any")).astype(dtype))
    for suffix in (".npz", ".safetensors"):
        if name == "bfloat16" and suffix == ".npz":
            with pytest.raises(TypeError, match="values of bfloat16"):
                save(tmp_path / f"a{suffix}", a)
            continue
        save(tmp_path / f"a{suffix}", a)
        again = load(tmp_path / f"a{suffix}")
        assert again.dtype == dtype
        assert (again.to_dense() == a.to_dense()).all()


def test_a_type_that_numpy_lacks_is_said_to_be_the_matter(tmp_path):
    pytest.importorskip("safetensors")
    header = b'{"data":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"12")
    with pytest.raises(pycomp.FormatError, match="data is of type F8_E4M3"):
        load(tmp_path / "a.safetensors")


def test_float64_is_rounded_to_bfloat16_once():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    values = np.array([[1 + 2**-8 + 2**-30, 1 + 2**-8, 1 + 3 * 2**-8 - 2**-30, -1 - 2**-8 - 2**-40, 1e300, 3.4e38]])
    expected = [1 + 2**-7, 1, 1 + 2**-7, -1 - 2**-7, np.inf, np.inf]
    assert CSRMatrix.from_dense(values).astype(bfloat16).to_dense().astype(np.float64).tolist() == [expected]
    x = np.random.default_rng(0).standard_normal((1, 2000)) * 1e3
    near = x.astype(np.float32).astype(bfloat16)
    once = CSRMatrix.from_dense(x).astype(bfloat16).to_dense()
    assert (np.abs(once.astype(np.float64) - x) <= np.abs(near.astype(np.float64) - x)).all()


# -- bad input
MALFORMED = {
    "csc, a row past the end": lambda s, v: s.csc_array((v, [0, 10**8, 1], [0, 1, 2, 3]), shape=(3, 3)),
    "csc, a negative row": lambda s, v: s.csc_array((v, [0, -10**8, 1], [0, 1, 2, 3]), shape=(3, 3)),
    "csc, indptr": lambda s, v: s.csc_array((v, [0, 1, 2], [0, 3, 1, 3]), shape=(3, 3)),
    "bsr, a column past the end": lambda s, v: s.bsr_array((v.reshape(3, 1, 1), [0, 1, 7], [0, 1, 2, 3]), shape=(3, 3)),
    "coo, a row past the end": lambda s, v: s.coo_array((v, ([0, 1, 2], [0, 1, 2])), shape=(3, 3)),
    "csr, indptr": lambda s, v: s.csr_array((v, [0, 1, 2], [0, 3, 1, 3]), shape=(3, 3)),
}


@pytest.mark.parametrize("make", MALFORMED.values(), ids=MALFORMED)
def test_malformed_matrices_of_scipy_are_refused_before_scipy_reads_them(make):
    sparse = pytest.importorskip("scipy.sparse")
    try:
        a = make(sparse, np.ones(3, np.float32))
    except (ValueError, IndexError):
        pytest.skip("SciPy finds it")
    if a.format == "coo":
        a.coords[0][1] = 10**8
    if a.format == "bsr":
        a.indices[2] = 10**8
    for take in (CSRMatrix.from_scipy, BitmapMatrix.from_scipy, lambda a: BSRMatrix.from_scipy(a, (1, 1)),
                 lambda a: NMMatrix.from_scipy(a, 1, 1)):
        with pytest.raises(ValueError, match=r"expected 0 to 2|indptr decreases"):
            take(a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@given(seed=st.integers(0, 2**32))
def test_every_door_adds_up_repeated_entries_alike(dtype, seed):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(seed)
    row, column = np.sort(rng.integers(0, 4, 40)), rng.integers(0, 5, 40)
    data = (rng.standard_normal(40) * 10.0 ** rng.integers(-3, 4, 40)).astype(dtype) if dtype != np.int8 else (
        rng.integers(-9, 9, 40).astype(dtype))
    coo = sparse.coo_array((data, (row, column)), shape=(4, 5))
    indptr = np.searchsorted(row, np.arange(5))
    csr = sparse.csr_array((data, column, indptr), shape=(4, 5))
    expected = CSRMatrix.from_arrays(data, column, indptr, (4, 5))
    order = np.argsort(column, kind="stable")
    csc = sparse.csc_array((data[order], row[order], np.searchsorted(column[order], np.arange(6))), shape=(4, 5))
    for a in (coo, csr, csc):
        made = CSRMatrix.from_scipy(a)
        assert made.data.tobytes() == expected.data.tobytes()
        assert (made.indices == expected.indices).all()
    with pytest.raises(ValueError, match=r"row 0, column 0 add up to 200, expected an int8"):
        CSRMatrix.from_scipy(sparse.coo_array((np.array([100, 100], np.int8), ([0, 0], [0, 0])), shape=(1, 1)))


@given(seed=st.integers(0, 2**32), most=st.lists(st.sampled_from([1, 3, 70_000, 2**33, 2**50]), min_size=1, max_size=2))
def test_entries_are_ordered_as_a_lexicographic_sort_orders_them(seed, most):
    rng = np.random.default_rng(seed)
    keys = [rng.integers(0, high, 40) for high in most]
    np.testing.assert_array_equal(stable_order(*keys), np.lexsort(keys))


def test_other_formats_of_scipy_are_taken_too():
    sparse = pytest.importorskip("scipy.sparse")
    w = pruned(3, 6, 8, "any")
    for kind in (sparse.coo_array, sparse.csc_array, sparse.csr_array, sparse.lil_array, sparse.dok_array,
                 sparse.dia_array, lambda w: sparse.bsr_array(w, blocksize=(3, 4))):
        assert (CSRMatrix.from_scipy(kind(w)).to_dense() == w).all()


def test_many_entries_of_one_place_take_one_pass():
    count = 300_000  # a pass for each of them took half a minute
    a = CSRMatrix.from_arrays(np.ones(count), np.zeros(count, np.int64), [0, count], (1, 1))
    assert a.data.tolist() == [count]


def test_results_do_not_depend_on_how_numpy_treats_overflow():
    w = np.full((2, 2), 3e38, np.float32)
    a = CSRMatrix.from_dense(w)
    with np.errstate(all="raise"):
        for form in ("csr", "dense", "tiles"):
            assert (linear(w, a, residual=w, format=form) == np.inf).all()
        assert CSRMatrix.from_arrays(w[0], [0, 0], [0, 2], (1, 1)).data.tolist() == [np.inf]
        assert CSRMatrix.from_dense(np.full((1, 1), 1e300)).astype(np.float32).data.tolist() == [np.inf]
        wide = CSRMatrix.from_dense(np.full((1, 1), 1e300))
        assert (linear(np.full((1, 1), 1e300), wide, bias=np.ones(1)) == np.inf).all()


def test_what_cannot_run_is_refused_when_it_is_made():
    with pytest.raises(ValueError, match=r"a has 70000 columns, expected at most 65535"):
        quantize(CSRMatrix.from_arrays(np.ones(1, np.float32), [69999], [0, 1], (1, 70000)))
    with pytest.raises(ValueError, match=r"shape\[1\] is 2147483648, expected from 0 to 2147483647"):
        NMMatrix(np.zeros((1, 2**27), np.float32), np.zeros((1, 2**26), np.uint8), 1, 16)
    with pytest.raises(TypeError, match=r"format is \['csr'\], expected a name or None"):
        linear(np.ones((1, 1), np.float32), CSRMatrix.from_dense(np.ones((1, 1), np.float32)), format=["csr"])
    assert quantize(CSRMatrix.from_dense(np.ones((1, 1), np.float32)), bits=np.int64(8)).bits == 8
    with pytest.raises(TypeError, match=r"bits is \[8\], expected an integer"):
        quantize(CSRMatrix.from_dense(np.ones((1, 1), np.float32)), bits=[8])


@pytest.mark.parametrize(("call", "name", "expected"), [
    (lambda a: linear(np.ones((1, 9), np.float32), a), "a", "sparse matrix"),
    (lambda a: matmul(a, np.ones((9, 1), np.float32)), "a", "sparse matrix"),
    (advise, "a", "sparse matrix of float32"),
    (lambda a: matmul_int8(np.ones((1, 9), np.uint8), a), "a", "BSRMatrix or CSRMatrix of int8"),
    (lambda a: linear_backward(*np.ones((2, 1, 9), np.float32), a), "a", "CSRMatrix of float32"),
    (lambda a: sddmm(a, np.ones((9, 1), np.float32), np.ones((1, 9), np.float32)), "pattern", "CSRMatrix"),
    (quantize, "a", "CSRMatrix of float32"),
    (lambda a: CodedMatrix(a, np.ones(9, np.float32)), "codes", "CSRMatrix of int8"),
    (lambda a: BSRMatrix.from_csr(a, (3, 3)), "a", "CSRMatrix of float32 or int8"),
    (lambda a: NMMatrix.from_csr(a, 1, 3), "a", "CSRMatrix of float32"),
    (BitmapMatrix.from_csr, "a", "CSRMatrix of float32"),
    (lambda a: save("a.npz", a), "a", "sparse matrix"),
])
def test_what_is_no_sparse_matrix_is_named_by_its_type(call, name, expected):
    w = np.ones((9, 9), np.float32)
    for a, found, hint in (
        (w, "ndarray", f"; CSRMatrix.from_dense({name}) makes one"),
        (namedtuple("Scipy", "tocsr")(None), "Scipy", f"; CSRMatrix.from_scipy({name}) makes one"),
        (None, "NoneType", ""),
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(f'{name} is a {found}, expected a {expected}{hint}')}$"):
            call(a)


@pytest.mark.parametrize("call", [
    lambda a: BSRMatrix.from_csr(a, (3, 3)), lambda a: NMMatrix.from_csr(a, 1, 3), quantize,
    lambda a: linear_backward(*np.ones((2, 1, 9), np.float32), a),
])
def test_a_matrix_of_another_type_is_told_how_to_get_there(call):
    a = CSRMatrix.from_dense(np.ones((9, 9), np.float16))
    with pytest.raises(TypeError, match=r"^a is a CSRMatrix of float16, .*; convert it with a.astype\(np.float32\)$"):
        call(a)


@pytest.mark.parametrize("indptr", [["0", "1"], [False, True], ["2000-01-01", "2000-01-02"]])
def test_row_ends_of_scipy_that_are_no_integers_are_refused_by_name(indptr):
    sparse = pytest.importorskip("scipy.sparse")
    a = sparse.csr_array(np.ones((1, 1), np.float32))
    a.indptr = np.array(indptr, "M8[D]" if "-" in str(indptr) else None)
    with pytest.raises(TypeError, match=r"^indptr has dtype \w+.*, expected integers$"):
        CSRMatrix.from_scipy(a)


def test_a_signaling_nan_is_an_entry_like_any_other():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    w = np.array([[0x7F81, 0]], np.uint16).view(ml_dtypes.bfloat16)
    with np.errstate(all="raise"):
        assert CSRMatrix.from_dense(w).nnz == 1


@pytest.mark.parametrize("at_once", [1, 40, 1 << 22])
@pytest.mark.parametrize(("rows", "columns"), [
    (1, 70), (7, 3), (8, 5), (9, 5), (16, 20), (40, 1), (50, 70), (0, 3), (3, 0)])
def test_a_bitmap_is_laid_out_by_slices_then_columns(rows, columns, at_once, monkeypatch):
    monkeypatch.setattr(layouts, "AT_ONCE", at_once)
    a = CSRMatrix.from_dense(pruned(rows, rows, columns, "any"))
    values, bits, starts = layouts.bitmap(a.data, a.indices, a.indptr, columns)
    padded = np.zeros((-(-rows // 16) * 16, columns), np.float32)
    padded[:rows] = a.to_dense()
    slices = padded.reshape(len(padded) // 16, 16, columns).transpose(0, 2, 1)
    assert (bits == ((slices != 0) << np.arange(16)).sum(axis=2)).all()
    assert values.tolist() == [*slices[slices != 0], *[0] * 16]
    assert starts.tolist() == [0, *np.cumsum((slices != 0).sum(axis=(1, 2)))]


@pytest.mark.parametrize("make", [BitmapMatrix.from_scipy, lambda a: NMMatrix.from_scipy(a, 2, 4)])
def test_other_types_of_scipy_are_named_as_given(make):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"a has dtype float64, expected float32; convert it with a\.astype"):
        make(sparse.csr_array(np.eye(4)))


@pytest.mark.parametrize("a", [
    BSRMatrix.from_dense(np.eye(4, dtype=np.float32), (2, 2)), NMMatrix.from_dense(np.eye(4, dtype=np.float32), 1, 4),
    BitmapMatrix.from_dense(np.eye(4, dtype=np.float32)), quantize(CSRMatrix.from_dense(np.eye(4, dtype=np.float32))),
], ids=lambda a: type(a).__name__)
def test_what_only_a_csr_matrix_can_do_is_said_to_take_one(a):
    for error, ask in ((TypeError, lambda: a[1:3]), (AttributeError, lambda: a.T)):
        with pytest.raises(error, match=rf"^no {type(a).__name__} .*to_csr\(\) makes a CSRMatrix"):
            ask()
    assert not hasattr(a, "T")
    with pytest.raises(TypeError, match="not iterable"):
        iter(a)
    with pytest.raises(TypeError, match=r"codes\.to_csr\(\) makes a CSRMatrix"):
        CodedMatrix(a, np.ones(4, np.float32))


def test_indptr_of_blocks_may_have_32_bits():
    a = BSRMatrix(**{**BLOCKS, "indptr": BLOCKS["indptr"].astype(np.int32)})
    assert a.indptr.dtype == np.int64
    assert (a.to_dense() == BSRMatrix(**BLOCKS).to_dense()).all()


BLOCKS = {"data": np.ones((2, 2, 2), np.float32), "indices": np.array([0, 1], np.int32),
          "indptr": np.array([0, 1, 2]), "shape": (4, 4)}


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"data": np.ones((2, 2, 2))}, TypeError, "data has dtype float64, expected float32 or int8; convert it"),
    ({"data": np.ones((2, 4), np.float32)}, ValueError, "data has 2 dimensions"),
    ({"data": np.ones((3, 2, 2), np.float32)}, ValueError, "indices has 2 elements, data has 3"),
    ({"shape": (5, 4)}, ValueError, r"\(5, 4\) does not divide into blocks \(2, 2\)"),
    ({"shape": [4, 4]}, TypeError, "shape is"),
    ({"indices": np.array([0, 2], np.int32)}, ValueError, r"indices\[1\] in row of blocks 1 is 2, expected 0 to 1"),
    ({"indices": np.array([0, -1])}, ValueError, r"indices\[1\] in row of blocks 1 is -1"),
    ({"indptr": np.array([0, 2])}, ValueError, "indptr has 2 elements, expected 3 for 2 rows of blocks"),
    ({"indptr": np.array([0, 2, 1])}, ValueError, "indptr decreases"),
    ({"indptr": np.array([0, 2, 2]), "indices": np.array([1, 0], np.int32)}, ValueError,
     "row of blocks 0 is not sorted"),
    ({"indptr": np.array([0, 2, 2]), "indices": np.array([1, 1], np.int32)}, ValueError,
     "row of blocks 0 has column 1 twice"),
    ({"data": np.ones((2, 0, 2), np.float32)}, ValueError, "does not divide"),
])
def test_blocks_that_make_no_matrix_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        BSRMatrix(**{**BLOCKS, **change})


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda w: BSRMatrix.from_dense(w, (3, 4)), ValueError, "does not divide into blocks"),
    (lambda w: BSRMatrix.from_dense(w, (0, 4)), ValueError, r"block\[0\] is 0"),
    (lambda w: BSRMatrix.from_dense(w, 4), TypeError, "block is 4"),
    (lambda w: BSRMatrix.from_csr(w, (4, 4)), TypeError, "expected a CSRMatrix"),
    (lambda w: NMMatrix.from_dense(w, 2, 4), ValueError, "row 0 has 4 non-zeros in columns 0 to 3, expected at most 2"),
    (lambda w: NMMatrix.from_dense(w, 2, 3), ValueError, "w has 16 columns, expected a multiple of m = 3"),
    (lambda w: NMMatrix.from_csr(CSRMatrix.from_dense(w), 2, 3), ValueError, "a has 16 columns, expected a multiple"),
    (lambda w: NMMatrix.from_csr(CSRMatrix.from_dense(w.astype(float)), 2, 4), TypeError,
     "a is a CSRMatrix of float64, expected a CSRMatrix of float32"),
    (lambda w: NMMatrix.from_dense(w, 5, 4), ValueError, "n is 5, expected from 1 to 4"),
    (lambda w: NMMatrix.from_dense(w, 2, 32), ValueError, "m is 32, expected from 1 to 16"),
    (lambda w: NMMatrix.from_dense(w.astype(float), 2, 4), TypeError, "w has dtype float64"),
    (lambda w: NMMatrix(w, np.zeros((8, 8), np.uint8), 2, 4), ValueError, r"places of row 0, group 0 are \[0, 0\]"),
    (lambda w: NMMatrix.from_places(w, np.full((8, 16), 9, np.uint8), 1, 4), ValueError,
     r"places of row 0, group 0 are \[9\]"),
    (lambda w: NMMatrix.from_places(w, np.full((8, 16), 16, np.uint8), 1, 4), ValueError, "places holds 16, expected"),
    (lambda w: NMMatrix.from_places(w, np.zeros((8, 15), np.uint8), 2, 4), ValueError, "places has shape"),
    (lambda w: NMMatrix(w, np.zeros((8, 16), np.uint8), 2, 4), ValueError, r"expected \(8, 8\) for data \(8, 16\);"),
    (lambda w: NMMatrix(w[:, :3], np.full((8, 2), 48, np.uint8), 1, 4), ValueError, "place past the last in row 0"),
    (lambda w: NMMatrix(w[:, :3], np.zeros((8, 2), np.uint8), 2, 4), ValueError, "data has 3 elements a row"),
    (lambda w: BitmapMatrix(w[0], np.zeros((8, 3), np.uint8), 16), ValueError, "bits has 3 bytes a row, expected 2"),
    (lambda w: BitmapMatrix(w[0], np.zeros((8, 2), np.uint8), 16), ValueError, "data has 16 elements, bits has 0 set"),
    (lambda w: BitmapMatrix(w[0], np.full((1, 1), 255, np.uint8), 3), ValueError,
     "set past the last of 3 columns, in row 0: column 3"),
    (lambda w: BitmapMatrix.from_csr(CSRMatrix.from_dense(w.astype(float))), TypeError, "CSRMatrix of float32"),
    (lambda w: quantize(w), TypeError, "expected a CSRMatrix of float32"),
    (lambda w: quantize(CSRMatrix.from_dense(w), bits=2), ValueError, "bits is 2, expected 8 or 4"),
    (lambda w: quantize(CSRMatrix.from_dense(w * np.float32(np.inf))), ValueError, "expected finite values"),
    (lambda w: CodedMatrix(CSRMatrix.from_dense(w), w[:, 0]), TypeError, "expected a CSRMatrix of int8"),
    (lambda w: CodedMatrix(CSRMatrix.from_dense(w.astype(np.int8)), -w[:, 0]), ValueError, "scale holds -1.0"),
    (lambda w: CodedMatrix(CSRMatrix.from_dense(w.astype(np.int8)), w[0]), ValueError, "scale has 16 elements"),
    (lambda w: CodedMatrix(CSRMatrix.from_dense((9 * w).astype(np.int8)), w[:, 0], 4), ValueError, "codes hold 9"),
    (lambda w: CSRMatrix.from_dense(w).with_data(np.ones(3, np.float32)), ValueError, "data has 3 elements"),
    (lambda w: CSRMatrix.from_dense(w).astype(np.int32), TypeError, "dtype is int32, expected one of float32"),
    (lambda w: CSRMatrix.from_dense(w).astype(None), TypeError, "dtype is None, expected one of float32"),
    (lambda w: CSRMatrix.from_dense(w).astype("no"), TypeError, "dtype is 'no', expected one of float32"),
    (lambda w: CSRMatrix.from_dense(w).astype(w.dtype.newbyteorder()), TypeError,
     r"dtype is float32 \(byte-swapped\), expected one of float32, .* in native byte order"),
    (lambda w: CSRMatrix.from_dense(w).astype(np.float16).to_scipy(), TypeError, "which SciPy does not have"),
    (lambda w: linear(w, CSRMatrix.from_dense(w), format="coo"), ValueError, "format is 'coo', expected one of 'auto'"),
    (lambda w: linear(w, CSRMatrix.from_dense(w), format="nm"), ValueError, "expected an NMMatrix of float32"),
    (lambda w: linear(w, CSRMatrix.from_dense(w), format="blocks"), ValueError, "expected a BSRMatrix of float32"),
    (lambda w: linear(w, CSRMatrix.from_dense(w), residual=w), ValueError, r"residual has shape \(8, 16\)"),
    (lambda w: linear(w, CSRMatrix.from_dense(w), residual=w[:, :8].astype(float)), TypeError, "residual has dtype"),
])
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((8, 16), np.float32))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_arrays_at_random_make_a_matrix_or_an_error(data):
    """Whatever is accepted multiplies as its dense form does."""
    few = st.integers(0, 4)
    count, h, w, n, k = (data.draw(few) for _ in range(5))
    whole = st.lists(st.integers(-1, 4), min_size=count, max_size=count)
    rows = st.lists(st.integers(-1, 5), min_size=n + 1, max_size=n + 1)
    values = np.arange(1, count * h * w + 1, dtype=np.float32).reshape(count, h, w)
    indices, indptr = np.array(data.draw(whole), np.int32), np.array(data.draw(rows), np.int64)
    places = np.array(data.draw(st.lists(st.integers(0, 5), min_size=count * h, max_size=count * h)), np.uint8)
    size = n * -(-k // 8)
    bits = np.array(data.draw(st.lists(st.integers(0, 255), min_size=size, max_size=size)), np.uint8)
    for make in (
        lambda: CSRMatrix(values.reshape(-1)[:count], indices, indptr, (n, k)),
        lambda: BSRMatrix(values, indices, indptr, (n * h, k * w)),
        lambda: NMMatrix.from_places(values[:, :, :1].reshape(count, -1), places.reshape(count, h), w, k),
        lambda: BitmapMatrix(values.reshape(-1)[: int(np.unpackbits(bits).sum())], bits.reshape(n, -(-k // 8)), k),
    ):
        try:
            a = make()
        except (ValueError, TypeError):
            continue
        x = np.ones((3, a.shape[1]), np.float32)
        for m in (1, 3):
            assert (linear(x[:m], a) == a.to_dense().sum(axis=1)).all()


def test_indices_of_64_bits_are_taken_and_those_beyond_the_columns_refused():
    a = CSRMatrix(np.ones(2, np.float32), np.array([0, 3], np.int64), np.array([0, 1, 2]), (2, 4))
    assert a.indices.dtype == np.int32
    with pytest.raises(ValueError, match=rf"indices\[1\] in row 1 is {2**32}, expected 0 to 3"):
        CSRMatrix(np.ones(2, np.float32), np.array([0, 2**32], np.int64), np.array([0, 1, 2]), (2, 4))
    with pytest.raises(ValueError, match=r"the entries of row 0, column 1 add up to 200, expected an int8"):
        CSRMatrix.from_arrays(np.array([100, 100], np.int8), [1, 1], [0, 2], (1, 2))


def test_wide_matrices_run_without_16_bit_indices():
    w = np.zeros((3, 70000), np.float32)
    w[:, [0, 65535, 65536, 69999]] = 1
    a, x = CSRMatrix.from_dense(w), np.ones((2, 70000), np.float32)
    assert (linear(x, a) == 4).all()
    assert (linear(x, a.astype(np.float16)) == 4).all()
    assert (linear(x, BitmapMatrix.from_csr(a)) == 4).all()
    assert (linear(x, BSRMatrix.from_csr(a, (1, 4))) == 4).all()
    with pytest.raises(ValueError, match="format is 'tiles', expected at most 65535 columns"):
        linear(x, a, format="tiles")


def test_arguments_stay_as_they_are():
    w = pruned(9, 16, 32, "4x4")
    x, kept = np.ones((3, 32), np.float32), w.copy()
    for a, formats in every_matrix(w):
        before = [getattr(a, name).tobytes() for name in a._arrays]
        for format in formats:
            linear(x, a, format=format)
        assert [getattr(a, name).tobytes() for name in a._arrays] == before
    assert (x == 1).all()
    assert (w == kept).all()


def test_malformed_lists_of_scipy_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    a = sparse.lil_array(pruned(3, 6, 8, "any"))
    a.rows[2] = [*a.rows[2], 7]
    with pytest.raises(ValueError, match=r"rows\[2\] has \d+ elements, data\[2\] \d+, expected the same"):
        CSRMatrix.from_scipy(a)
    a = sparse.lil_array(pruned(3, 6, 8, "any"))
    a.rows[0], a.data[0] = [10**8], [1.0]
    with pytest.raises(ValueError, match=r"in row 0 is 100000000, expected 0 to 7"):
        CSRMatrix.from_scipy(a)


@pytest.mark.parametrize(("rows", "data", "dtype", "error", "message"), [
    (3, [1.0], np.float32, ValueError, r"rows\[1\] has 0 dimensions \(\), expected 1"),
    ([0], 1.0, np.float32, ValueError, r"data\[1\] has 0 dimensions \(\), expected 1"),
    (None, [1.0], np.float32, TypeError, r"rows\[1\] has dtype object, expected numbers of type int64"),
    (["0"], [1.0], np.float32, TypeError, r"rows\[1\] has dtype str\d*, expected numbers of type int64"),
    ([0], ["1"], np.float32, TypeError, r"data\[1\] has dtype str\d*, expected numbers of type float32"),
    ([0], [[1.0, 2.0]], np.float64, ValueError, r"data\[1\] has 2 dimensions \(1, 2\), expected 1"),
    ([0, 1], [1, 300], np.int8, ValueError, r"data\[1\] holds 300, expected numbers of type int8"),
    ([0], [1.5], np.int8, TypeError, r"data\[1\] has dtype float64, expected numbers of type int8"),
])
def test_lists_of_scipy_that_hold_something_else_are_refused_by_their_row(rows, data, dtype, error, message):
    sparse = pytest.importorskip("scipy.sparse")
    a = sparse.lil_array(np.eye(3, dtype=dtype))
    a.rows[1], a.data[1] = rows, data
    with pytest.raises(error, match=message):
        CSRMatrix.from_scipy(a)


@pytest.mark.parametrize("block", [(2, 3), (4, 2), (0, 2)])
def test_blocks_of_scipy_that_do_not_divide_the_shape_are_refused(block):
    sparse = pytest.importorskip("scipy.sparse")
    a = sparse.bsr_array(np.ones((6, 8), np.float32), blocksize=(2, 2))
    a.data, a.indices, a.indptr = np.ones((1, *block), np.float32), np.zeros(1, np.int32), np.array([0, 1])
    for take in (CSRMatrix.from_scipy, BSRMatrix.from_scipy, lambda a: BSRMatrix.from_scipy(a, (1, 1))):
        with pytest.raises(ValueError, match=re.escape(f"a matrix (6, 8) does not divide into blocks {block}")):
            take(a)
