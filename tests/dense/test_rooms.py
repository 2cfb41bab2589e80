"""Rows together have the bits of rows alone, also where the room for x, or a block of k, ends."""

import numpy as np
import pytest

import pycomp
from pycomp import dense
from pycomp.kernels import native

LEVELS = [name for name, usable in native.levels().items() if usable]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("m", "k"), [
    *((m, k) for m in (9, 70) for k in (1023, 1024, 1025, 2047, 2048, 2049, 3073)),  # panels: k is cut above 2048
    *((6, 22187 - d) for d in range(0, 50, 3)),  # one panel, and k that just fits, or does not
    *((8, 16641 - d) for d in range(0, 50, 3)),
    (300, 700), (1000, 3)])
def test_rows_together_equal_rows_alone(m, k, level):
    rng = np.random.default_rng(k)
    x, w = rng.standard_normal((m, k)).astype(np.float32), dense.pack(rng.standard_normal((17, k)).astype(np.float32))
    pycomp.set_isa(level)
    try:
        alone = np.concatenate([dense.linear(x[i : i + 1], w) for i in range(m)])
        for threads in (1, 3):
            with pycomp.threads(threads):
                assert dense.linear(x, w).tobytes() == alone.tobytes()
    finally:
        pycomp.set_isa(None)
