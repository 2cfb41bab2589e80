"""``python -m benchmarks``: wrong arguments are refused before anything is measured; figures say what they are of."""

import ctypes
import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pycomp
from pycomp.kernels import dispatch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    """The program as a module; it changes where Python looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        spec = importlib.util.spec_from_file_location("benchmarks_main", FOLDER / "__main__.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize(("arguments", "message"), [
    (["gemm_f31"], "no such kernel: gemm_f31"),
    (["--threads", "0"], "--threads: '0', expected numbers from 1 to 4096"),
    (["--threads", "-1"], "--threads: '-1', expected numbers from 1 to 4096"),
    (["--threads", "1,4097"], "--threads: '1,4097', expected numbers from 1 to 4096"),
    (["--threads", "a"], "--threads: 'a', expected numbers from 1 to 4096"),
    (["--levels", "avx1024"], "--levels: 'avx1024', expected levels of this machine: "),
    (["--levels", ""], "--levels: '', expected levels of this machine: "),
    (["--rounds", "0"], "--rounds: '0', expected a whole number of at least 1"),
    (["--seconds", "-1"], "--seconds: '-1', expected a number above 0, up to 3600"),
    (["--seconds", "inf"], "--seconds: 'inf', expected a number above 0, up to 3600"),
    (["--seconds", "1e308"], "--seconds: '1e308', expected a number above 0, up to 3600"),
    (["--seconds", "nan"], "--seconds: 'nan', expected a number above 0, up to 3600"),
    (["--cold", "0"], "--cold: '0', expected a whole number of MiB from 1 to 65536"),
    (["--cold", "1e3"], "--cold: '1e3', expected a whole number of MiB from 1 to 65536"),
    (["--shapes", "1,2"], "--shapes: no such sizes: 1,2"),
    (["gemm_f32", "--shapes", "1,768,768", "a,b,c"], "--shapes: no such sizes: a,b,c; choose of 1,768,768 "),
    (["--shapes"], "--shapes"),
    (["--json", "."], "--json: cannot write .: Is a directory"),
    (["--json", "nowhere/figures"], "--json: cannot write nowhere/figures: No such file or directory"),
])
def test_wrong_arguments_exit_2_and_name_it(benchmarks, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(benchmarks.subprocess, "call", lambda *_, **__: pytest.fail("was run"))
    monkeypatch.setattr(benchmarks, "measure", lambda *_: pytest.fail("was measured"))
    with pytest.raises(SystemExit) as left:
        benchmarks.main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'sparse_dot_mkl'"), RuntimeError()])
@pytest.mark.parametrize("when", ["made", "called"])
def test_a_peer_that_is_missing_is_left_out_with_a_line(benchmarks, capsys, error, when):
    def fail():
        raise error

    assert benchmarks.others({"MKL": fail if when == "made" else lambda: fail}) == []
    assert capsys.readouterr().out == f"    (MKL: {type(error).__name__}: {error})\n"


def test_a_peer_whose_products_saturate_is_said_to(benchmarks):
    of_codes = importlib.import_module("bench_quantization")
    case = benchmarks.make_case(benchmarks.KERNELS["gemm_u8s8"], {"m": 3, "k": 64, "n": 48})
    case.inputs[0][...] = np.random.default_rng(0).integers(0, 256, (3, 64))
    x, w = of_codes.weights(case)
    exact = x.astype(np.int64) @ w
    pairs = (x.astype(np.int64)[:, :, None] * w).reshape(3, 32, 2, 48).sum(axis=2).clip(-(2**15), 2**15 - 1).sum(axis=1)
    wrong = np.abs(pairs - exact).max() / np.abs(exact).max()
    assert wrong > 0.01
    signed = x.view(np.int8).astype(np.int64) @ w
    results = {"exact": exact, "signed": signed, "as OpenVINO": {"y": exact}, "pairs": pairs}
    peers = {name: lambda case, y=y: lambda: y for name, y in results.items()}
    remarks = {peer.name: peer.remark for peer in benchmarks.others(peers, case, remark=of_codes.saturation)}
    assert remarks == {"exact": "", "signed": "", "as OpenVINO": "", "pairs": f"wrong by {100 * wrong:.0f} %"}
    assert {peer.remark for peer in benchmarks.others(peers, case)} == {""}


@pytest.fixture
def reference():
    dispatch.set_backend("reference")
    yield "reference"
    dispatch.set_backend(None)


def test_levels_are_refused_where_the_backend_has_none(benchmarks, capsys, reference):
    with pytest.raises(SystemExit) as left:
        benchmarks.main(["pack_f32", "--levels", "generic"])
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(
        "--levels: 'generic', expected levels of this machine: none, as the backend is reference, which has no levels")


def test_another_backend_than_native_is_named(benchmarks, capsys, monkeypatch, reference):
    monkeypatch.setattr(benchmarks.limits, "measure", lambda threads, tiles: {})
    given = ["gemm_f32", "linear_int8_dynamic", "--shapes", "1,768,768", "--no-peers", "--rounds", "1"]
    rows = benchmarks.measure(benchmarks.options_of(given), pycomp.get_num_threads())
    assert {(row["backend"], row["contender"]) for row in rows} == {(reference, f"pycomp {reference}")}
    assert capsys.readouterr().out.splitlines()[1].split("; ")[0].endswith(f"thread(s), {reference}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line(benchmarks, capsys, monkeypatch):
    monkeypatch.setattr(benchmarks, "measure", lambda *_: [{}])
    assert benchmarks.main(["--child", "1", "--json", "/dev/full"]) == 1
    assert capsys.readouterr().err == "cannot write /dev/full: No space left on device\n"


def test_a_process_that_dies_is_one_line(benchmarks, capsys, monkeypatch):
    monkeypatch.setattr(benchmarks.subprocess, "call", lambda command, env: -signal.SIGSEGV)
    assert benchmarks.main(["pack_f32"]) == -signal.SIGSEGV
    assert capsys.readouterr().err == (
        "with 1 thread(s): SIGSEGV, of a peer or pycomp; PYTHONFAULTHANDLER=1 shows whose\n")


def test_a_limit_is_the_best_of_some_measurements(benchmarks):
    found = itertools.chain([3.0, 5.0], itertools.repeat(4.0))
    assert benchmarks.limits._together(1, lambda thread: next(found)) == 5


def test_memory_is_read_in_the_fastest_way(benchmarks, monkeypatch):
    rates = {way: 3.0 for way in benchmarks.limits.WAYS} | {(4, 1): 8.0, (4, 0): 7.0}
    library = SimpleNamespace(read_limit=lambda start, size, streams, asks, seconds: rates[streams.value, asks.value])
    monkeypatch.setattr(benchmarks.limits, "_library", lambda: library)
    memory = benchmarks.limits.Reading(1 << 20, threads=2)
    assert memory.best == 2 * 8
    rates[4, 1] = 1.0
    assert memory.rate() == 2 * 1


def test_every_call_takes_the_next_copy(benchmarks):
    taken = []
    copies = [[benchmarks.Contender("ours", lambda copy=copy: taken.append(copy))] for copy in range(3)]
    (ours,) = benchmarks.rotating(copies)
    for _ in range(7):
        ours.run()
    assert (ours.name, taken) == ("ours", [0, 1, 2, 0, 1, 2, 0])


def test_cold_operands_are_as_many_copies_as_fill_so_much_memory(benchmarks, monkeypatch, reference):
    monkeypatch.setattr(benchmarks.limits, "measure", lambda threads, tiles: {})
    given = ["gemm_f32", "--shapes", "1,768,768", "--no-peers", "--rounds", "1", "--seconds", "1e-3", "--cold", "7"]
    (row,) = benchmarks.measure(benchmarks.options_of(given), 1)
    assert row["copies"] == 4  # of 2.25 MiB of weights each


def test_what_is_too_small_to_be_cold_is_left_out_with_a_line(benchmarks, capsys, monkeypatch):
    monkeypatch.setattr(benchmarks.limits, "measure", lambda threads, tiles: {})
    given = benchmarks.options_of(["gemm_f32", "--shapes", "1,768,768", "--cold", "65536"])
    assert benchmarks.measure(given, 1) == []
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"    \(left out: 65536 MiB are 29\d{3} copies of its operands, above 256\)", said)


def test_limits_are_timed_with_the_contenders(benchmarks, monkeypatch, reference):
    monkeypatch.setattr(benchmarks.limits, "measure", lambda threads, tiles: {"fma": 1.0, "dot": 1.0, "memory": 1.0})
    monkeypatch.setattr(benchmarks.limits, "Reading", lambda size, threads: SimpleNamespace(rate=lambda: 2.0))
    monkeypatch.setattr(benchmarks.limits, "arithmetic", lambda kind, threads: {"fma": 4.0, "dot": 8.0}[kind])
    for name, rate in {"gemm_f32": 4e9, "linear_int8_dynamic": 8e9}.items():
        given = [name, "--shapes", "1,768,768", "--no-peers", "--rounds", "1"]
        rows = benchmarks.measure(benchmarks.options_of(given), 1)
        assert [row["contender"] for row in rows] == [f"pycomp {reference}", benchmarks.ADDING, benchmarks.READING]
        assert rows[1]["seconds"] == 2 * 768 * 768 / rate
        assert rows[2]["seconds"] == benchmarks.SUBJECTS[name].bytes(m=1, k=768, n=768) / 2e9


def test_products_of_codes_are_held_to_tiles_where_those_are_used(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks.limits, "arithmetic", lambda kind, threads: {"dot": 8.0, "tile": 64.0}[kind])
    call = {"flops": 1.0, "moved": 1.0, "threads": 1, "copies": 1}
    for machine, rates in (({"dot": 8.0, "tile": 64.0}, (64.0, 8.0)), ({"dot": 8.0}, (8.0, 8.0))):
        limits = [benchmarks.limits_of(benchmarks.SUBJECTS[name], machine=machine, **call)
                  for name in ("gemm_u8s8_f32", "spmm_tiles_u8s8")]
        assert tuple(found.run() for (found,) in limits) == rates


@pytest.mark.parametrize(("unit", "names"), [
    ("fma", ["gemm_f32", "gemm_f32s8", "spmm_tiles_s8", "sddmm_csr_f32"]),
    ("dot", ["spmm_tiles_u8s8", "spmv_sell_u8s8"]),
    ("tile", ["gemm_s8s8", "matmul_u8u8", "linear_static_f32", "matmul_int8", "matmul_7_bits", "linear_int8_dynamic"]),
    (None, ["pack_s8", "softmax_f32", "quantize_s8", "kd_loss"]),
])
def test_what_a_product_is_held_to(benchmarks, unit, names):
    assert [benchmarks.unit_of(benchmarks.SUBJECTS[name]) for name in names] == [unit] * len(names)


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_every_way_to_read_is_known_to_the_program_in_c(benchmarks):
    array = np.zeros(8192, np.uint8)
    start = ctypes.c_void_p(array.ctypes.data + -array.ctypes.data % 64)
    read = benchmarks.limits._library().read_limit
    known = [(n, asks) for n in range(1, 10) for asks in (0, 1)
             if read(start, ctypes.c_int64(4096), ctypes.c_int(n), ctypes.c_int(asks), ctypes.c_double(1e-4))]
    assert known in ([], [*benchmarks.limits.WAYS])  # none without AVX2


def test_a_figure_of_each_number_of_threads_is_written_where_the_user_is(benchmarks, tmp_path):
    level = next(iter(benchmarks.usable_levels()), None)
    done = subprocess.run(
        [sys.executable, FOLDER, "pack_f32", "--no-peers", "--threads", "1,2", "--rounds", "1", "--seconds", "1e-3",
         "--json", "figures", *(["--levels", level] if level else [])],
        cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "figures").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["contender"] != benchmarks.READING]
    assert [(row["threads"], row["kernel"]) for row in rows] == [(1, "pack_f32"), (2, "pack_f32")]
    used = benchmarks.backend()
    assert all((row["backend"], row["contender"]) == (used, f"pycomp {level or used}") for row in rows)
