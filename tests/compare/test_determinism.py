"""The report, timings apart, does not depend on threads, instruction set or backend: processes are compared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycomp

SCRIPT = """
import hashlib, json
import numpy as np
from pycomp.compare import Dataset, Plan, Report, Settings, run
from pycomp.compare.methods import Study, train_teacher, variants

rng = np.random.default_rng(7)
y = np.arange(260) % 10
x = (rng.integers(0, 9, (260, 64)) + 8 * (np.arange(64) // 7 == y[:, None])).astype(np.float32) / np.float32(16)
data = Dataset("blobs", "made by integers", x[:200], y[:200], x[200:], y[200:])
plan = Plan(epochs=3, rate=0.1)
settings = Settings("blobs", hidden=(48, 32), student=(12,), teacher_plan=plan, tune_plan=plan, student_plan=plan,
                    sparsities=(0.6, 0.9), temperatures=(3.0,), batches=(1,), rounds=1)
print(json.dumps(Report(run(settings, data), "size", "").results()))
study = Study(settings, data)
for variant in variants(study, train_teacher(study)):
    digest = hashlib.sha256()
    for layer in variant.network.layers:
        for array in layer.stored:
            digest.update(array.tobytes())
    digest.update(variant.network(data.test_x).tobytes())
    print(variant.name, digest.hexdigest())
"""


def output(**environment):
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300,
                          cwd=Path(__file__).parent,  # not the root, whose pycomp/ is not the whole package
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def expected():
    return output(PYCOMP_NUM_THREADS="2")


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("level", ["generic", "avx2", "avx512"])
def test_bits_of_a_whole_comparison_do_not_depend_on_the_level(expected, level, threads):
    if not pycomp.info()["isa_levels"].get(level):
        pytest.skip(f"this machine has no level {level}")
    assert output(PYCOMP_ISA=level, PYCOMP_NUM_THREADS=threads) == expected


@pytest.mark.slow
def test_bits_of_a_whole_comparison_do_not_depend_on_the_backend(expected):
    assert output(PYCOMP_BACKEND="jit") == expected
