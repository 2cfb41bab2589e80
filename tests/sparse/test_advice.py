"""advise: what it times, what it keeps, and that format="auto" follows it."""

import json
import time

import numpy as np
import pytest

import pycomp
from pycomp import dense
from pycomp.sparse import BitmapMatrix, BSRMatrix, CSRMatrix, NMMatrix, advice, advise, linear, quantize
from pycomp.sparse.crossover import crossover, like


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYCOMP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(advice, "SECONDS", 0.0005)
    return tmp_path / "advice.json"


@pytest.fixture
def w():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 96)).astype(np.float32)
    w[rng.random(w.shape) < 0.9] = 0
    return w


def test_the_forms_of_each_class_are_timed(w):
    csr = CSRMatrix.from_dense(w)
    assert set(advise(csr, 1).times) == {"csr", "slices", "windows", "bitmap", "dense"}
    assert set(advise(csr, 8).times) == {"csr", "tiles", "windows", "bitmap", "dense"}
    assert set(advise(csr, 100).times) == {"csr", "tiles", "dense"}
    assert "blocks" in advise(BSRMatrix.from_dense(w, (4, 4)), 8).times
    few = NMMatrix.from_dense(np.kron(np.eye(8, dtype=np.float32), np.array([[1, 1, 0, 0]], np.float32)), 2, 4)
    assert "nm" in advise(few, 1).times


@pytest.mark.parametrize("columns", [64, 65540])
@pytest.mark.parametrize("high", [1, 4, 16])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_runs_without_advice_is_timed(columns, high, batch):
    w = np.zeros((16, columns), np.float32)
    for a in (CSRMatrix.from_dense(w), BSRMatrix.from_dense(w, (high, 4)), BitmapMatrix.from_dense(w)):
        assert a._format(batch) in advice.candidates(a, batch)


def test_the_advice_says_what_it_found(w):
    found = advise(CSRMatrix.from_dense(w), 5)
    assert found.batch == 8
    assert found.recommendation == min(found.times, key=found.times.get)
    assert found.speedup == found.dense / found.times[found.recommendation]
    assert 0 <= found.crossover <= 1
    assert 0 < found.dense < 1
    assert f"use {found.recommendation}" in str(found)
    assert (found.shape, found.threads) == ((64, 96), pycomp.get_num_threads())


@pytest.mark.parametrize(("seconds", "verdict"), [
    (2e-6, "use csr; sparse beats dense.linear from about 80% zeros"),
    (1e-6, "no form beats dense.linear; of the forms use csr; sparse beats dense.linear from about 90% zeros"),
    (5e-7, "no form beats dense.linear; of the forms use csr; sparse beats dense.linear from about 95% zeros"),
    (1e-8, "no form beats dense.linear; of the forms use csr; sparse beats dense.linear from about 99.9% zeros"),
    (3e-9, "no form beats dense.linear; of the forms use csr; sparse beats dense.linear from about 99.97% zeros"),
    (0.0, "no form beats dense.linear; of the forms use csr, nor would one with fewer entries"),
])
def test_the_advice_says_plainly_whether_a_form_beats_the_dense_product(seconds, verdict):
    times = {"csr": 1e-6, "dense": 3e-6}
    found = advice.Advice(times, seconds, "csr", (8, 8), 0.9, 1, 1 - 0.1 * seconds / 1e-6, 1, "avx2", "")
    *_, first, second, last = str(found).splitlines()
    assert (first.split()[0], second.split()[0], last.strip()) == ("csr", "dense", verdict)
    assert all(line.endswith(" times as fast as dense.linear") for line in (first, second))


@pytest.mark.parametrize(("shape", "ones", "line"), [
    ((0, 5), 0, "0 x 5, no elements, batch 1;"), ((5, 0), 0, "5 x 0, no elements, batch 1;"),
    ((4, 5), 0, "4 x 5, 100.0% zeros, batch 1;"), ((4, 5), 1, "4 x 5, 95.0% zeros, batch 1;"),
])
def test_a_matrix_without_entries_has_no_crossover(shape, ones, line):
    w = np.zeros(shape, np.float32)
    w.flat[:ones] = 1
    found = advise(CSRMatrix.from_dense(w), 1, cache=False)
    assert np.isnan(found.crossover) == (not ones)
    assert str(found).startswith(line)
    assert ones or "zeros" not in str(found).splitlines()[-1]


