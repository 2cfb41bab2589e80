"""linear and matmul: the dense product's bits, special values, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import pycomp
from pycomp import dense
from pycomp.kernels import layouts, native
from pycomp.sparse import BSRMatrix, CSRMatrix, linear, matmul, quantize

LEVELS = [name for name, usable in native.levels().items() if usable] if native.missing() is None else []


def problem(seed, m, k, n, density):
    """x, w with rows of unequal length around the density, bias."""
    rng = np.random.default_rng(seed)
    kept = rng.random((n, k)) < rng.choice([0, density, density, 1], size=(n, 1), p=[0.1, 0.4, 0.4, 0.1])
    w = np.where(kept, rng.standard_normal((n, k)), 0).astype(np.float32)
    return rng.standard_normal((m, k)).astype(np.float32), w, rng.standard_normal(n).astype(np.float32)


problems = st.builds(problem, st.integers(0, 2**32), st.integers(0, 150), st.integers(0, 500), st.integers(0, 150),
                     st.sampled_from([0, 0.01, 0.1, 0.5]))
activations = st.sampled_from([None, "relu"])


@settings(deadline=None)
@given(problems, activations, st.booleans())
def test_linear_equals_the_dense_product_bit_for_bit(case, activation, with_bias):
    x, w, bias = case
    bias = bias if with_bias else None
    got = linear(x, CSRMatrix.from_dense(w), bias, activation=activation)
    assert got.tobytes() == dense.linear(x, w, bias, activation=activation).tobytes()


@settings(deadline=None)
@given(problems)
def test_matmul_equals_the_dense_product_bit_for_bit(case):
    x, w, _ = case
    b = np.ascontiguousarray(x.T)
    a = CSRMatrix.from_dense(w)
    expected = dense.matmul(w, b).tobytes()
    assert matmul(a, b).tobytes() == expected
    assert matmul(a, x.T).tobytes() == expected
    assert (a @ b).tobytes() == expected


@settings(deadline=None)
@given(problems, st.data())
def test_a_row_alone_equals_the_row_in_a_batch(case, data):
    x, w, bias = case
    if not len(x):
        return
    a = CSRMatrix.from_dense(w)
    whole = linear(x, a, bias)
    i = data.draw(st.integers(0, len(x) - 1))
    count = data.draw(st.integers(1, len(x) - i))
    assert linear(x[i : i + 1], a, bias).tobytes() == whole[i : i + 1].tobytes()
    assert linear(x[i : i + count], a, bias).tobytes() == whole[i : i + count].tobytes()


@settings(deadline=None)
@given(problems, st.data())
def test_some_outputs_alone_equal_the_same_columns_of_all(case, data):
    x, w, bias = case
    begin = data.draw(st.integers(0, len(w)))
    end = data.draw(st.integers(begin, len(w)))
    whole = linear(x, CSRMatrix.from_dense(w), bias)
    alone = linear(x, CSRMatrix.from_dense(w[begin:end]), bias[begin:end])
    assert alone.tobytes() == whole[:, begin:end].tobytes()


@pytest.mark.parametrize(("m", "k", "n"), [(1, 300, 2100), (3, 800, 1100), (40, 500, 600), (64, 1300, 300),
                                       (300, 40, 20)])
@pytest.mark.parametrize("density", [0.02, 0.3])
def test_rows_beyond_one_group_and_one_block_keep_the_dense_bits(m, k, n, density):
    x, w, bias = problem(1, m, k, n, density)
    assert linear(x, CSRMatrix.from_dense(w), bias).tobytes() == dense.linear(x, w, bias).tobytes()


def heavy_among_light(m):
    """x, and w some of whose rows have many times the entries of others."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(2000, (1 + rng.pareto(1.0, 500) * 5).astype(int))
    lengths[[0, 250, 499]] = 2000
    w = np.zeros((500, 2000), np.float32)
    for row, length in zip(w, lengths, strict=True):
        row[rng.choice(2000, length, replace=False)] = rng.standard_normal(length)
    return rng.standard_normal((m, 2000)).astype(np.float32), w


def even_rows(n, k):
    """w whose rows have about as many entries as each other, half."""
    rng = np.random.default_rng(0)
    return np.where(rng.random((n, k)) < 0.5, rng.standard_normal((n, k)), 0).astype(np.float32)


