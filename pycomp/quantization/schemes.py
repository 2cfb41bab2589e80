"""How an array is cut into parts of one scale each, and which scale a part gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, integer
from pycomp.kernels import dispatch

SMALLEST = np.float32(2.0**-126)
"""Of all scales: the smallest normal float32."""


@dataclass(frozen=True)
class Layout:
    """An array in C order as a matrix whose rows have one scale each, or whose columns have."""

    shape: tuple[int, ...]
    """Of the scales."""
    matrix: tuple[int, int]
    outer: int
    """How often the scales of rows repeat; 1 but for an axis that is neither the first nor the last."""
    by_column: int
    """0, scales of rows; else rows of scales, each for as many rows of the matrix."""

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Scales or zero points as the kernels take them: [rows], or [by_column, columns]."""
        if self.by_column:
            return values.reshape(self.by_column, self.matrix[1])
        return np.tile(values, self.outer) if self.outer != 1 else values.reshape(-1)

    def ranges(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Smallest and largest of each part of x, in the shape of the scales; NaN where it holds NaN."""
        rows, columns = self.matrix
        found = (self.by_column, columns) if self.by_column else (rows,)
        low: NDArray[np.float32] = np.empty(found, np.float32)
        high: NDArray[np.float32] = np.empty(found, np.float32)
        kernel = dispatch.range_columns_f32 if self.by_column else dispatch.range_f32
        kernel(x.reshape(self.matrix), low, high)
        if self.outer != 1:
            low = low.reshape(self.outer, *self.shape).min(axis=0, initial=np.inf)
            high = high.reshape(self.outer, *self.shape).max(axis=0, initial=-np.inf)
        return low.reshape(self.shape), high.reshape(self.shape)


def layout(shape: tuple[int, ...], axis: int | None, group_size: int | None) -> Layout:
    """The layout of a shape whose axis, not negative, has a scale for each index or for each group of them."""
    if axis is None:
        return Layout((), (1, math.prod(shape)), 1, 0)
    outer, length, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if group_size is None:
        if axis == len(shape) - 1 and outer != 1:
            return Layout((length,), (outer, length), 1, 1)
        return Layout((length,), (outer * length, inner), outer, 0)
    groups = length // group_size
    scales = (*shape[:axis], groups, *shape[axis + 1 :])
    if axis == len(shape) - 1:
        return Layout(scales, (outer * groups, group_size), 1, 0)
    return Layout(scales, (outer * length, inner), 1, outer * groups)


def check_axis(axis: Any, group_size: Any, shape: tuple[int, ...], name: str) -> tuple[int | None, int | None]:
    """Axis, not negative, and group size; groups are along the last axis by default."""
    if group_size is not None:
        group_size = integer(group_size, "group_size", 1)
        axis = -1 if axis is None else axis
    if axis is None:
        return None, None
    if not shape:
        raise ValueError(f"axis is {axis}, but {name} has no dimensions")
    axis = integer(axis, "axis", -len(shape), len(shape) - 1) % len(shape)
    if group_size is not None and shape[axis] % group_size:
        raise ValueError(f"{name} has {shape[axis]} elements along axis {axis}, expected a multiple of "
                         f"group_size, which is {group_size}")
    return axis, group_size


def choose(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    *,
    symmetric: bool,
    narrow_range: bool,
    power_of_two: bool,
    dtype: np.dtype[Any],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Scales and zero points for finite ranges, by the formulas that :func:`pycomp.quantization.quantize` states."""
    low, high = np.minimum(low, FLOAT32.type(0)), np.maximum(high, FLOAT32.type(0))
    half, full = np.float32(0.5), np.float32(127)
    with np.errstate(under="ignore"):
        if symmetric:
            scale = np.maximum(high, -low) / full if narrow_range else np.maximum(high / full, -low / np.float32(128))
        else:  # halves: the difference of two finite numbers may be infinite
            scale = (half * high - half * low) / (full if narrow_range else np.float32(127.5))
    scale = np.where(low == high, np.float32(1), np.maximum(scale, SMALLEST))
    if power_of_two:
        fraction, exponent = np.frexp(scale)
        scale = np.asarray(np.ldexp(np.ones_like(scale), exponent - (fraction == half)))
    smallest = np.iinfo(dtype).min
    if symmetric:
        return scale, np.full(scale.shape, smallest + 128, np.int32)
    with np.errstate(under="ignore"):
        return scale, np.asarray(np.rint(-low / scale) + np.float32(smallest + narrow_range), np.int32)
