"""Tests run against the installed package, also with `python -m pytest`."""

import sys
from pathlib import Path

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
