"""Kernels for compressing neural networks and for running them compressed, on the CPU, from NumPy arrays.

Submodules load when they are used: ``dense``, ``sparse``, ``quantization``, ``pruning``, ``distillation``,
``testing``, ``compare``.
"""

import importlib.util

from ._errors import FormatError
from ._lazy import attributes
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

if importlib.util.find_spec("pycomp.kernels") is None:
    raise ImportError(
        "pycomp was found in a source tree, not installed: run `pip install .` there, and start Python elsewhere"
    )

__getattr__, __dir__ = attributes(__name__, __all__, {
    "compare": "compare", "dense": "dense", "distillation": "distillation", "get_include": "_runtime",
    "get_library": "_runtime", "get_num_threads": "_runtime", "info": "_runtime", "kernels": "kernels",
    "pruning": "pruning", "quantization": "quantization", "set_backend": "_runtime", "set_isa": "_runtime",
    "set_num_threads": "_runtime", "sparse": "sparse", "testing": "testing", "threads": "_runtime",
})