def test_a_crossover_is_looked_for_where_the_matrix_with_its_zeros_is_not_too_large(w, monkeypatch):
    monkeypatch.setattr(advice, "SMALL", w.size - 1)
    found = advise(CSRMatrix.from_dense(w), 8, cache=False)
    assert "dense" in found.times
    assert np.isnan(found.crossover)
    assert "zeros" not in str(found).splitlines()[-1]


def entries_that_cost(fixed, each):
    """Time of a matrix over that of the dense product, if it is this much and this much an entry."""
    return lambda a: fixed + each * a.nnz


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize(("fixed", "at"), [(0.0, 0.6), (0.3, 0.6), (0.9, 0.75), (0.97, 0.95)])
def test_the_crossover_is_that_of_the_shape_whatever_matrix_is_asked_about(zeros, fixed, at):
    """Where a form has a cost of its own, time is not in proportion to the entries."""
    rng = np.random.default_rng(0)
    w = (rng.random((96, 400)) >= zeros).astype(np.float32)
    time_of = entries_that_cost(fixed, (1 - fixed) / (w.size * (1 - at)))
    blocks = BSRMatrix.from_dense(w[:, :40].repeat(10, axis=1), (1, 10))
    for a in (CSRMatrix.from_dense(w), BitmapMatrix.from_dense(w), blocks):
        assert crossover(a, time_of(a), time_of) == pytest.approx(at, abs=0.07 * (1 - at))


@pytest.mark.parametrize(("fixed", "each", "at"), [(1.1, 0, 1.0), (1.1, 1e-6, 1.0), (0.5, 0, 0.0), (0.5, 1e-9, 0.0)])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
def test_a_crossover_that_no_matrix_has_is_one_or_zero(zeros, fixed, each, at):
    a = CSRMatrix.from_dense((np.random.default_rng(0).random((96, 400)) >= zeros).astype(np.float32))
    time_of = entries_that_cost(fixed, each)
    assert crossover(a, time_of(a), time_of) == at


def test_a_crossover_below_one_entry_is_one():
    w = np.zeros((64, 64), np.float32)
    w.flat[:2] = 1
    a = CSRMatrix.from_dense(w)
    assert crossover(a, 1.5, entries_that_cost(1.2, 0.1)) == 1
    assert crossover(a, 8.0, lambda like: 8.0) == 1


def test_a_form_whose_time_does_not_change_is_left_for_one_that_suits_few_entries():
    a = CSRMatrix.from_dense(np.ones((96, 400), np.float32))
    per_entry = entries_that_cost(0.0, 1 / (a.nnz * 0.1))
    assert crossover(a, 2.0, lambda like: min(2.0, per_entry(like))) == pytest.approx(0.9, abs=0.01)


def test_a_pattern_of_groups_becomes_one_of_other_groups():
    a = NMMatrix.from_dense(np.tile(np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32), (96, 50)), 2, 8)
    of, time_of = [], entries_that_cost(0.0, 1 / (96 * 400 * 0.6))
    assert crossover(a, time_of(a), lambda like: of.append(like) or time_of(like)) == pytest.approx(0.4)
    assert [(like.n, like.m) for like in of] == [(5, 8)]


def test_matrices_like_another_have_its_rows_and_blocks():
    rng = np.random.default_rng(0)
    w = np.zeros((64, 2000), np.float32)
    w[:32] = rng.random((32, 2000)) < 0.2
    w[60:] = 1
    blocks = np.kron(w[::4, ::4], np.ones((4, 4), np.float32))
    for a in (CSRMatrix.from_dense(w), BitmapMatrix.from_dense(w), BSRMatrix.from_dense(blocks, (4, 4))):
        other = like(a, 2 * a.nnz / w.size)
        assert (type(other), other.shape) == (type(a), a.shape)
        entries = (other.to_dense() != 0).sum(axis=1)
        np.testing.assert_allclose(entries[:32], 0.4 * 2000, rtol=0.2)
        assert not entries[32:60].any()
        assert (entries[60:] == 2000).all()
    assert like(BSRMatrix.from_dense(blocks, (4, 4)), 0.3).block == (4, 4)


def test_forms_with_room_for_zeros_are_not_tried_on_a_matrix_that_is_nearly_all_of_them():
    n = 60_000  # 14 GB with its zeros
    a = CSRMatrix(np.ones(n, np.float32), np.arange(n, dtype=np.int32), np.arange(n + 1), (n, n))
    found = advise(a, 1, cache=False)
    assert set(found.times) == {"csr", "slices"}
    assert np.isnan([found.dense, found.speedup, found.crossover]).all()
    assert "dense" not in str(found)
    x = np.arange(n, dtype=np.float32)[None]
    np.testing.assert_array_equal(linear(x, a, format="auto"), x)