@pytest.mark.parametrize("m", [1, 5, 70])
def test_heavy_rows_among_light_ones_keep_their_bits_on_any_threads(m):
    x, w = heavy_among_light(m)
    a, expected = CSRMatrix.from_dense(w), dense.linear(x, w).tobytes()
    for count in (1, 2, 3, 7):
        with pycomp.threads(count):
            assert linear(x, a).tobytes() == expected


@pytest.mark.usefixtures("at_level")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("stored", [lambda a: a.astype("bfloat16"), lambda a: a.astype("float16"), quantize,
                                    lambda a: quantize(a, bits=4)], ids=["bfloat16", "float16", "int8", "int4"])
def test_rows_of_narrow_values_whatever_their_lengths_have_the_bits_of_rows_alone(stored):
    x, heavy = heavy_among_light(64)
    for w in heavy, even_rows(200, 2000):  # tiles are widened together, alone, by parts
        a = stored(CSRMatrix.from_dense(w))
        expected = np.concatenate([linear(row, a, format="slices") for row in np.split(x, len(x))])
        for m in (2, 16, 17, 33, 64):
            assert linear(x[:m], a, format="tiles").tobytes() == expected[:m].tobytes()


@pytest.mark.parametrize("m", [120, 150])
def test_a_matrix_that_is_large_beside_x_keeps_its_bits_on_any_threads(m):
    w = even_rows(3000, 1700)  # all the panels of x pass each group of its rows
    x = np.random.default_rng(1).standard_normal((m, 1700)).astype(np.float32)
    a, expected = CSRMatrix.from_dense(w), dense.linear(x, w).tobytes()
    for count in (1, 2, 3, 7):
        with pycomp.threads(count):
            assert linear(x, a, format="tiles").tobytes() == expected


