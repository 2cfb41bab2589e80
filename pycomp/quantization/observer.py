"""Observers: what they have seen of a tensor, and the scale that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._validate import ANY_NDIM, FLOAT32, as_array, check_finite, contiguous, flag, integer, real

from .schemes import choose, layout
from .tensor import code_dtype

Seen = float | Any
Grid = tuple[float | Any, int | Any]
"""Numbers, or with an axis arrays of its channels, for which Any stands: else who has numbers would have to cast."""


def from_range(
    low: Seen, high: Seen, *, symmetric: bool, dtype: DTypeLike, narrow_range: bool | None, power_of_two: bool = False
) -> Grid:
    """Scale and zero point for values from low to high, as quantize chooses them: numbers, or arrays of channels."""
    symmetric = flag(symmetric, "symmetric")
    narrow = symmetric if narrow_range is None else flag(narrow_range, "narrow_range")
    with np.errstate(under="ignore"):  # averages are float64
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    scale, zero = choose(low, high, symmetric=symmetric, narrow_range=narrow,
                         power_of_two=flag(power_of_two, "power_of_two"), dtype=code_dtype(dtype))
    return (scale, zero) if scale.ndim else (float(scale), int(zero))


def finite(
    x: Any, axis: int | None, name: str = "x"
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """A finite array that has the axis, and its smallest and largest values, of shape () or, along the axis, (C,)."""
    x = as_array(x, name, FLOAT32, ANY_NDIM)
    if axis is not None and axis >= x.ndim:
        raise ValueError(f"axis is {axis}, but {name} has {x.ndim} dimensions")
    low, high = layout(x.shape, axis, None).ranges(contiguous(x))
    if x.size and not (np.isfinite(low) & np.isfinite(high)).all():
        check_finite(x, name)
    return x, low, high


class MinMax:
    """Smallest and largest value seen, for calibrating the scale of a tensor; any order and split gives the same.

    Parameters
    ----------
    axis : int, optional
        Observe each index along this axis on its own; not negative, as inputs of any number of dimensions may come.

    Attributes
    ----------
    min, max : float, or array of float64, shape (C,)
        inf and -inf before the first value.

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

    __slots__ = ("axis", "max", "min")

    min: Seen
    max: Seen

    def __init__(self, *, axis: int | None = None) -> None:
        self.axis = None if axis is None else integer(axis, "axis", 0)
        self.min = np.inf
        self.max = -np.inf

    def update(self, x: Any) -> None:
        """Take in an array.

        Parameters
        ----------
        x : array of float32
            Any shape that has the axis; it may be empty.

        Raises
        ------
        TypeError
            If ``x`` is not float32.
        ValueError
            If it holds NaN or infinity, lacks the axis, or its channels change; what was seen before is kept.

        Examples
        --------
        >>> import numpy as np
        >>> seen = MinMax(axis=0)
        >>> seen.update(np.array([[-1, 2], [0, 4]], np.float32))
        >>> seen.min, seen.max
        (array([-1.,  0.]), array([2., 4.]))
        """
        x, low, high = finite(x, self.axis)
        if x.size == 0:
            return
        if self.axis is None:
            self._extend(float(low), float(high))
        else:
            self._check_channels(low, "x")
            self._extend(low.astype(np.float64), high.astype(np.float64))

    def _extend(self, low: Any, high: Any) -> None:
        if self.axis is None:
            self.min, self.max = min(self.min, low), max(self.max, high)
        else:
            self.min, self.max = np.minimum(self.min, low), np.maximum(self.max, high)

    def _check_channels(self, values: Any, name: str) -> None:
        given, expected = np.shape(values), np.shape(self.min)
        if given and expected and given != expected:
            raise ValueError(f"{name} has {given[0]} channels along axis {self.axis}, expected {expected[0]}")

    def merge(self, other: MinMax) -> None:
        """Take in what another observer of the same axis has seen.

        Parameters
        ----------
        other : MinMax
            It is not changed.

        Raises
        ------
        TypeError
            If ``other`` is no MinMax.
        ValueError
            If its axis or its number of channels differs.

        Examples
        --------
        >>> import numpy as np
        >>> seen, other = MinMax(), MinMax()
        >>> seen.update(np.array([-1, 2], np.float32))
        >>> other.update(np.array([3], np.float32))
        >>> seen.merge(other)
        >>> seen.min, seen.max
        (-1.0, 3.0)
        """
        if type(other) is not MinMax:
            raise TypeError(f"other is a {type(other).__name__}, expected a MinMax")
        if other.axis != self.axis:
            raise ValueError(f"other has axis {other.axis}, expected {self.axis}")
        self._check_channels(other.min, "other")
        self._extend(other.min, other.max)

    def scale_and_zero_point(
        self, *, symmetric: bool = False, dtype: DTypeLike = "int8", narrow_range: bool | None = None,
        power_of_two: bool = False,
    ) -> Grid:
        """Scale and zero point for what was seen, as :func:`pycomp.quantization.quantize` chooses them.

        Parameters
        ----------
        symmetric : bool
            By default False, unlike quantize's: observers are for activations, which lie to one side of 0 more often
            than weights.
        dtype : "int8" or "uint8"
            By name, as a type or as an np.dtype.
        narrow_range : bool, optional
            Leave out the smallest code; by default if symmetric.
        power_of_two : bool
            Round the scale up to a power of two.

        Returns
        -------
        scale : float, or array of float32, shape (C,)
            A number, exact in float32, or with ``axis`` one for each channel.
        zero_point : int, or array of int32, shape (C,)

        Raises
        ------
        TypeError
            If a flag is no bool, or ``dtype`` is not given in one of these ways.
        ValueError
            If nothing was seen, or ``dtype`` is another.

        Examples
        --------
        >>> import numpy as np
        >>> seen = MinMax()
        >>> seen.update(np.array([-127.5, 127.5], np.float32))
        >>> seen.scale_and_zero_point(dtype="uint8")
        (1.0, 128)
        """
        if np.any(np.asarray(self.min) > self.max):
            raise ValueError("no values were seen: call update with calibration data first")
        return from_range(self.min, self.max, symmetric=symmetric, dtype=dtype, narrow_range=narrow_range,
                          power_of_two=power_of_two)


class MovingAverage(MinMax):
    """Exponential moving average of each update's smallest and largest value; depends on the order of updates.

    ``min += (1 - momentum)·(min of x - min)``, the first update as it is, in float64. There is no merge: the average of
    two sequences that were seen apart is not defined.

    Parameters
    ----------
    momentum : float
        What stays of the average in an update, from 0 to below 1.
    axis : int, optional
        As of :class:`MinMax`.

    Examples
    --------
    >>> import numpy as np
    >>> seen = MovingAverage(0.5)
    >>> for high in (2, 4):
    ...     seen.update(np.array([0, high], np.float32))
    >>> seen.max
    3.0
    """

    __slots__ = ("momentum",)

    def __init__(self, momentum: float = 0.9, *, axis: int | None = None) -> None:
        super().__init__(axis=axis)
        self.momentum = real(momentum, "momentum")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {momentum!r}, expected a number from 0 to below 1")

    def _extend(self, low: Any, high: Any) -> None:
        if np.any(np.asarray(self.min) > self.max):
            self.min, self.max = low, high
        else:
            self.min = self.min + (1 - self.momentum) * (low - self.min)
            self.max = self.max + (1 - self.momentum) * (high - self.max)

    def merge(self, other: MinMax) -> None:
        """Refused: an average over time depends on the order.

        Parameters
        ----------
        other : MinMax

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("a MovingAverage cannot be merged: it depends on the order of updates")
