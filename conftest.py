"""Tests run against the installed package, also with `python -m pytest`; and what those of several folders share."""

import sys
from pathlib import Path

import numpy as np
import pytest

root = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != root]


@pytest.fixture
def at_level(level):
    """The test runs at the instruction-set level of its parameter."""
    import pycomp

    pycomp.set_isa(level)
    yield
    pycomp.set_isa(None)


@pytest.fixture(scope="session")
def every_float32():
    """Of a step and a start: all float32 whose bits are start, start + step, ..., in chunks."""
    size = 1 << 18

    def chunks(step, start=0):
        for first in range(start, 1 << 32, step * size):
            yield np.arange(first, min(first + step * size, 1 << 32), step, dtype=np.uint32).view(np.float32)

    return chunks


@pytest.fixture(scope="session")
def worst_ulp():
    """Of float32 and what they should be: the largest error, where NaN and infinities are at their places."""
    from pycomp.kernels.reference.distillation import ulp

    def worst(y, exact):
        finite = np.isfinite(exact)
        assert (np.isnan(y) == np.isnan(exact)).all()
        assert (y[np.isinf(exact)] == exact[np.isinf(exact)]).all()
        return float((np.abs(y[finite] - exact[finite]) / ulp(exact[finite])).max(initial=0.0))

    return worst