@pytest.mark.parametrize("flag", ["False", 0, None])
def test_flags_are_bools(w, flag):
    a = CSRMatrix.from_dense(w)
    with pytest.raises(TypeError, match="cache is"):
        advise(a, 1, cache=flag)
    for matrix in (a, BSRMatrix.from_dense(w, (4, 4))):
        with pytest.raises(TypeError, match="copy is"):
            matrix.to_scipy(copy=flag)


def test_other_values_are_not_measured_again_unless_asked_for(w, cache, monkeypatch):
    a = CSRMatrix.from_dense(w)
    first = advise(a, 1)
    with monkeypatch.context() as patch:
        patch.setattr(advice, "_measured", None)
        assert advise(a.with_data(2 * a.data), 1) == first
    measured, times = advice._measured, []
    monkeypatch.setattr(advice, "crossover", lambda *_: 0.5)
    monkeypatch.setattr(advice, "_measured", lambda *of: times.append(measured(*of)) or times[-1])
    again = advise(a, 1, cache=False)
    assert again.times.items() <= times[0].items()
    assert advise(a, 1) == again
    assert len(times) == 1


def test_what_somebody_makes_of_the_times_is_theirs(w, cache):
    a = CSRMatrix.from_dense(w)
    advise(a, 1).times.clear()
    assert advise(a, 1).speedup > 0


def test_times_are_kept_for_the_pattern_and_the_machine(w, cache, monkeypatch):
    first = advise(CSRMatrix.from_dense(w), 1)
    assert len(json.loads(cache.read_text())) == 1
    monkeypatch.setattr(advice, "_measured", lambda *_: pytest.fail("was measured again"))
    assert advise(CSRMatrix.from_dense(2 * w), 1) == first
    monkeypatch.undo()
    monkeypatch.setenv("PYCOMP_CACHE_DIR", str(cache.parent))
    monkeypatch.setattr(advice, "SECONDS", 0.0005)
    advise(CSRMatrix.from_dense(w), 2)
    other = w.copy()
    other[0, 0] = 1 if other[0, 0] == 0 else 0
    advise(CSRMatrix.from_dense(other), 1)
    assert len(json.loads(cache.read_text())) == 3
    advise(CSRMatrix.from_dense(w), 4, cache=False)
    assert len(json.loads(cache.read_text())) == 3


def test_times_of_other_blocks_and_backends_are_not_taken(cache, monkeypatch):
    monkeypatch.setattr(advice, "SECONDS", 0.0005)
    w = np.ones((8, 8), np.float32)
    matrices = [BSRMatrix.from_dense(w, (2, 2)), BSRMatrix.from_dense(w, (4, 4)), NMMatrix.from_dense(w, 4, 4),
                NMMatrix.from_dense(w, 8, 8)]
    for a in matrices:
        advise(a, 1)
    assert len(json.loads(cache.read_text())) == len(matrices)
    try:
        pycomp.set_backend("reference")
        advise(matrices[0], 1)
    finally:
        pycomp.set_backend(None)
    assert len(json.loads(cache.read_text())) == len(matrices) + 1


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 1}', "\0\0", "[" * 200_000],
                         ids=["empty", "cut", "list", "other", "bytes", "nested without end"])
def test_a_broken_file_is_measured_again_and_replaced(w, cache, content):
    cache.write_text(content)
    advise(CSRMatrix.from_dense(w), 1)
    assert advise(CSRMatrix.from_dense(w), 1).recommendation
    kept = json.loads(cache.read_text())
    assert isinstance(kept, dict)
    assert len(kept) == 1 + (content == '{"x": 1}')


