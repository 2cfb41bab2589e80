"""The CSR matrix: what it refuses, what it keeps, what it can be made from."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp.sparse import CSRMatrix, linear, load, save


def arrays(data=(1, 2, 3, 4), indices=(0, 2, 1, 3), indptr=(0, 2, 2, 4)):
    return np.array(data, np.float32), np.array(indices, np.int32), np.array(indptr, np.int64)


def random_dense(seed, n, k, density):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, k)) < density, rng.standard_normal((n, k)), 0).astype(np.float32)


denses = st.builds(random_dense, st.integers(0, 2**32), st.integers(0, 20), st.integers(0, 20),
                   st.sampled_from([0, 0.1, 0.5, 1]))


@pytest.mark.parametrize(("changes", "message"), [
    ({"indptr": (1, 2, 2, 4)}, r"indptr\[0\] is 1, expected 0"),
    ({"indptr": (-1, 2, 2, 4)}, r"indptr\[0\] is -1, expected 0"),
    ({"indptr": (0, 2, 2, 3)}, r"indptr\[3\] is 3, expected the number of entries 4"),
    ({"indptr": (0, 2, 2, 9)}, r"indptr\[3\] is 9, expected the number of entries 4"),
    ({"indptr": (0, 3, 2, 4)}, r"indptr decreases at position 2: 2 after 3"),
    ({"indptr": (0, 9, 9, 4)}, r"indptr decreases at position 3: 4 after 9"),
    ({"indptr": (0, 2**63 - 1, -(2**63), 4)}, r"indptr decreases at position 2"),
    ({"indptr": (0, 2, 4)}, r"indptr has 3 elements, expected 4 for 3 rows"),
    ({"indptr": ()}, r"indptr has 0 elements, expected 4 for 3 rows"),
    ({"indices": (0, 2, 1)}, r"indices has 3 elements, data has 4"),
    ({"indices": (0, 5, 1, 3)}, r"indices\[1\] in row 0 is 5, expected 0 to 4"),
    ({"indices": (0, 2, 1, 2**31 - 1)}, r"indices\[3\] in row 2 is 2147483647, expected 0 to 4"),
    ({"indices": (0, 2, -1, 3)}, r"indices\[2\] in row 2 is -1, expected 0 to 4"),
    ({"indices": (2, 0, 1, 3)}, r"row 0 is not sorted: indices\[1\] is 0 after 2"),
    ({"indices": (0, 2, 3, 1)}, r"row 2 is not sorted: indices\[3\] is 1 after 3"),
    ({"indices": (0, 2, 3, 3)}, r"row 2 has column 3 twice, at indices\[2\] and indices\[3\]"),
])
def test_malformed_structure_is_refused_with_its_place(changes, message):
    with pytest.raises(ValueError, match=message):
        CSRMatrix(*arrays(**changes), (3, 5))


@pytest.mark.parametrize("shape", [(-1, 5), (3, -5), (3, 2**31)])
def test_impossible_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape\[[01]\] is"):
        CSRMatrix(*arrays(), shape)


@pytest.mark.parametrize("shape", [(3,), (3, 5, 1), [3, 5], 3, (3, 5.0), (True, 5), ("3", 5)])
def test_a_shape_that_is_not_two_integers_is_refused(shape):
    with pytest.raises(TypeError, match="shape"):
        CSRMatrix(*arrays(), shape)


@pytest.mark.parametrize(("position", "name"), [(0, "data"), (1, "indices"), (2, "indptr")])
def test_wrong_arrays_are_refused_by_name(position, name):
    good = arrays()
    swapped = good[position].astype(good[position].dtype.newbyteorder())
    for bad in (good[position].astype(np.uint16), swapped, good[position].tolist(), None,
                np.ma.masked_array(good[position])):
        with pytest.raises(TypeError, match=name):
            CSRMatrix(*good[:position], bad, *good[position + 1 :], (3, 5))
    with pytest.raises(ValueError, match=f"{name} has 2 dimensions"):
        CSRMatrix(*good[:position], good[position][None], *good[position + 1 :], (3, 5))


@pytest.mark.parametrize("door", [CSRMatrix, CSRMatrix.from_arrays])
@pytest.mark.parametrize(("position", "name"), [(1, "indices"), (2, "indptr")])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_masked_arrays_of_places_are_refused_by_name(door, position, name, kind):
    good = list(arrays())
    good[position] = np.ma.masked_array(good[position].astype(kind), mask=good[position] > 1)
    with pytest.raises(TypeError, match=f"{name} is a MaskedArray"):
        door(*good, (3, 5))


def test_indptr_of_32_bits_is_taken_and_checked():
    data, indices, indptr = arrays()
    a = CSRMatrix(data, indices, indptr.astype(np.int32), (3, 5))
    assert a.indptr.dtype == np.int64
    assert not a.indptr.flags.writeable
    assert (a.to_dense() == CSRMatrix(data, indices, indptr, (3, 5)).to_dense()).all()
    with pytest.raises(ValueError, match="indptr decreases at position 2: 2 after 3"):
        CSRMatrix(data, indices, np.array([0, 3, 2, 4], np.int32), (3, 5))


def test_rows_may_begin_with_a_smaller_column_than_the_row_before_ended_with():
    a = CSRMatrix(*arrays(data=(1, 2, 3), indices=(4, 0, 0), indptr=(0, 0, 1, 2, 2, 3, 3)), (6, 5))
    assert np.argwhere(a.to_dense()).tolist() == [[1, 4], [2, 0], [4, 0]]


def test_later_writes_to_the_given_arrays_change_nothing():
    given_arrays = arrays()
    a = CSRMatrix(*given_arrays, (3, 5))
    before = a.to_dense()
    for array in given_arrays:
        array[:] = 99
    assert a.to_dense().tobytes() == before.tobytes()


def test_a_view_of_a_writable_array_is_copied_though_it_is_read_only():
    data, indices, indptr = arrays()
    view = indices[:]
    view.flags.writeable = False
    a = CSRMatrix(data, view, indptr, (3, 5))
    indices[0] = 1000
    assert a.indices[0] == 0


def test_arrays_that_nobody_can_write_are_taken_without_a_copy():
    given_arrays = arrays()
    for array in given_arrays:
        array.flags.writeable = False
    a = CSRMatrix(*given_arrays, (3, 5))
    assert all(map(np.shares_memory, (a.data, a.indices, a.indptr), given_arrays))


def test_the_matrix_is_read_only():
    a = CSRMatrix(*arrays(), (3, 5))
    for array in (a.data, a.indices, a.indptr):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        a.data = a.data


def test_strided_and_unaligned_arrays_are_accepted():
    data, indices, indptr = arrays()
    unaligned = np.zeros(indptr.nbytes + 1, np.uint8)[1:].view(np.int64)
    unaligned[:] = indptr
    a = CSRMatrix(np.repeat(data, 2)[::2], np.repeat(indices, 3)[::3], unaligned, (3, 5))
    assert a.to_dense().tobytes() == CSRMatrix(data, indices, indptr, (3, 5)).to_dense().tobytes()


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_and_pickles_are_frozen_too(remake):
    a = remake(CSRMatrix(*arrays(), (3, 5)))
    assert a.to_dense().sum() == 10
    assert not a.indices.flags.writeable


@settings(deadline=None)
@given(denses)
def test_dense_round_trip_keeps_every_entry(w):
    a = CSRMatrix.from_dense(w)
    assert a.to_dense().tobytes() == w.tobytes()
    assert a.shape == w.shape
    assert a.nnz == np.count_nonzero(w)
    assert a.nbytes == 8 * a.nnz + 8 * (w.shape[0] + 1)
    assert a.sparsity == pytest.approx(1 - a.nnz / w.size if w.size else 0)


@settings(deadline=None)
@given(denses)
def test_any_memory_order_of_the_dense_matrix_gives_the_same_entries(w):
    expected = CSRMatrix.from_dense(w)
    for other in (np.asfortranarray(w), np.repeat(w, 2, axis=1)[:, ::2], w[::-1, ::-1].copy()[::-1, ::-1]):
        assert CSRMatrix.from_dense(other).indices.tobytes() == expected.indices.tobytes()
        assert CSRMatrix.from_dense(other).data.tobytes() == expected.data.tobytes()


def test_from_dense_keeps_nan_and_drops_both_zeros():
    a = CSRMatrix.from_dense(np.array([[0.0, -0.0, np.nan, np.inf, 1e-45]], np.float32))
    assert a.indices.tolist() == [2, 3, 4]


@pytest.mark.parametrize("w", [np.zeros((2, 2), bool), np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.int32), [[1.0]]])
def test_from_dense_refuses_what_are_no_values(w):
    with pytest.raises(TypeError, match="w "):
        CSRMatrix.from_dense(w)


def test_numpy_does_not_take_the_matrix_for_an_object():
    a = CSRMatrix(*arrays(), (3, 5))
    with pytest.raises(TypeError):
        np.ones((2, 3), np.float32) @ a


def test_repr_is_short():
    assert repr(CSRMatrix(*arrays(), (3, 5))) == "CSRMatrix(shape=(3, 5), nnz=4)"


@settings(deadline=None)
@given(denses, st.sampled_from(["csr", "csc", "coo", "bsr", "lil", "dok"]))
def test_scipy_round_trip(w, layout):
    sparse = pytest.importorskip("scipy.sparse")
    if 0 in w.shape and layout == "bsr":
        return
    given_matrix = sparse.coo_array(w).asformat(layout)
    a = CSRMatrix.from_scipy(given_matrix)
    assert a.to_dense().tobytes() == w.tobytes()
    back = a.to_scipy()
    assert back.toarray().tobytes() == w.tobytes()
    assert back.data.flags.writeable
    assert not np.may_share_memory(back.data, a.data)


def test_from_scipy_sorts_and_sums_without_changing_its_argument():
    sparse = pytest.importorskip("scipy.sparse")
    data, indices, indptr = np.array([1, 2, 4], np.float32), np.array([2, 0, 2], np.int32), np.array([0, 3])
    for flags in (True, False):
        given_matrix = sparse.csr_array((data.copy(), indices.copy(), indptr.copy()), shape=(1, 3))
        given_matrix.has_sorted_indices = given_matrix.has_canonical_format = flags  # also when they are wrong
        assert CSRMatrix.from_scipy(given_matrix).to_dense().tolist() == [[2, 0, 5]]
        assert given_matrix.data.tolist() == [1, 2, 4]
        assert given_matrix.indices.tolist() == [2, 0, 2]


def test_from_scipy_ignores_spare_room_behind_the_entries():
    sparse = pytest.importorskip("scipy.sparse")
    given_matrix = sparse.csr_array((np.ones(4, np.float32), np.array([0, 1, 7, 7]), np.array([0, 1, 2])), shape=(2, 2))
    assert CSRMatrix.from_scipy(given_matrix).to_dense().tolist() == [[1, 0], [0, 1]]


def test_from_scipy_refuses_other_things():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="a has dtype int64, expected float32, float64 or int8"):
        CSRMatrix.from_scipy(sparse.eye_array(3, dtype=np.int64))
    with pytest.raises(TypeError, match="a is a ndarray, expected a SciPy sparse array"):
        CSRMatrix.from_scipy(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="a has 1 dimensions"):
        CSRMatrix.from_scipy(sparse.coo_array(np.ones(3, np.float32)))
    broken = sparse.csr_array(np.ones((2, 2), np.float32))
    broken.indices[0] = 9
    with pytest.raises(ValueError, match="indices"):
        CSRMatrix.from_scipy(broken)


@settings(deadline=None)
@given(denses, st.integers(0, 2**32), st.sampled_from([np.int64, np.int32, np.uint16, np.uint64]))
def test_unsorted_rows_are_sorted_and_repeated_entries_added(dense, seed, kind):
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(dense)
    values = dense[rows, columns]
    twice = rng.random(len(rows)) < 0.4
    rows, columns = np.concatenate([rows, rows[twice]]), np.concatenate([columns, columns[twice]])
    values = np.concatenate([values, values[twice]])
    order = rng.permutation(len(rows))
    order = order[np.argsort(rows[order], kind="stable")]
    indptr = np.zeros(len(dense) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(dense)), out=indptr[1:])
    a = CSRMatrix.from_arrays(values[order], columns[order].astype(kind), indptr.astype(kind), dense.shape)
    doubled = dense.copy()
    added = slice(len(rows) - twice.sum(), None)
    np.add.at(doubled, (rows[added], columns[added]), values[added])
    assert (a.to_dense() == doubled).all()
    again = CSRMatrix(a.data, a.indices, a.indptr, a.shape)  # checked whole
    assert again.nnz == a.nnz == np.count_nonzero(dense)


def test_repeated_entries_are_added_in_their_order():
    values = np.array([1e8, 1, -1e8, 2], np.float32)
    a = CSRMatrix.from_arrays(values, [1, 1, 1, 0], [0, 4], (1, 2))
    assert a.data.tolist() == [2, 0]  # (1e8 + 1) - 1e8 in float32


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"indices": [0, 2, 1, 2**31]}, ValueError, r"indices\[3\] in row 2 is 2147483648, expected 0 to 4"),
    ({"indices": np.array([0, 2, 1, 2**63], np.uint64)}, ValueError, "indices holds 9223372036854775808"),
    ({"indices": [0.0, 2.0, 1.0, 3.0]}, TypeError, "indices has dtype float64, expected integers"),
    ({"indptr": [0, 3, 2, 4]}, ValueError, "indptr decreases at position 2"),
    ({"indptr": [[0, 2, 2, 4]]}, ValueError, "indptr has 2 dimensions"),
    ({"indptr": [0, [2, 2], 4]}, ValueError, "indptr is a list of unequal parts, expected integers"),
    ({"indices": [[0, 2], [1]]}, ValueError, "indices is a list of unequal parts, expected integers"),
    ({"data": np.ones(4, np.int64)}, TypeError, "data has dtype int64, expected float32"),
    ({"shape": [3, 5]}, TypeError, r"shape is \[3, 5\]"),
    ({"shape": (3, -5)}, ValueError, r"shape\[1\] is -5"),
])
def test_arrays_that_make_no_matrix_are_refused(changes, error, message):
    data, indices, indptr = arrays()
    with pytest.raises(error, match=message):
        CSRMatrix.from_arrays(**{"data": data, "indices": indices, "indptr": indptr, "shape": (3, 5), **changes})


@given(denses)
def test_the_transpose_is_that_of_the_dense_matrix(dense):
    a = CSRMatrix.from_dense(dense)
    turned = a.T
    assert (turned.to_dense() == dense.T).all()
    CSRMatrix(turned.data, turned.indices, turned.indptr, turned.shape)  # sorted, whole
    assert not turned.data.flags.writeable
    assert turned.T.data.tobytes() == a.data.tobytes()


@given(denses, st.integers(-25, 25), st.integers(-25, 25))
def test_rows_are_those_of_the_dense_matrix_without_a_copy(dense, start, stop):
    a = CSRMatrix.from_dense(dense)
    part = a[start:stop]
    assert part.shape == dense[start:stop].shape
    assert (part.to_dense() == dense[start:stop]).all()
    CSRMatrix(part.data, part.indices, part.indptr, part.shape)
    assert part.nnz == 0 or np.shares_memory(part.data, a.data)
    x = np.ones((3, dense.shape[1]), np.float32)
    assert (linear(x, part) == linear(x, a)[:, start:stop]).all()


@pytest.mark.parametrize(("rows", "error"), [
    (1, TypeError), ((slice(1), slice(1)), TypeError), (slice(0, 3, 2), ValueError)])
def test_other_subscripts_are_refused(rows, error):
    with pytest.raises(error, match="rows"):
        CSRMatrix(*arrays(), (3, 5))[rows]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@given(dense=denses)
@settings(deadline=None)
def test_files_give_the_matrix_again(suffix, dense, tmp_path_factory):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path_factory.mktemp("sparse") / f"a{suffix}"
    a = CSRMatrix.from_dense(dense)
    save(path, a)
    b = load(path)
    assert b.shape == a.shape
    for name in ("data", "indices", "indptr"):
        assert getattr(b, name).tobytes() == getattr(a, name).tobytes()


@pytest.mark.parametrize("compressed", [True, False])
def test_files_of_scipy_and_for_scipy(tmp_path, compressed):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    dense = random_dense(0, 7, 9, 0.4)
    scipy_sparse.save_npz(tmp_path / "theirs.npz", scipy_sparse.csr_array(dense), compressed=compressed)
    assert (load(tmp_path / "theirs.npz").to_dense() == dense).all()
    save(tmp_path / "ours.npz", CSRMatrix.from_dense(dense))
    assert (scipy_sparse.load_npz(tmp_path / "ours.npz").toarray() == dense).all()
    for layout in ("coo", "csc", "dia"):
        scipy_sparse.save_npz(tmp_path / "other.npz", scipy_sparse.coo_array(dense).asformat(layout))
        with pytest.raises(pycomp.FormatError, match=f"is of format '{layout}', expected csr or bsr"):
            load(tmp_path / "other.npz")


def test_a_file_of_a_machine_with_another_order_of_bytes_is_read(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    a = sparse.random_array((6, 9), density=0.4, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    a.data = a.data.astype(a.data.dtype.newbyteorder())
    a.indices, a.indptr = (part.astype(part.dtype.newbyteorder()) for part in (a.indices, a.indptr))
    sparse.save_npz(tmp_path / "a.npz", a)
    assert (load(tmp_path / "a.npz").to_dense() == a.toarray()).all()


def test_files_that_are_damaged_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    save(path, CSRMatrix.from_dense(random_dense(0, 7, 9, 0.4)))
    content = path.read_bytes()
    for size in range(0, len(content), 41):
        path.write_bytes(content[:size])
        with pytest.raises(pycomp.FormatError):
            load(path)
    np.savez(path, data=np.ones(1, np.float32), indices=[5], indptr=[0, 1], shape=[1, 3])
    with pytest.raises(pycomp.FormatError, match=r"indices\[0\] in row 0 is 5"):
        load(path)
    np.savez(path, data=np.ones(1, np.float32), indices=[0], indptr=[0, 1], shape=[1.0, 3.0])
    with pytest.raises(pycomp.FormatError, match="expected two integers"):
        load(path)
    for name in ("data", "indices"):
        whole = {"data": np.ones(1, np.float32), "indices": [0], "indptr": [0, 1], "shape": [1, 3]}
        np.savez(path, **{**whole, name: whole[name][0]})
        with pytest.raises(pycomp.FormatError, match=rf"{name} has 0 dimensions \(\), expected 1"):
            load(path)
    with pytest.raises(ValueError, match=r"ends in \.npz or \.safetensors"):
        load(tmp_path / "a.npy")
    with pytest.raises(TypeError, match="a is a ndarray, expected a sparse matrix"):
        save(path, np.eye(2))


def test_a_mask_keeps_zeros_and_says_what_it_must_be():
    w, mask = np.array([[0, 2], [3, 0]], np.float32), np.array([[True, False], [True, True]])
    a = CSRMatrix.from_dense(w, mask)
    assert (a.data.tolist(), a.indices.tolist(), a.indptr.tolist()) == ([0, 3, 0], [0, 0, 1], [0, 1, 3])
    with pytest.raises(TypeError, match="mask has dtype float32, expected bool"):
        CSRMatrix.from_dense(w, w)
    with pytest.raises(ValueError, match=r"mask has shape \(1, 2\), expected \(2, 2\)"):
        CSRMatrix.from_dense(w, mask[:1])


@pytest.mark.parametrize("kind", ["uint64", ">i8", "int16"])
@pytest.mark.parametrize("name", ["indices", "indptr"])
def test_indices_of_other_types_are_not_told_to_lose_bits(name, kind):
    arrays = {"indices": np.array([0, 1], np.int32), "indptr": np.array([0, 2])}
    arrays[name] = arrays[name].astype(kind)
    with pytest.raises(TypeError, match=rf"{name} has dtype .*, expected int32 or int64; convert it with {name}\.astype"
                                        r"\(np\.int64\)$"):
        CSRMatrix(np.ones(2, np.float32), shape=(1, 2), **arrays)
