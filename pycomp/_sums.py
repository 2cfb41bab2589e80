"""Sums of float64 whose order is fixed: NumPy's own depends on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def total(terms: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Sums along an axis, padded with zeros to a power of two and folded by halves (j and j + n/2)."""
    terms = np.moveaxis(terms, axis, 0)
    size = len(terms)
    if size < 2:
        return np.array(terms[0]) if size else np.zeros(terms.shape[1:])
    half = 1 << (size - 1).bit_length() - 1
    sums = np.empty_like(terms[:half])  # in the order in memory of the terms
    np.add(terms[: size - half], terms[half:], out=sums[: size - half])
    np.add(terms[size - half : half], 0.0, out=sums[size - half :])
    while half > 1:
        half //= 2
        sums[:half] += sums[half : 2 * half]
    return np.array(sums[0])
