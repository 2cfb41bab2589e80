"""Sums of float64 whose order is fixed: NumPy's own depends on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def total(terms: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Sums along an axis, padded with zeros to a power of two and folded by halves (j and j + n/2)."""
    if axis != -1:
        terms = np.moveaxis(terms, axis, -1)
    size = terms.shape[-1]
    length = 1 << max(size - 1, 0).bit_length()
    if length != size:
        padded = np.zeros((*terms.shape[:-1], length))
        padded[..., :size] = terms
        terms = padded
    while length > 1:
        length //= 2
        terms = terms[..., :length] + terms[..., length:]
    sums: NDArray[np.float64] = terms[..., 0] if terms.shape[-1] else np.zeros(terms.shape[:-1])
    return sums
