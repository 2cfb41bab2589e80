"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import pycomp
from pycomp import kernels
from pycomp.kernels import dispatch

MODULES = ["pycomp"] + [
    name
    for package in (pycomp, kernels)
    for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not name.endswith(("build_native", "__main__"))
]


@pytest.mark.parametrize("module", sorted(set(MODULES)))
def test_examples_in_docstrings(module):
    if module.startswith("pycomp.kernels.jit.") and dispatch.missing("jit"):
        pytest.skip(dispatch.missing("jit"))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(module), optionflags=flags).failed == 0
