"""Kernels for compressing neural networks and for running them compressed, on the CPU, from NumPy arrays.

Submodules load when they are used: ``dense``, ``sparse``, ``quantization``, ``pruning``, ``distillation``,
``testing``, ``compare``.
"""

import importlib
import importlib.util
from typing import Any

from ._errors import FormatError
from ._version import __version__

__all__ = [
    "FormatError",
    "__version__",
    "compare",
    "dense",
    "distillation",
    "get_include",
    "get_library",
    "get_num_threads",
    "info",
    "pruning",
    "quantization",
    "set_backend",
    "set_isa",
    "set_num_threads",
    "sparse",
    "testing",
    "threads",
]

_SUBMODULES = frozenset({"compare", "dense", "distillation", "kernels", "pruning", "quantization", "sparse", "testing"})
_RUNTIME = frozenset(
    {"get_include", "get_library", "get_num_threads", "info", "set_backend", "set_isa", "set_num_threads", "threads"}
)

if importlib.util.find_spec("pycomp.kernels") is None:
    raise ImportError(
        "pycomp was found in a source tree, not installed: run `pip install .` there, and start Python elsewhere"
    )


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _RUNTIME:
        return getattr(importlib.import_module(f"{__name__}._runtime"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
