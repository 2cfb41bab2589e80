"""``python -m benchmarks``: wrong arguments are refused before anything is measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pycomp.kernels import native

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
    (["--seconds", "-1"], "--seconds: '-1', expected a finite number above 0"),
    (["--seconds", "inf"], "--seconds: 'inf', expected a finite number above 0"),
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


def test_a_figure_of_each_number_of_threads_is_written_where_the_user_is(tmp_path):
    level = "generic" if native.missing() is None else None
    done = subprocess.run(
        [sys.executable, FOLDER, "pack_f32", "--no-peers", "--threads", "1,2", "--rounds", "1", "--seconds", "1e-3",
         "--json", "figures", *(["--levels", level] if level else [])],
        cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "figures").read_text().splitlines()]
    assert [(row["threads"], row["kernel"]) for row in rows] == [(1, "pack_f32"), (2, "pack_f32")]
    assert all(row["contender"] == f"pycomp {level or ''}".strip() for row in rows)
