"""Rows together have the bits of rows alone, also where the room for x, or a block of k, ends."""

import numpy as np
import pytest

import pycomp
from pycomp import dense
from pycomp.kernels import native

LEVELS = [name for name, usable in native.levels().items() if usable]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("m", "k", "n"), [
    *((m, k, 17) for m in (9, 70) for k in (1023, 1024, 1025, 2047, 2048, 2049, 3073)),  # panels: k is cut above 2048
    *((6, 22187 - d, 17) for d in range(0, 50, 3)),  # one panel, and k that just fits, or does not
    *((8, 16641 - d, 17) for d in range(0, 50, 3)),
    *((m, 2049, 4097) for m in (3, 4, 5, 10)),  # weights from memory, which four rows may read as two panels
    # Two panels or three, which take short blocks; AVX-512's last tile has one vector, or three that are not whole.
    *((m, k, n) for m in (9, 16, 17, 24, 25) for k, n in ((383, 1201), (385, 1240), (1300, 1240))),
    (4, 2048, 4096), (300, 700, 17), (1000, 3, 17)])
@pytest.mark.usefixtures("at_level")
def test_rows_together_equal_rows_alone(m, k, n):
    rng = np.random.default_rng(k)
    x, w = rng.standard_normal((m, k), np.float32), dense.pack(rng.standard_normal((n, k), np.float32))
    for end in {}, {"bias": rng.standard_normal(n, np.float32), "activation": "relu"}:
        alone = np.concatenate([dense.linear(x[i : i + 1], w, **end) for i in range(m)])
        for threads in (1, 3):
            with pycomp.threads(threads):
                assert dense.linear(x, w, **end).tobytes() == alone.tobytes()
