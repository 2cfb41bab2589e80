"""Numba implementations: the same chains as the C core, bit for bit, on one thread. Numba loads at the first use."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from ..contract import KERNELS


def missing() -> str | None:
    return None if importlib.util.find_spec("numba") else "Numba is not installed: pip install 'pycomp[jit]'"


def implementation(name: str) -> Callable[..., None] | None:
    family = KERNELS[name].family
    if importlib.util.find_spec(f"{__name__}.{family}") is None:
        return None
    function = getattr(importlib.import_module(f"{__name__}.{family}"), name, None)
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
