"""Observers that keep a histogram: clipping ranges from percentiles, relative entropy or the squared error."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._validate import integer, real

from .observer import Grid, finite, from_range

HALF = 2048
"""Bins on each side of 0."""
SMALLEST_EXPONENT = -148 - HALF.bit_length() + 1
"""Of a bin's width, when only zeros and the smallest denormals were seen."""
LEVELS = 128
"""Magnitudes that int8 can express."""
CANDIDATES = 128
"""Clipping ranges that MSE tries."""


class Histogram:
    """Counts of values in bins of width ``2**exponent``: bin i, from -2048 to 2047, holds ``i <= x / width < i + 1``.

    The width follows from the largest magnitude alone, and a wider bin is a union of narrower ones, so any split and
    order of the same values gives the same counts. Integers, apart from the smallest and largest value.
    """

    __slots__ = ("counts", "exponent", "max", "min")

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * HALF, np.int64)
        self.exponent = SMALLEST_EXPONENT
        self.min, self.max = math.inf, -math.inf

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 4097 edges of the bins."""
        return np.ldexp(np.arange(-HALF, HALF + 1, dtype=np.float64), self.exponent).astype(np.float64)

    def add(self, x: NDArray[np.float32]) -> None:
        """Count finite values."""
        if x.size == 0:
            return
        low, high = float(x.min()), float(x.max())
        largest = max(-low, high)
        if largest > 0:  # below 2**power
            power = math.frexp(largest)[1]
            self._widen(power - HALF.bit_length() + 1)
        self.min, self.max = min(self.min, low), max(self.max, high)
        # Powers of two: the quotient is exact in float64.
        index = np.floor(np.ldexp(x.ravel().astype(np.float64), -self.exponent)).astype(np.int64)
        self.counts += np.bincount(index + HALF, minlength=2 * HALF)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram, which is not changed."""
        self._widen(other.exponent)
        self.counts += other._at(self.exponent)
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts, self.exponent = self._at(exponent), exponent

    def _at(self, exponent: int) -> NDArray[np.int64]:
        """The counts in bins of width 2**exponent, at least the present width."""
        shift = min(exponent - self.exponent, HALF.bit_length())
        counts = np.zeros(2 * HALF, np.int64)
        np.add.at(counts, (np.arange(-HALF, HALF) >> shift) + HALF, self.counts)
        return counts

    def magnitudes(self) -> NDArray[np.int64]:
        """Counts of |x| by bins above 0; a negative value on an edge counts below it."""
        return self.counts[HALF:] + self.counts[HALF - 1 :: -1]


