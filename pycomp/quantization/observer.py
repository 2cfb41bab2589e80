"""Observers: what they have seen of a tensor, and the scale that follows."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycomp._validate import FLOAT32, as_array

from .tensor import ANY_NDIM, quantize


class MinMax:
    """Smallest and largest value seen, for calibrating the scale of a tensor; any order and split gives the same.

    Examples
    --------
    >>> import numpy as np
    >>> seen = MinMax()
    >>> seen.update(np.array([-1, 2], np.float32))
    >>> seen.update(np.array([0.5], np.float32))
    >>> seen.min, seen.max
    (-1.0, 2.0)
    >>> seen.scale_and_zero_point(symmetric=True) == (float(np.float32(2) / np.float32(127)), 0)
    True
    """

    __slots__ = ("max", "min")

    min: float
    """inf before the first value."""
    max: float
    """-inf before the first value."""

    def __init__(self) -> None:
        self.min = np.inf
        self.max = -np.inf

    def update(self, x: Any) -> None:
        """Take in an array of float32 of any shape, also an empty one.

        Raises
        ------
        TypeError
            If ``x`` is not float32.
        ValueError
            If it holds NaN or infinity; what was seen before is kept.
        """
        x = as_array(x, "x", FLOAT32, ANY_NDIM)
        if x.size:
            low, high = float(x.min()), float(x.max())
            if not np.isfinite(low) or not np.isfinite(high):
                raise ValueError("x holds NaN or infinity")
            self.min, self.max = min(self.min, low), max(self.max, high)

    def merge(self, other: MinMax) -> None:
        """Take in what another observer has seen."""
        if not isinstance(other, MinMax):
            raise TypeError(f"other is a {type(other).__name__}, expected a MinMax")
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)

    def scale_and_zero_point(self, *, symmetric: bool = False, dtype: str = "int8") -> tuple[float, int]:
        """Scale (exact in float32) and zero point for what was seen, as :func:`pycomp.quantization.quantize` chooses.

        Raises
        ------
        ValueError
            If nothing was seen.
        """
        if self.min > self.max:
            raise ValueError("no values were seen: call update with calibration data first")
        q = quantize(np.array([self.min, self.max], np.float32), symmetric=symmetric, dtype=dtype)
        return float(q.scale), int(q.zero_point)
