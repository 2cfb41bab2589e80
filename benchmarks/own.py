"""pycomp's own calls of a case, as its layers and matrices make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pycomp.kernels import dispatch
from pycomp.testing import Case, nudged

HOLDING = ("gemm_f32s8", "gemm_u8s8_", "gemm_s8s8_", "linear_", "spmm_", "spmv_")
PACKED = {
    "w", "sums", "w_scale", "w_zero", "scale", "zero", "data", "indices", "indptr", "values", "columns", "rows",
    "starts", "begins", "firsts", "places", "bits", "at", "keep", "group",
}
"""Products whose packed matrix layers and matrices hold, as those of the peers do, and its operands."""


def call(case: Case, placed: Callable[[np.ndarray], np.ndarray] = lambda a: nudged(a, 0)) -> Callable[[], None]:
    """The kernel on its operands, with what stays the same passed to C once. ``placed`` gives x and results their place
    in memory; all others start on a cache line already."""
    outputs = [placed(a) for a in case.outputs()]
    given: dict[str, Any] = {o.name: v for o, v in zip(case.kernel.inputs, case.inputs, strict=True)}
    if "x" in given:
        given["x"] = placed(given["x"])
    holds = case.kernel.name.startswith(HOLDING) and not case.kernel.name.endswith("f64")
    held = {name: v for name, v in given.items() if holds and name in PACKED}
    function: Callable[..., object] = dispatch.Holding(case.kernel.name, **held)
    inputs = [v for name, v in given.items() if name not in held]

    def run() -> None:
        function(*inputs, *outputs)

    return run


def turned(a: np.ndarray) -> np.ndarray:
    """A matrix whose columns are contiguous, as those of a transpose are."""
    return nudged(np.ascontiguousarray(a.T), 0).T
