"""Environment variables, threads and fallbacks: what is asked for happens, or an error lists the choices."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycomp
from pycomp.kernels import dispatch, native

CALL = "import numpy as np, pycomp; pycomp.dense.matmul(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)); "
needs_openmp = pytest.mark.skipif(not pycomp.info()["openmp"], reason="built without OpenMP")
needs_core = pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))


def run(code, **environment):
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=120,
                          cwd=Path(__file__).parent,  # not the root, whose pycomp/ is not the whole package
                          env={**os.environ, **environment})


def error(code, **environment):
    """The last line of the traceback."""
    done = run(code, **environment)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


@needs_core
def test_an_unknown_level_is_an_error_that_lists_the_choices():
    usable = ", ".join(name for name, here in native.levels().items() if here)
    expected = f"ValueError: PYCOMP_ISA: instruction-set level 'avx1024' is unknown; choose one of {usable}"
    assert error(CALL, PYCOMP_ISA="avx1024") == expected


@needs_core
def test_a_level_that_this_cpu_lacks_is_an_error():
    lacking = [name for name, here in native.levels().items() if not here]
    if not lacking:
        pytest.skip("this CPU has every level")
    assert "is not supported by this machine; choose one of generic" in error(CALL, PYCOMP_ISA=lacking[0])


@needs_core
def test_a_level_asked_for_is_the_one_that_runs():
    assert run(CALL + "print(pycomp.info(last=True)['isa'])", PYCOMP_ISA="generic").stdout == "generic\n"


def test_an_unknown_backend_is_an_error_that_lists_the_choices():
    expected = "ValueError: PYCOMP_BACKEND: backend 'fast' is unknown; choose one of native, jit, reference"
    assert error(CALL, PYCOMP_BACKEND="fast") == expected


@pytest.mark.parametrize("backend", [b for b in dispatch.BACKENDS if dispatch.missing(b) is None])
def test_a_backend_asked_for_is_the_one_that_runs(backend):
    assert run(CALL + "print(pycomp.info(last=True)['backend'])", PYCOMP_BACKEND=backend).stdout == f"{backend}\n"


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "4097"])
def test_a_bad_number_of_threads_is_an_error(value):
    expected = f"ValueError: PYCOMP_NUM_THREADS is {value!r}, expected an integer from 1 to 4096"
    assert error(CALL, PYCOMP_NUM_THREADS=value) == expected


# Python finds no compiled core and no Numba, as on a machine where neither was installed.
WITHOUT_CORE = "import sys; sys.modules['pycomp.kernels.native._core'] = None; "
WITHOUT_BOTH = WITHOUT_CORE + "sys.modules['numba'] = None; "


@pytest.mark.skipif(bool(dispatch.missing("jit")), reason="Numba is not installed")
def test_a_fallback_warns_once_and_is_visible():
    done = run(WITHOUT_CORE + CALL + CALL + "print(pycomp.info(last=True)['backend'], pycomp.info()['backends'])")
    assert done.stdout.startswith("jit {'native': 'the C core ")
    assert done.stderr.count("pycomp runs on the jit backend: native: the C core ") == 1
    assert len(done.stderr.splitlines()) == 1


def test_without_core_and_numba_the_references_run_and_say_so():
    done = run(WITHOUT_BOTH + CALL + "print(pycomp.info(last=True)['backend'])")
    assert done.stdout == "reference\n"
    assert "pycomp runs on the reference backend: native: " in done.stderr
    assert "jit: Numba is not installed: pip install 'pycomp[jit]'" in done.stderr


@pytest.fixture
def with_broken_numba(tmp_path):
    """Python finds an installed Numba that refuses to be imported."""
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs\\nNumPy 2.2 or less')")
    return f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "


REFUSAL = "Numba does not load (ImportError: Numba needs NumPy 2.2 or less)"


def test_a_numba_that_does_not_load_counts_as_missing_and_says_why(with_broken_numba):
    done = run(with_broken_numba + "import pycomp; print(pycomp.info()['backends']['jit'])")
    assert done.stdout == REFUSAL + "\n", done.stderr
    done = run(with_broken_numba + WITHOUT_CORE + CALL + "print(pycomp.info(last=True)['backend'])")
    assert done.stdout == "reference\n", done.stderr
    assert f"jit: {REFUSAL}" in done.stderr
    message = error(with_broken_numba + "import pycomp; pycomp.set_backend('jit')")
    assert message.startswith(f"ValueError: backend 'jit' is not available ({REFUSAL}); available: ")


def test_a_level_without_the_core_is_an_error():
    assert error(WITHOUT_CORE + CALL, PYCOMP_ISA="generic").startswith(
        "ValueError: PYCOMP_ISA: instruction-set level 'generic' cannot be chosen: the C core ")


def test_a_backend_that_cannot_run_is_an_error_with_its_reason():
    message = error(WITHOUT_BOTH + CALL, PYCOMP_BACKEND="native")
    assert message.startswith("ValueError: PYCOMP_BACKEND: backend 'native' is not available (the C core ")
    assert message.endswith("; available: reference")


@pytest.mark.parametrize("n", [True, 1.0, "2"])
def test_a_number_of_threads_that_is_no_integer_is_refused(n):
    with pytest.raises(TypeError, match="expected an integer"):
        pycomp.set_num_threads(n)


@pytest.mark.parametrize("n", [0, -1, 4097])
def test_a_number_of_threads_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match=f"n is {n}, expected 1 to 4096"):
        pycomp.set_num_threads(n)


@needs_openmp
@pytest.mark.parametrize(("environment", "expected"), [
    ({"OMP_NUM_THREADS": "3"}, 3),
    ({"OMP_NUM_THREADS": "3", "PYCOMP_NUM_THREADS": "2"}, 2),
    ({"OMP_NUM_THREADS": "2", "PYCOMP_NUM_THREADS": "5"}, 5),
])
def test_the_environment_sets_the_threads(environment, expected):
    assert run("import pycomp; print(pycomp.get_num_threads())", **environment).stdout == f"{expected}\n"


@needs_openmp
def test_threadpoolctl_limits_the_kernels_and_a_block_gives_its_limit_back():
    code = """