@pytest.mark.parametrize("block", [(16, 16), (12, 4), (8, 1), (7, 3), (1, 4)], ids="{0[0]}x{0[1]}".format)
def test_blocks_beside_more_of_x_than_l2_holds_have_the_bits_of_their_entries_on_any_threads(block):
    height, k = block[0], 5040  # strips come back to chains that wait, and some have nothing to add
    rng = np.random.default_rng(2)
    of_rows = np.array([0.1, 0.0, 0.7, 0.1, 0.02, 0.1, 1.0])
    here = rng.random((7, k // block[1])) < of_rows[:, None]
    here[3, : 2000 // block[1]], here[5, 2000 // block[1] :] = False, False
    w = np.kron(here, np.ones(block)).astype(np.float32) * rng.standard_normal((7 * height, k), np.float32)
    x, a = rng.standard_normal((130, k), np.float32), BSRMatrix.from_dense(w, block)
    expected = dense.linear(x, w).tobytes()
    for count in (1, 2, 3, 7, 16):
        with pycomp.threads(count):
            for m in (130, 49, 17):
                assert linear(x[:m], a, format="blocks").tobytes() == expected[: 4 * 7 * height * m]


IN_FORMATS = [("tiles", CSRMatrix.from_dense), ("csr", CSRMatrix.from_dense),
              ("blocks", lambda w: BSRMatrix.from_dense(w, (4, 1)))]
in_formats = pytest.mark.parametrize(("format", "made"), IN_FORMATS, ids=[format for format, _ in IN_FORMATS])


@in_formats
@pytest.mark.parametrize(("m", "k"), [
    (4, 4351), (4, 4352), (4, 4353), (16, 1086), (16, 1087), (16, 1088), (16, 1089), (64, 271), (64, 272), (64, 273),
    (65, 100), (16, 12286), (16, 12287), (16, 12288), (16, 12289), (80, 2456), (80, 2457), (80, 2458)])
def test_x_on_the_stack_of_each_thread_on_its_heap_and_on_one_heap_have_the_same_bits(format, made, m, k):
    """Up to 17408 floats, of tiles with a column of zeros; up to 3 * 2**16; more."""
    x, w, _ = problem(3, m, k, 200, 0.5)
    a, expected = made(w), dense.linear(x, w).tobytes()
    for threads in (1, 2, 3):
        with pycomp.threads(threads):
            assert linear(x, a, format=format).tobytes() == expected
            for less in (1, 3):
                assert linear(x[: m - less], a, format=format).tobytes() == expected[: 4 * 200 * (m - less)]


@pytest.mark.usefixtures("at_level")
@pytest.mark.parametrize("level", LEVELS)
@in_formats
@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_few_rows_of_x_at_any_strides_have_the_bits_of_each_alone(level, format, made, m):
    x, w, bias = problem(6, m, 300, 532, 0.3)  # more rows of the matrix than wait for their end at a time
    w[::9], w[5], w[520] = 0.0, 1.0, 2.0
    a, by_rows = made(w), CSRMatrix.from_dense(w)
    residual = np.random.default_rng(7).standard_normal((m, 532), np.float32)
    plain = np.concatenate([linear(x[i : i + 1], by_rows) for i in range(m)]).tobytes()
    ended = np.concatenate([linear(x[i : i + 1], by_rows, bias, activation="gelu", residual=residual[i : i + 1])
                            for i in range(m)]).tobytes()
    apart = x.repeat(2, axis=1)[:, ::2]
    for threads in (1, 2, 3):
        with pycomp.threads(threads):
            for other in (x, np.asfortranarray(x), apart, x[::-1, ::-1].copy()[::-1, ::-1]):
                y = linear(other, a, bias, activation="gelu", residual=residual, format=format)
                assert y.tobytes() == ended
            b, out = np.ascontiguousarray(x.T), np.zeros((532, 2 * m), np.float32)
            assert np.ascontiguousarray(matmul(a, b, format=format).T).tobytes() == plain
            matmul(a, b, format=format, out=out[:, ::2])
            assert np.ascontiguousarray(out[:, ::2].T).tobytes() == plain
            assert not out[:, 1::2].any()


@pytest.mark.usefixtures("at_level")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("k", [4351, 4352])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_what_pads_tiles_of_few_rows_of_x_is_zero_whatever_was_in_memory(level, m, k):
    x, w, _ = problem(8, m, k, 24, 0.003)  # rows of unequal length
    x[:, -1], w[:, -1] = np.inf, 0.0  # beside the column of padding
    a = CSRMatrix.from_dense(w)
    expected = np.concatenate([linear(row, a) for row in np.split(x, m)])
    linear(np.full((m, k), np.nan, np.float32), a, format="tiles")
    got = linear(x, a, format="tiles")
    assert np.isfinite(got).all()
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("k", [17407, 17408, 65535])
def test_one_row_of_x_on_the_stack_and_on_the_heap_has_the_same_bits(k):
    """Beside the zero that slices of the matrix ask of the column after the last."""
    x, w, _ = problem(5, 1, k, 40, 0.01)
    w[7] = 1.0  # others end before it, and ask for that
    a, expected = CSRMatrix.from_dense(w), dense.linear(x, w).tobytes()
    for threads in (1, 2, 3):
        with pycomp.threads(threads):
            assert linear(x, a, format="slices").tobytes() == expected
            assert linear(x.repeat(2, axis=1)[:, ::2], a, format="slices").tobytes() == expected
    x[0, -1] = np.inf  # the last column is another
    assert not np.isfinite(linear(x, a, format="slices")[0, 7])
    assert np.isfinite(linear(x, a, format="slices")[0, w[:, -1] == 0]).all()


@pytest.mark.usefixtures("at_level")
@pytest.mark.parametrize("level", LEVELS)
@in_formats
@pytest.mark.parametrize(("m", "n", "filled"), [(150, 60, 0.1), (150, 260, 0.6), (256, 200, 0.1)])
def test_x_that_is_packed_once_has_the_bits_of_rows_alone_at_any_strides(level, format, made, m, n, filled):
    """More than 3 * 2**16 floats; panels of x pass each group of a large matrix, its groups each panel of a large x."""
    x, w, _ = problem(4, m, 2100, n, filled)
    a, expected = made(w), dense.linear(x, w).tobytes()
    turned, backwards = np.asfortranarray(x), x[::-1, ::-1].copy()[::-1, ::-1]
    for threads in (1, 2, 3, 7) if level != "generic" else (2,):  # which is slow
        with pycomp.threads(threads):
            for other in (x, turned, backwards) if level != "generic" else (turned,):
                assert linear(other, a, format=format).tobytes() == expected
                assert np.ascontiguousarray(matmul(a, other.T, format=format).T).tobytes() == expected
    same = linear(np.broadcast_to(x[:1], x.shape), a, format=format)
    assert {row.tobytes() for row in same} == {expected[: 4 * n]}


@pytest.mark.skipif(native.missing() is not None, reason="there is no C core")
@pytest.mark.parametrize("y", [np.zeros((1, 3), np.float32), np.zeros((3, 3), np.float32).T,
                               np.zeros((4, 6), np.float32)[::2, ::2]], ids=["rows", "columns", "apart"])
def test_the_c_binding_writes_to_no_array_that_is_read_only(y):
    y = y.view()
    y.flags.writeable = False
    x, ones, columns = np.ones((len(y), 3), np.float32), np.ones(3, np.float32), np.arange(3, dtype=np.int32)
    sparse, packed = (ones, columns, np.arange(4)), np.ones((1, 3, 16), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        native.implementation("spmm_csr_f32")(x, *sparse, None, None, 0, y)
    with pytest.raises(ValueError, match="read-only"):
        native.implementation("gemm_f32")(x, packed, None, 0, y)
    assert not y.any()


@pytest.mark.skipif(native.missing() is not None, reason="there is no C core")
def test_tiles_that_do_not_come_in_twos_are_refused_and_a_longer_second_one_is_taken_alone():
    x = np.array([[1, 10, 100]], np.float32)
    values, columns = np.ones((3, 4), np.float32), np.array([[0] * 4, [1] * 4, [2] * 4], np.uint16)
    rows, y = np.arange(8, dtype=np.int32).reshape(2, 4), np.zeros((1, 8), np.float32)
    product = native.implementation("spmm_tiles_f32")
    product(x, values, columns, rows, np.array([0, 1, 3]), np.array([0, 2]), np.array([0, 8]), None, None, 0, y)
    assert y[0].tolist() == [1] * 4 + [110] * 4
    x, y = np.repeat(x, 5, axis=0), np.zeros((5, 8), np.float32)  # whose panel takes two tiles at a time
    product(x, values, columns, rows, np.array([0, 1, 3]), np.array([0, 2]), np.array([0, 8]), None, None, 0, y)
    assert y.tolist() == [[1] * 4 + [110] * 4] * 5
    with pytest.raises(ValueError, match="spmm_tiles_f32"):
        product(x, values, columns, rows[:1], np.array([0, 3]), np.array([0, 1]), np.array([0, 4]), None, None, 0,
                y[:, :4])


@settings(deadline=None)
@given(problems)
def test_tiles_of_a_group_come_in_twos_of_rows_that_differ(case):
    a = CSRMatrix.from_dense(case[1])
    tiles = layouts.tiles(a.indices, a.indptr, a.shape[1])
    sizes = np.diff(tiles.firsts)
    for group, size in enumerate(sizes):
        begin, end = tiles.begins[group : group + 2]
        assert (end - begin) % 2 == 0
        for two in tiles.rows[begin:end].reshape(-1, 8):
            rows = two[two < size]
            assert len(set(rows)) == len(rows)
        steps = np.diff(tiles.starts[begin : end + 1]).reshape(-1, 2)
        assert (steps[:, 0] >= steps[:, 1]).all()


@pytest.mark.parametrize("m", [33, 64, 120, 150, 300])
@pytest.mark.parametrize("format", ["csr", "tiles"])
def test_a_small_matrix_whose_panels_go_to_threads_keeps_the_dense_bits(m, format):
    x, w, _ = problem(2, m, 4096, 1500, 0.01)
    w[700] = 1.0  # ... and the panels end within a thread's share
    a, expected = CSRMatrix.from_dense(w), dense.linear(x, w)
    for count in (1, 2, 3, 7):
        with pycomp.threads(count):
            assert linear(x, a, format=format).tobytes() == expected.tobytes()
            assert matmul(a, np.ascontiguousarray(x.T), format=format).T.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("m", "k", "n"), [(0, 5, 4), (3, 0, 4), (3, 5, 0), (0, 0, 0), (1, 0, 4), (1, 5, 0), (0, 5, 0)])
def test_empty_sizes_give_the_activation_of_the_bias(m, k, n):
    a = CSRMatrix.from_dense(np.zeros((n, k), np.float32))
    bias = np.linspace(-1, 1, n, dtype=np.float32)
    y = linear(np.ones((m, k), np.float32), a, bias, activation="relu")
    assert y.shape == (m, n)
    assert y.dtype == np.float32
    assert (y == np.maximum(bias, 0)).all()
    assert matmul(a, np.ones((k, m), np.float32)).tolist() == np.zeros((n, m)).tolist()


@pytest.mark.parametrize("m", [1, 2, 17])
def test_a_matrix_without_entries_gives_plus_zero(m):
    a = CSRMatrix.from_dense(np.zeros((5, 700), np.float32))
    y = linear(np.full((m, 700), -1, np.float32), a)
    assert not np.signbit(y).any()
    assert not y.any()


@pytest.mark.parametrize("m", [1, 2, 17])
def test_a_zero_that_is_not_stored_contributes_nothing_and_a_stored_one_follows_ieee(m):
    x = np.tile(np.array([np.nan, np.inf, 2], np.float32), (m, 1))
    absent = CSRMatrix.from_dense(np.array([[0, 0, 3]], np.float32))
    assert (linear(x, absent) == 6).all()
    stored = CSRMatrix(np.array([0, 3], np.float32), np.array([1, 2], np.int32), np.array([0, 2]), (1, 3))
    assert np.isnan(linear(x, stored)).all()


@pytest.mark.parametrize("m", [1, 2, 17])
def test_nan_and_infinity_pass_through_bias_and_activation(m):
    w = np.array([[np.nan], [np.inf], [-np.inf], [1]], np.float32)
    x = np.ones((m, 1), np.float32)
    bias = np.array([0, 0, 0, np.nan], np.float32)
    y = linear(x, CSRMatrix.from_dense(w), bias, activation="relu")
    assert np.array_equal(y, np.tile(np.array([np.nan, np.inf, 0, np.nan], np.float32), (m, 1)), equal_nan=True)
    minus_zero = linear(x, CSRMatrix.from_dense(np.array([[-1e-45]], np.float32)), activation="relu") * 0
    assert not np.signbit(minus_zero).any()


@pytest.mark.parametrize("m", [1, 2, 17])
def test_denormals_are_kept(m):
    a = CSRMatrix.from_dense(np.array([[1e-45]], np.float32))
    assert (linear(np.ones((m, 1), np.float32), a) == np.float32(1e-45)).all()


@settings(deadline=None)
@given(problems)
def test_inputs_stay_as_they_are(case):
    x, w, bias = case
    a = CSRMatrix.from_dense(w)
    before = [v.tobytes() for v in (x, bias, a.data, a.indices, a.indptr)]
    linear(x, a, bias, activation="relu")
    matmul(a, x.T)
    assert [v.tobytes() for v in (x, bias, a.data, a.indices, a.indptr)] == before


@pytest.mark.parametrize("m", [1, 2, 20])
@pytest.mark.parametrize("format", ["csr", "tiles", "slices", "windows", "bitmap", "dense"])
def test_any_strides_of_the_dense_operand_and_of_out_give_the_same_bits(m, format):
    x, w, bias = problem(2, m, 130, 70, 0.3)
    a = CSRMatrix.from_dense(w)
    expected = linear(x, a, bias, format=format)
    field = np.zeros(x.shape, np.dtype([("tag", "u1"), ("value", "f4")]))["value"]
    field[...] = x
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], np.repeat(x, 3, axis=1)[:, ::3],
                  x[::-1, ::-1].copy()[::-1, ::-1], np.broadcast_to(x[:1], x.shape)[:1], field):
        assert linear(other, a, bias, format=format).tobytes() == expected[: len(other)].tobytes()
        product = np.ascontiguousarray(matmul(a, other.T, format=format).T + bias)
        assert product.tobytes() == expected[: len(other)].tobytes()
    wide = np.full((m, 90), 7, np.float32)
    assert linear(x, a, bias, format=format, out=wide[:, 10:80]).tobytes() == expected.tobytes()
    assert (wide[:, :10] == 7).all()
    assert (wide[:, 80:] == 7).all()
    wide = np.full((70, m + 3), 7, np.float32)
    product = matmul(a, x.T, format=format, out=wide[:, 1 : m + 1])
    assert np.may_share_memory(product, wide)
    assert product.tobytes() == matmul(a, x.T, format=format).tobytes()
    assert (wide[:, [0, m + 1, m + 2]] == 7).all()


@pytest.fixture
def small():
    return problem(3, 4, 6, 5, 0.5)[0], CSRMatrix.from_dense(problem(3, 4, 6, 5, 0.5)[1])


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "O", ">f4"])
def test_other_dtypes_are_refused(small, dtype):
    x, a = small
    with pytest.raises(TypeError, match="x has dtype"):
        linear(x.astype(dtype), a)
    with pytest.raises(TypeError, match="b has dtype"):
        matmul(a, x.T.astype(dtype))
    with pytest.raises(TypeError, match="bias has dtype"):
        linear(x, a, np.zeros(5, dtype))
    with pytest.raises(TypeError, match="out has dtype"):
        linear(x, a, out=np.zeros((4, 5), dtype))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x, a: linear(x[:, 1:], a), ValueError, "x has 5 columns, a has 6"),
    (lambda x, a: linear(x[0, 0], a), ValueError, "x has 0 dimensions"),
    (lambda x, a: linear(x, a, np.zeros(6, np.float32)), ValueError, "bias has 6 elements, expected 5"),
    (lambda x, a: linear(x, a, activation="swish"), ValueError, "activation is 'swish'"),
    (lambda x, a: linear(x, a.to_dense()), TypeError, "a is a ndarray, expected a sparse matrix"),
    (lambda x, a: linear(x, a, out=np.zeros((5, 4), np.float32)), ValueError, "out has shape"),
    (lambda x, a: linear(x, a, out=as_strided(np.empty(5, np.float32), (4, 5), (0, 4))), ValueError, "out has strides"),
    (lambda x, a: linear(x, a, out=x[:, :5]), ValueError, "out overlaps an input"),
    (lambda x, a: matmul(a, x), ValueError, "b has 4 rows, a has 6 columns"),
    (lambda x, a: matmul(a.to_dense(), x.T), TypeError, "a is a ndarray, expected a sparse matrix"),
    (lambda x, a: matmul(a, a), TypeError, "b is a CSRMatrix"),
    (lambda x, a: a @ x[0, :5], ValueError, "b has 5 elements, a has 6 columns"),
    (lambda x, a: a @ x[None], ValueError, "b has 3 dimensions"),
    (lambda x, a: x @ a, TypeError, r"sparse\.linear\(x, a\) is x @ a\.T"),
])
def test_what_does_not_fit_is_refused(small, call, error, message):
    with pytest.raises(error, match=message):
        call(*small)