class _HistogramObserver:
    """What the observers with a histogram share; ``axis``, not negative, keeps one for each index."""

    __slots__ = ("axis", "channels")

    def __init__(self, *, axis: int | None = None) -> None:
        self.axis = None if axis is None else integer(axis, "axis", 0)
        self.channels: list[Histogram] = []

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
            If it holds NaN or infinity, lacks the axis, or its number of channels changes; what was seen before is
            kept.

        Examples
        --------
        >>> import numpy as np
        >>> from pycomp.quantization import MSE
        >>> seen = MSE()
        >>> seen.update(np.zeros(3, np.float32))
        >>> seen.scale_and_zero_point()
        (1.0, -128)
        """
        x, _, _ = finite(x, self.axis)
        if x.size == 0:
            return
        moved = x[None] if self.axis is None else np.moveaxis(x, self.axis, 0)
        values = moved.reshape(len(moved), x.size // max(len(moved), 1))
        if self.channels and len(values) != len(self.channels):
            raise ValueError(f"x has {len(values)} channels along axis {self.axis}, expected {len(self.channels)}")
        if not self.channels:
            self.channels = [Histogram() for _ in values]
        for channel, row in zip(self.channels, values, strict=True):
            channel.add(row)

    def merge(self, other: Any) -> None:
        """Take in what another observer of the same kind and axis has seen.

        Parameters
        ----------
        other : the same class
            It is not changed.

        Raises
        ------
        TypeError
            If ``other`` is of another kind.
        ValueError
            If its axis or its number of channels differs.

        Examples
        --------
        >>> import numpy as np
        >>> from pycomp.quantization import Entropy
        >>> whole, seen, other = Entropy(), Entropy(), Entropy()
        >>> x = np.linspace(-1, 3, 100, dtype=np.float32)
        >>> whole.update(x)
        >>> seen.update(x[:50])
        >>> other.update(x[50:])
        >>> seen.merge(other)
        >>> seen.scale_and_zero_point() == whole.scale_and_zero_point()
        True
        """
        if type(other) is not type(self):
            raise TypeError(f"other is a {type(other).__name__}, expected a {type(self).__name__}")
        if other.axis != self.axis:
            raise ValueError(f"other has axis {other.axis}, expected {self.axis}")
        if self.channels and other.channels and len(self.channels) != len(other.channels):
            raise ValueError(f"other has {len(other.channels)} channels along axis {self.axis}, "
                             f"expected {len(self.channels)}")
        if not self.channels:
            self.channels = [Histogram() for _ in other.channels]
        for mine, theirs in zip(self.channels, other.channels, strict=bool(other.channels)):
            mine.merge(theirs)

    def scale_and_zero_point(
        self, *, symmetric: bool = False, dtype: DTypeLike = "int8", narrow_range: bool | None = None,
        power_of_two: bool = False,
    ) -> Grid:
        """Scale and zero point of the clipping range, as :func:`pycomp.quantization.quantize` chooses them for it.

        Parameters
        ----------
        symmetric : bool
            Of the clipping range too. By default False, unlike quantize's, as of :class:`MinMax`.
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
            If nothing was seen, in any channel, or ``dtype`` is another.

        Examples
        --------
        >>> import numpy as np
        >>> from pycomp.quantization import Percentile
        >>> seen = Percentile(100)
        >>> seen.update(np.array([-127.5, 127.5], np.float32))
        >>> seen.scale_and_zero_point(dtype="uint8")
        (1.0, 128)
        """
        if not self.channels or any(c.min > c.max for c in self.channels):
            raise ValueError("no values were seen: call update with calibration data first")
        low, high = zip(*(self._range(c, symmetric) for c in self.channels), strict=True)
        ends = (low[0], high[0]) if self.axis is None else (low, high)
        return from_range(*ends, symmetric=symmetric, dtype=dtype, narrow_range=narrow_range, power_of_two=power_of_two)

    def _range(self, seen: Histogram, symmetric: bool) -> tuple[float, float]:
        raise NotImplementedError


class Percentile(_HistogramObserver):
    """Clips so that at least ``percentile`` percent of the values lie inside, to the resolution of a bin.

    Symmetric: the smallest edge of a bin with that part of the magnitudes below it. Asymmetric: each tail may lose half
    of the rest. A bin is from 2⁻¹¹ to 2⁻¹⁰ of the largest magnitude ever seen, and so as wide as all other values where
    a single one is some thousand times as large.

    Parameters
    ----------
    percentile : float
        Above 0 and at most 100.
    axis : int, optional
        As of :class:`MinMax`.

    Examples
    --------
    >>> import numpy as np
    >>> seen = Percentile(90)
    >>> seen.update(np.array([1] * 99 + [100], np.float32))
    >>> seen.scale_and_zero_point(symmetric=True)[0] < 1.1 / 127
    True
    """

    __slots__ = ("percentile",)

    def __init__(self, percentile: float = 99.99, *, axis: int | None = None) -> None:
        super().__init__(axis=axis)
        self.percentile = real(percentile, "percentile")
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile is {percentile!r}, expected a number above 0 and at most 100")

    def merge(self, other: Any) -> None:
        """Take in what another observer of the same percentile and axis has seen.

        Parameters
        ----------
        other : Percentile
            It is not changed.

        Raises
        ------
        TypeError
            If ``other`` is no Percentile.
        ValueError
            If its percentile, axis or number of channels differs.

        Examples
        --------
        >>> import numpy as np
        >>> seen, other = Percentile(100), Percentile(100)
        >>> other.update(np.array([-127, 127], np.float32))
        >>> seen.merge(other)
        >>> seen.scale_and_zero_point(symmetric=True)
        (1.0, 0)
        """
        if type(other) is Percentile and other.percentile != self.percentile:
            raise ValueError(f"other has percentile {other.percentile}, expected {self.percentile}")
        super().merge(other)

    def _range(self, seen: Histogram, symmetric: bool) -> tuple[float, float]:
        total = int(seen.counts.sum())
        inside = Fraction(repr(self.percentile)) / 100  # the decimal that was typed: 99.9 / 100 * 1000 is above 999
        if symmetric:
            needed = math.ceil(inside * total)
            last = int(np.searchsorted(np.cumsum(seen.magnitudes()), needed))
            edge = min((last + 1) * seen.width, max(-seen.min, seen.max))
            return -edge, edge
        lost = min(math.floor((1 - inside) / 2 * total), (total - 1) // 2)  # one lies inside
        first = int(np.searchsorted(np.cumsum(seen.counts), lost, side="right"))
        last = 2 * HALF - 1 - int(np.searchsorted(np.cumsum(seen.counts[::-1]), lost, side="right"))
        edges = seen.edges
        return max(float(edges[first]), seen.min), min(float(edges[last + 1]), seen.max)


class Entropy(_HistogramObserver):
    """Clips magnitudes where the relative entropy of the clipped and the 128-level distribution is smallest.

    For every i up to the last bin: P is the first i bins of |x| with all that lies beyond added to the last; Q spreads
    the counts of 128 equal groups of those bins, or of each bin if they are fewer, evenly over the bins of each group
    that are not empty; the range with the smallest KL(P || Q) wins, the largest of equals. S. Migacz, 8-bit inference
    with TensorRT, 2017.

    Three things differ. Fewer than 128 bins are tried too, or a value far beyond all others, which leaves these few
    bins, could not be clipped. The first bin counts as much as the second: 0 is a code, so however many zeros there
    are, as relu makes them, they lose nothing. And Q is over all values, P's number, so that what is clipped is missing
    from it; else values far off 0 would clip nearly everything.

    Parameters
    ----------
    axis : int, optional
        As of :class:`MinMax`.

    Notes
    -----
    A bin is as wide as for :class:`Percentile`. The divergences use the logarithm of the C library; they are compared
    after rounding to 9 decimals, so that its last bits matter only where two ranges tie. The choice takes some
    milliseconds for each channel.

    Examples
    --------
    >>> import numpy as np
    >>> seen = Entropy()
    >>> seen.update(np.append(np.linspace(-1, 1, 9999), 100).astype(np.float32))
    >>> seen.scale_and_zero_point(symmetric=True)[0] < 1.1 / 127
    True
    """

    __slots__ = ()

    def _range(self, seen: Histogram, symmetric: bool) -> tuple[float, float]:
        counts = seen.magnitudes()
        counts[0] = counts[1]
        edge = largest = max(-seen.min, seen.max)
        if counts.any():
            used = int(np.flatnonzero(counts)[-1]) + 1
            found = _divergences(counts, used).round(9)
            edge = min((int(np.flatnonzero(found == found.min())[-1]) + 1) * seen.width, largest)
        return (-edge, edge) if symmetric else (max(-edge, seen.min), min(edge, seen.max))


@functools.cache
def _edges() -> NDArray[np.intp]:
    """Where the 128 groups of 1, 2, ... bins begin, and the last ends; the first are empty where bins are few."""
    groups, bins = np.arange(LEVELS + 1), np.arange(1, HALF + 1)[:, None]
    even, few = -(-groups * bins // LEVELS), np.maximum(groups + bins - LEVELS, 0)
    edges = np.where(bins < LEVELS, few, even)
    edges.flags.writeable = False
    return edges


def _divergences(counts: NDArray[np.int64], used: int) -> NDArray[np.float64]:
    """KL(P || Q) for 1, 2, ... bins: as Q is even within a group, it takes a sum over groups alone."""
    bins = np.arange(1, used + 1)
    below, filled_below = (np.concatenate(([0], np.cumsum(x))) for x in (counts, counts > 0))
    logarithms_below = np.concatenate(([0.0], np.cumsum(counts * np.log(np.maximum(counts, 1)))))
    edges = _edges()[:used]
    kept, filled = np.diff(below[edges]), np.diff(filled_below[edges])
    last, beyond = counts[bins - 1], below[-1] - below[bins]
    of_q = (kept * np.log(np.maximum(kept, 1) / np.maximum(filled, 1))).sum(axis=1)
    of_q += beyond * np.log(np.maximum(kept[:, -1], 1) / np.maximum(filled[:, -1], 1))
    folded = last + beyond
    of_p = logarithms_below[bins - 1] + folded * np.log(np.maximum(folded, 1))
    # P has mass where Q has none
    return np.where((last == 0) & (beyond > 0), np.inf, (of_p - of_q) / below[-1])


class MSE(_HistogramObserver):
    """Clips where the expected squared error of quantization is smallest, values standing at the centres of their bins.

    Tries 1/128, 2/128, ... 1 of the range seen, for 255 or 256 codes in it, whatever else the scale is then asked to
    be; the largest of equals wins. Sums that decide are exact (``math.fsum``), so that the choice is the same on every
    machine. It takes about a millisecond for each channel.

    Parameters
    ----------
    axis : int, optional
        As of :class:`MinMax`.

    Examples
    --------
    >>> import numpy as np
    >>> seen = MSE()
    >>> seen.update(np.append(np.linspace(-1, 1, 100_000), 2).astype(np.float32))
    >>> seen.scale_and_zero_point(symmetric=True)[0] < 1.5 / 127
    True
    """

    __slots__ = ()

    def _range(self, seen: Histogram, symmetric: bool) -> tuple[float, float]:
        filled = seen.counts > 0
        # In units of a bin, so that squares neither overflow nor vanish.
        centres, weights = (np.arange(-HALF, HALF) + 0.5)[filled], seen.counts[filled].astype(np.float64)
        low, high = min(seen.min, 0.0), max(seen.max, 0.0)
        if symmetric:
            high = max(-low, high)
            low = -high
        if high == low:
            return low, high
        steps = 254 if symmetric else 255
        parts = np.arange(1, CANDIDATES + 1)[:, None] / CANDIDATES
        lo, hi = parts * low / seen.width, parts * high / seen.width
        step = (hi - lo) / steps
        first = np.floor(lo / step + 0.5)
        codes = np.rint(centres / step)
        np.clip(codes, first, first + steps, out=codes)
        terms = weights * (centres - codes * step) ** 2
        about = terms.sum(axis=1)  # in an order that depends on the machine: it rules out what is not near the least
        near = np.flatnonzero(about <= about.min() * (1 + 1e-9))
        errors = np.array([math.fsum(terms[j]) for j in near])
        chosen = float(parts[near[errors == errors.min()][-1], 0])
        return chosen * low, chosen * high
