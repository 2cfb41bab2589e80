"""Bias correction: what quantization adds to a layer's outputs on average, taken off its bias."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._sums import total
from pycomp._validate import BATCH_NDIM, FLOAT32, as_array, as_matrix, check_finite, optional_vector

from .observer import finite
from .tensor import QuantizedTensor

ROWS = 256
"""Outputs whose weights are in float64 at a time."""


class InputMean:
    """The mean of a layer's inputs over all batches seen, for :func:`bias_correction`.

    Attributes
    ----------
    count : int
        Rows seen.
    mean : array of float64, shape (K,)

    Notes
    -----
    Of fixed size; sums are float64, each batch folded by halves. The order of batches changes the last bits alone.

    Examples
    --------
    >>> import numpy as np
    >>> seen = InputMean()
    >>> seen.update(np.array([[1, 2], [3, 6]], np.float32))
    >>> seen.update(np.array([[5, 1]], np.float32))
    >>> seen.count, seen.mean
    (3, array([3., 3.]))
    """

    __slots__ = ("_total", "count")

    def __init__(self) -> None:
        self.count = 0
        self._total: NDArray[np.float64] | None = None

    def update(self, x: Any) -> None:
        """Take in a batch of inputs.

        Parameters
        ----------
        x : array of float32, shape (..., K)
            There may be no rows.

        Raises
        ------
        TypeError
            If ``x`` is not float32.
        ValueError
            If it holds NaN or infinity, has no dimensions, or K changes; what was seen before is kept.

        Examples
        --------
        >>> import numpy as np
        >>> seen = InputMean()
        >>> seen.update(np.array([[1, 2], [3, 6]], np.float32))
        >>> seen.mean
        array([2., 4.])
        """
        x = as_matrix(as_array(x, "x", FLOAT32, BATCH_NDIM))
        if self._total is not None and self._total.shape[0] != x.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns, expected {self._total.shape[0]} as before")
        finite(x, None)
        sums = total(x.T.astype(np.float64))
        self._total = sums if self._total is None else self._total + sums
        self.count += x.shape[0]

    def merge(self, other: InputMean) -> None:
        """Take in what another has seen.

        Parameters
        ----------
        other : InputMean
            It is not changed.

        Raises
        ------
        TypeError
            If ``other`` is something else.
        ValueError
            If its K differs.

        Examples
        --------
        >>> import numpy as np
        >>> seen, other = InputMean(), InputMean()
        >>> seen.update(np.array([[1, 2]], np.float32))
        >>> other.update(np.array([[3, 6]], np.float32))
        >>> seen.merge(other)
        >>> seen.count, seen.mean
        (2, array([2., 4.]))
        """
        if not isinstance(other, InputMean):
            raise TypeError(f"other is a {type(other).__name__}, expected an InputMean")
        if other._total is None:
            return
        if self._total is not None and self._total.shape != other._total.shape:
            raise ValueError(f"other has {other._total.shape[0]} columns, expected {self._total.shape[0]}")
        self._total = other._total.copy() if self._total is None else self._total + other._total
        self.count += other.count

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of each input over the rows seen; a ValueError where there were none."""
        if self._total is None or self.count == 0:
            raise ValueError("no inputs were seen; call update with calibration data first")
        return self._total / self.count


def bias_correction(
    weight: Any, quantized: Any, mean: Any, bias: Any = None, *, quantized_mean: Any = None
) -> NDArray[np.float32]:
    """The bias that makes a quantized layer's mean output that of the float layer.

    ``bias - (Ŵ·E[x̂] - W·E[x])``: rounding weights shifts each output by a constant on average, which the layer's bias
    can take up. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, §4.2.

    Parameters
    ----------
    weight : array of float32, shape (N, K)
    quantized : QuantizedTensor, shape (N, K)
        The weights that the layer will multiply by.
    mean : InputMean or array of float64, shape (K,)
        E[x], of the float layer's inputs.
    bias : array of float32, shape (N,), optional
    quantized_mean : InputMean or array of float64, shape (K,), optional
        E[x̂], of the inputs as the layer will see them, quantized; by default ``mean``: inputs are quantized without
        a shift, or not at all.

    Returns
    -------
    array of float32, shape (N,)

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit, a value is NaN or infinite, or no inputs were seen.

    Notes
    -----
    In float64, sums folded by halves, rounded once: within ``2⁻⁴⁸·Σ(|Ŵ·E[x̂]| + |W·E[x]|)`` and half a unit for K up to
    2²⁴; infinite beyond float32's range. Where a code stands for infinity, which takes weights next to the largest
    float32, so is the result, or NaN. Workspace: 256 rows in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.quantization import quantize
    >>> w = np.array([[1.5, 127]], np.float32)
    >>> bias_correction(w, quantize(w, axis=0), np.array([10.0, 0.0]))
    array([-5.], dtype=float32)
    """
    weight = as_array(weight, "weight", FLOAT32, 2)
    if not isinstance(quantized, QuantizedTensor):
        raise TypeError(f"quantized is a {type(quantized).__name__}, expected a QuantizedTensor")
    if quantized.shape != weight.shape:
        raise ValueError(f"quantized has shape {quantized.shape}, weight has {weight.shape}")
    finite(weight, None, "weight")
    n, k = weight.shape
    exact = _mean(mean, "mean", k)
    seen = exact if quantized_mean is None else _mean(quantized_mean, "quantized_mean", k)
    before = optional_vector(bias, "bias", n)
    values = quantized.dequantize()
    shift = np.empty(n)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for i in range(0, n, ROWS):
            part = slice(i, i + ROWS)
            shift[part] = total(values[part].astype(np.float64) * seen - weight[part].astype(np.float64) * exact)
        return ((0.0 if before is None else before) - shift).astype(np.float32)


def _mean(mean: Any, name: str, k: int) -> NDArray[np.float64]:
    if isinstance(mean, InputMean):
        mean = mean.mean
    mean = as_array(mean, name, np.dtype(np.float64), 1)
    if mean.shape[0] != k:
        raise ValueError(f"{name} has {mean.shape[0]} elements, expected {k}")
    check_finite(mean, name)
    return mean  # type: ignore[no-any-return]
