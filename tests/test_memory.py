"""A call takes memory for its result and its documented workspace, and for nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycomp.kernels import native

# MALLOC_MMAP_THRESHOLD_ makes the C library give freed arrays back, or a call could reuse them unseen.
# The highest resident size while CALL runs, less the one before it. Small calls come first, so that threads exist.
PROGRAM = """
import re, sys
import numpy as np
import pycomp
from pycomp import dense, pruning, quantization, sparse
from pycomp.kernels import native

def resident(name):
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(name + r":\\s*(\\d+) kB", status.read())[1])

def operands(size):
    def draw(*shape):
        return np.random.default_rng(0).random([n // size for n in shape], np.float32)
    scope = dict(globals(), draw=draw)
    exec(sys.argv[1], scope)
    return scope

call = compile(sys.argv[2], "call", "eval")
eval(call, operands(8))
scope = operands(1)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = resident("VmRSS")
result = eval(call, scope)
print(resident("VmHWM") - before)
"""
MB = 1 << 20
SLACK = 2 * MB  # the kernel counts pages in batches

CASES = {
    # name: (operands, call, result and workspace in bytes)
    "dense.linear": (
        "x = draw(2048, 2048); w = dense.pack(draw(2048, 2048)); b = draw(2048)",
        "dense.linear(x, w, b, activation='relu')", 16 * MB),
    "dense.linear into out": (
        "x = draw(2048, 2048); w = dense.pack(draw(2048, 2048)); out = x + 1",
        "dense.linear(x, w, out=out)", 0),
    "dense.linear of a part of each row": (
        "x = draw(2048, 4096); x = np.split(x, 2, axis=1)[1]; w = dense.pack(draw(2048, 2048))",
        "dense.linear(x, w)", 16 * MB),
    "dense.matmul": (  # and b packed
        "a = draw(2048, 2048); b = draw(2048, 2048)",
        "dense.matmul(a, b)", 32 * MB),
    "dense.matmul with a transposed": (
        "a = draw(2048, 2048); b = draw(2048, 2048).T",
        "dense.matmul(a, b)", 32 * MB),
    "sparse.linear": (  # and 256 rows of x packed
        "x = draw(2048, 4096); w = draw(2048, 4096); a = sparse.CSRMatrix.from_dense(np.where(w < 0.1, w, 0))",
        "sparse.linear(x, a)", 16 * MB + 4 * MB),
    "sparse.linear of one row": (
        "x = draw(8, 4096)[:1]; w = draw(2048, 4096); a = sparse.CSRMatrix.from_dense(np.where(w < 0.1, w, 0))",
        "sparse.linear(x, a)", 0),
    "sparse.linear in tiles that are packed first": (  # and 90 bytes an entry
        "v = draw(131072); i = (v * 60000).astype(np.int32); x = np.ones((2, 60000), np.float32)"
        "; a = sparse.CSRMatrix(v, i, np.arange(len(v) + 1), (len(v), 60000))",
        "sparse.linear(x, a, format='tiles')", 16 * MB),
    "sparse.matmul": (  # and 256 columns of b packed
        "b = draw(4096, 2048); w = draw(2048, 4096); a = sparse.CSRMatrix.from_dense(np.where(w < 0.1, w, 0))",
        "sparse.matmul(a, b)", 16 * MB + 4 * MB),
    "pruning.unstructured_mask": (
        "w = draw(8192, 2048)", "pruning.unstructured_mask(w, 0.9)", 16 * MB),
    "pruning.unstructured_mask by magnitude": (
        "w = draw(8192, 2048)", "pruning.unstructured_mask(w, 0.5, by_magnitude=True)", 16 * MB),
    "quantization.quantize": (
        "x = draw(8192, 2048)", "quantization.quantize(x)", 16 * MB),
    "quantization.quantize of columns, without zero points in the middle": (
        "x = draw(8192, 2048)", "quantization.quantize(x, axis=1, symmetric=False)", 16 * MB),
    "quantization.quantize in groups": (  # and 8 bytes a group
        "x = draw(8192, 2048)", "quantization.quantize(x, group_size=32)", 16 * MB + 4 * MB),
    "quantization.quantize into out": (
        "x = draw(8192, 2048); out = np.ones(x.shape, np.int8)", "quantization.quantize(x, scale=0.1, out=out)", 0),
    "quantization.dequantize": (
        "q = quantization.quantize(draw(4096, 2048), axis=0)", "quantization.dequantize(q)", 32 * MB),
    "quantization.requantize": (
        "acc = draw(8192, 2048).view(np.int32)", "quantization.requantize(acc, 0.5)", 16 * MB),
    "quantization.Linear": (  # and codes of x
        "x = draw(2048, 2048); layer = quantization.Linear(draw(2048, 2048))", "layer(x)", 16 * MB + 4 * MB),
    "quantization.Linear of many long rows, with AVX2 alone": (  # and 3.5 bytes a code of 256 rows
        "pycomp.set_isa('avx2' if native.levels().get('avx2') else None)"
        "; x = draw(512, 16384); layer = quantization.Linear(draw(256, 16384))", "layer(x)",
        8 * MB + (14 * MB if native.levels().get("avx2") else 0)),
    "pruning.nm_mask": (
        "w = draw(8192, 2048)", "pruning.nm_mask(w, 2, 4)", 16 * MB),
}


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be read here")
@pytest.mark.parametrize("name", CASES)
def test_peak_memory_is_result_and_documented_workspace(name):
    operands, call, expected = CASES[name]
    done = subprocess.run([sys.executable, "-c", PROGRAM, operands, call], text=True, capture_output=True, timeout=120,
                          cwd=Path(__file__).parent,  # not the root, whose pycomp/ is not the whole package
                          env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}, check=False)
    assert done.returncode == 0, done.stderr
    used = int(done.stdout)
    assert used <= expected + SLACK, f"{used / MB:.1f} MB, expected {expected / MB:.0f}"
    assert used >= expected - SLACK, "the measurement sees less than the result"
