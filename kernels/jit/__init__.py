"""Numba implementations: the same chains as the C core, bit for bit, on one thread. Numba loads when asked for."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from ..contract import KERNELS


@functools.cache
def missing() -> str | None:
    """Finding out takes an import of Numba: an installed one may refuse this NumPy or this Python."""
    try:
        importlib.import_module(f"{__name__}.arithmetic")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "numba":
            return "Numba is not installed: pip install 'pycomp[jit]'"
        return f"Numba does not load ({type(error).__name__}: {' '.join(str(error).split())})"
    return None


PARTS = {"distillation": ("decoupled", "dist_loss", "divergence", "double", "elementary", "ensemble", "features",
                          "standardized", "top_k", "unit_rows")}
"""Modules that hold some kernels of a family, beside the one of its name."""


def implementation(name: str) -> Callable[..., None] | None:
    family = KERNELS[name].family
    if importlib.util.find_spec(f"{__name__}.{family}") is None:
        return None
    modules = (importlib.import_module(f"{__name__}.{part}") for part in (family, *PARTS.get(family, ())))
    function = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
    if function is None:
        return None
    from .arithmetic import fp_enter, fp_leave

    def call(*operands: Any) -> None:
        # The contract assumes round-to-nearest and denormals kept, whatever the caller has set.
        saved = fp_enter()
        try:
            function(*operands)
        finally:
            fp_leave(saved)

    return call
