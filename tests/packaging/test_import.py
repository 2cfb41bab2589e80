"""What importing costs, and what it says where it cannot go on."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ["pycomp", "pycomp.dense", "pycomp.sparse", "pycomp.quantization", "pycomp.pruning", "pycomp.distillation"]


def python(code, *options):
    """A Python that may keep compiled modules, outside the root, whose pycomp/ is not the whole package."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, *options, "-c", code], text=True, capture_output=True, timeout=120,
                          cwd=Path(__file__).parent, env=environment)


@pytest.mark.parametrize("modules", ["pycomp", "pycomp.sparse", ", ".join(MODULES)])
def test_import_takes_less_than_30_ms_beyond_numpy(modules):
    """On a busy machine everything takes longer, so 30 % of what NumPy takes in the same process will also do."""
    code = f"""
import time
start = time.process_time(); import numpy
middle = time.process_time(); import {modules}
print(middle - start, time.process_time() - middle)
"""
    runs = [tuple(map(float, python(code).stdout.split())) for _ in range(5)]
    assert statistics.median(ours / max(0.030, 0.3 * numpys) for numpys, ours in runs) < 1


def test_import_and_a_call_load_no_optional_package():
    code = (f"import sys, numpy as np, {', '.join(MODULES)}\n"
            "pycomp.dense.matmul(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)); pycomp.get_num_threads()\n"
            "print(*{'numba', 'cffi', 'pycparser', 'scipy', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules))")
    assert python(code).stdout.split() == []


def test_import_from_the_source_tree_says_what_to_do():
    run = python(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pycomp", "-I", "-S")
    assert run.stderr.splitlines()[-1].startswith("ImportError: pycomp was found in a source tree, not installed")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'pycomp' has no attribute 'nonsense'"):
        __import__("pycomp").nonsense  # noqa: B018


@pytest.mark.parametrize("package", ["pycomp", "pycomp.quantization", "pycomp.sparse", "pycomp.distillation"])
def test_every_public_name_is_listed_and_exists(package):
    run = python(f"import {package} as p; assert dir(p) == sorted(p.__all__), dir(p); "
                 "assert all(getattr(p, name) is not None for name in p.__all__)")
    assert run.returncode == 0, run.stderr