import pycomp, threadpoolctl
print(pycomp.get_num_threads())
with threadpoolctl.threadpool_limits(1):
    print(pycomp.get_num_threads())
    with pycomp.threads(3):
        print(pycomp.get_num_threads())
print(pycomp.get_num_threads())
with pycomp.threads(2):
    print(pycomp.get_num_threads())
    with pycomp.threads(None):
        print(pycomp.get_num_threads())
    print(pycomp.get_num_threads())
print(pycomp.get_num_threads())
"""
    done = run(code, OMP_NUM_THREADS="4")
    assert done.stdout.split() == ["4", "1", "1", "4", "2", "4", "2", "4"], done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_the_same_and_does_not_hang():
    code = """
import os, numpy as np, pycomp
a = np.random.default_rng(0).random((300, 300), np.float32)
whole = pycomp.dense.matmul(a, a).tobytes()  # the pool of threads exists from here on
child = os.fork()
if not child:
    os._exit(0 if pycomp.dense.matmul(a, a).tobytes() == whole else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code, OMP_NUM_THREADS="3").stdout == "0\n"


@needs_core
def test_another_python_thread_runs_while_a_kernel_does():
    code = """
import threading, time, numpy as np, pycomp
a = np.ones((1500, 1500), np.float32)
pycomp.set_num_threads(1)
packed = pycomp.dense.pack(a)
worker = threading.Thread(target=lambda: [pycomp.dense.linear(a, packed) for _ in range(4)])
ticks = []
worker.start()
while worker.is_alive():
    ticks.append(time.perf_counter())
    time.sleep(0.001)
longest = max(b - a for a, b in zip(ticks, ticks[1:]))
print(longest < 0.5 * (ticks[-1] - ticks[0]))
"""
    assert run(code).stdout == "True\n"


def test_odd_settings_are_refused_in_one_line_and_numpy_integers_taken():
    with pytest.raises(ValueError, match=r"instruction-set level 0 is unknown; choose one of"):
        pycomp.set_isa(0)
    before = pycomp.get_num_threads()
    with pycomp.threads(np.int64(1)):
        assert pycomp.get_num_threads() == 1
    assert pycomp.get_num_threads() == before
