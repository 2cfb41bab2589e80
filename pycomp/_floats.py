"""Conversions of arrays of floats: those of NumPy to and from float16 take up to a hundred times as long."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from ._validate import FLOAT32, contiguous, fresh

HALF = np.dtype(np.float16)
KERNELS = {("float32", "float16"): "f32_to_f16", ("float32", "bfloat16"): "f32_to_bf16",
           ("float64", "float16"): "f64_to_f16", ("float64", "bfloat16"): "f64_to_bf16"}


def bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError("bfloat16 needs ml_dtypes: pip install 'pycomp[formats]'") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def widened(a: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """``a`` as float32 or float64, itself if it is that."""
    if a.dtype != HALF:
        return a.astype(dtype, copy=False)
    x, y = contiguous(a), fresh(a.shape, FLOAT32)
    dispatch.f16_to_f32(x.reshape(-1), y.reshape(-1))
    return y.astype(dtype, copy=False)


def narrowed(a: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Results of float32 or float64 rounded once to their type, to infinity beyond its range."""
    kernel = getattr(dispatch, KERNELS.get((a.dtype.name, np.dtype(dtype).name), ""), None)
    if kernel is None:
        with np.errstate(over="ignore"):
            return a.astype(dtype, copy=False)
    x, y = contiguous(a), np.empty(a.shape, dtype)
    kernel(x.reshape(-1), (y if y.dtype == HALF else y.view(np.uint16)).reshape(-1))
    return y