def test_a_folder_that_cannot_be_written_does_no_harm(w, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYCOMP_CACHE_DIR", str(tmp_path / "file"))
    assert advise(CSRMatrix.from_dense(w), 1).recommendation


@pytest.mark.parametrize("cache", [True, False])
def test_a_user_without_a_home_gets_advice(w, monkeypatch, cache):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(advice.Path, "home", home)
    for name in ("PYCOMP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert advise(CSRMatrix.from_dense(w), 1, cache=cache).recommendation
    assert linear(np.ones((1, 96), np.float32), CSRMatrix.from_dense(w), format="auto").shape == (1, 64)


@pytest.mark.parametrize("m", [1, 3, 20])
def test_auto_runs_what_is_recommended_with_the_same_bits(w, m, monkeypatch):
    rng = np.random.default_rng(m)
    x = rng.standard_normal((m, 96)).astype(np.float32)
    a = CSRMatrix.from_dense(w)
    assert linear(x, a, format="auto").tobytes() == dense.linear(x, w).tobytes()
    recommended = advise(a, m).recommendation
    if pycomp.info()["backends"]["native"] is None:
        kernel = pycomp.info(last=True)["kernel"]
        linear(x, a, format="auto")
        expected = {"slices": "sell", "dense": "gemm"}.get(recommended, recommended)
        assert expected in pycomp.info(last=True)["kernel"]
        assert kernel
    assert linear(np.zeros((0, 96), np.float32), a, format="auto").shape == (0, 64)


def test_other_types_run_in_their_own_form(w):
    x = np.ones((2, 96), np.float32)
    a = CSRMatrix.from_dense(w).astype(np.float16)
    assert linear(x, a, format="auto").tobytes() == linear(x, a).tobytes()
    assert linear(x, quantize(CSRMatrix.from_dense(w)), format="auto").shape == (2, 64)


def test_auto_does_not_look_for_a_crossover_and_advice_then_does(w, cache, monkeypatch):
    a, x = CSRMatrix.from_dense(w), np.ones((1, 96), np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(advice, "crossover", None)
        linear(x, a, format="auto")
    found = advise(a, 1)
    assert not np.isnan(found.crossover)
    monkeypatch.setattr(advice, "crossover", None)
    assert advise(a, 1) == advise(CSRMatrix.from_dense(w), 1) == found
    content = json.loads(cache.read_text())
    for kept in content.values():
        kept["crossover"] = 1.5
    cache.write_text(json.dumps(content))
    linear(x, other := CSRMatrix.from_dense(w), format="auto")
    assert np.isnan(advice.known_advice(other, 1).crossover)


@pytest.mark.parametrize("make", [
    CSRMatrix.from_dense, BitmapMatrix.from_dense, lambda w: BSRMatrix.from_dense(w, (4, 4))])
def test_times_that_another_matrix_left_are_taken_and_the_crossover_found(w, make):
    linear(np.ones((2, 96), np.float32), make(w), format="auto")
    found = advise(other := make(w), 2)
    assert 0 <= found.crossover <= 1
    assert "dense" not in other.__dict__.get("_forms", {})


def test_only_the_recommended_form_is_kept(w):
    a = CSRMatrix.from_dense(w)
    found = advise(a, 4, cache=False)
    assert set(a._forms) == {found.recommendation}
    assert {"tiles", "slices", "windows"} & set(a._pattern) <= {found.recommendation}


def test_what_was_packed_before_is_kept_too(w):
    a = CSRMatrix.from_dense(w)
    linear(np.ones((4, 96), np.float32), a, format="bitmap")
    for name in ("tiles", "slices", "windows"):
        linear(np.ones((4, 96), np.float32), a.with_data(2 * a.data), format=name)  # the pattern is theirs too
    layouts = {name: a._pattern[name] for name in ("tiles", "slices", "windows")}
    found = advise(a, 4, cache=False)
    assert set(a._forms) == {"bitmap", found.recommendation}
    assert all(a._pattern[name] is layout for name, layout in layouts.items())


@pytest.mark.parametrize(("make", "batch", "error", "message"), [
    (CSRMatrix.from_dense, 0, ValueError, "batch is 0, expected at least 1"),
    (CSRMatrix.from_dense, 1.5, TypeError, "batch is 1.5"),
    (lambda w: w, 1, TypeError, "a is a ndarray, expected a sparse matrix"),
    (lambda w: CSRMatrix.from_dense(w).astype(np.float16), 1, TypeError,
     "a is a CSRMatrix of float16, expected a sparse matrix of float32"),
])
def test_what_cannot_be_advised_on_is_refused(w, make, batch, error, message):
    with pytest.raises(error, match=message):
        advise(make(w), batch)


def test_advice_that_is_known_costs_microseconds(w, cache):
    a = CSRMatrix.from_dense(w)
    advise(a, 1)
    took = []
    for _ in range(50):
        begun = time.perf_counter()
        advise(a, 1)
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.5e-3  # looking up all kernels took 10 ms