@pytest.mark.skipif(native.missing() is not None, reason="the C core was not built")
@pytest.mark.parametrize("ends", [(1, 2), (0, 3), (0, -1)])
def test_c_refuses_an_indptr_that_does_not_span_the_entries(ends):
    indptr = np.array(ends, np.int64)
    two, columns = np.zeros(2, np.float32), np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match="refused"):
        native.implementation("spmv_csr_f32")(two, two, columns, indptr, None, None, 0, np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="refused"):
        native.implementation("spmm_csr_f32")(np.zeros((3, 2), np.float32), two, columns, indptr, None, None, 0,
                                              np.zeros((3, 1), np.float32))


@pytest.mark.parametrize("n", [16, 64, 100, 136, 200])
@pytest.mark.parametrize("m", [3, 16, 53])
def test_rows_of_the_result_whole_pages_apart_get_the_same_bits(m, n):
    """Kernels deliver these another way."""
    x, w, bias = problem(n, m, 96, n, 0.3)
    a, expected = CSRMatrix.from_dense(w), dense.linear(x, w, bias, activation="relu")
    for matrix, format in ((a, "csr"), (a, "tiles"), (BSRMatrix.from_dense(w, (4, 4)), "blocks")):
        wide = np.full((m, 1024), 7, np.float32)
        got = linear(x, matrix, bias, activation="relu", format=format, out=wide[:, 3 : n + 3])
        assert got.tobytes() == expected.tobytes()
        assert (wide[:, :3] == 7).all()
        assert (wide[:, n + 3 :] == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_vector_is_one_column(dtype):
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((9, 40)) * (rng.random((9, 40)) < 0.3)).astype(dtype)
    a, b = CSRMatrix.from_dense(w), rng.standard_normal(80).astype(dtype)[::2]
    out = np.zeros((9, 2), dtype)[:, 1]
    assert (a @ b).shape == (9,)
    assert (a @ b).tobytes() == (a @ b[:, None]).tobytes() == matmul(a, b, out=out).tobytes()
    with pytest.raises(ValueError, match=r"out has shape \(9, 1\), expected \(9,\)"):
        matmul(a, b, out=np.empty((9, 1), dtype))
    assert (CSRMatrix.from_dense(np.zeros((3, 0), dtype)) @ np.zeros(0, dtype)).tolist() == [0, 0, 0]
