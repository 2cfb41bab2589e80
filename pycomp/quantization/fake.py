"""Fake quantization for training: what quantize and dequantize do to a value, in floats, and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._sums import total
from pycomp._validate import ANY_NDIM, FLOAT32, as_array, contiguous, delivered, flag, fresh, result
from pycomp.kernels import dispatch
from pycomp.kernels.entry import NanError

from .schemes import Layout, check_axis, layout
from .tensor import as_scale, as_zero_point, code_dtype, code_range, nan_in, refuse_nan, run

Floats = NDArray[np.float32]
PART = 16384
"""Elements of one sum of the kernel."""


def _operands(
    x: Any, scale: Any, zero_point: Any, axis: int | None, dtype: DTypeLike, narrow_range: bool
) -> tuple[Floats, Layout, Floats, NDArray[np.int32], tuple[int, int]]:
    """x, its layout, scale and zero point in the shape of the scales, smallest and largest code."""
    x = as_array(x, "x", FLOAT32, ANY_NDIM)
    kind = code_dtype(dtype)
    axis, _ = check_axis(axis, None, x.shape, "x")
    parts = layout(x.shape, axis, None)
    scale = as_scale(scale, "scale", parts.shape)
    zero = as_zero_point(zero_point, "zero_point", parts.shape, kind)
    return x, parts, scale, zero, code_range(zero, kind, flag(narrow_range, "narrow_range"))


def fake_quantize(
    x: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None, dtype: DTypeLike = "int8",
    narrow_range: bool = False, out: Any = None,
) -> Floats:
    """``(clip(rint(x / scale) + zero_point, qmin, qmax) - zero_point)·scale``.

    Parameters
    ----------
    x : array of float32
    scale : number or array of float32, shape (C,)
    zero_point : integer or array of integers, shape (C,)
    axis : int, optional
        One scale for each index along this axis.
    dtype : "int8" or "uint8"
    narrow_range : bool
        Leave out the smallest code.
    out : array of float32, the shape of x, optional
        Receives the result, or stays as it is where an error is raised: x is read once more, before.

    Returns
    -------
    array of float32, the shape of ``x``

    Raises
    ------
    TypeError
        If an array has the wrong dtype, or ``narrow_range`` is no bool.
    ValueError
        If x holds NaN, a scale is not finite or below 2⁻¹²⁶, a zero point is outside the codes, or shapes do not fit.

    Notes
    -----
    The bits of ``dequantize(quantize(x, scale=scale, zero_point=zero_point))``; infinity saturates.

    Examples
    --------
    >>> import numpy as np
    >>> fake_quantize(np.array([0.3, 0.8, 100], np.float32), 0.5)
    array([ 0.5,  1. , 63.5], dtype=float32)
    """
    given = x, scale, zero_point
    x, parts, scale, zero, limits = _operands(x, scale, zero_point, axis, dtype, narrow_range)
    y = result(out, x.shape, FLOAT32, given, whole=True)
    if y is out:
        x = contiguous(x)
        refuse_nan(x)
    run("fake_quantize", x, parts, scale, zero, y, limits)
    return delivered(y, out)


def fake_quantize_backward(
    grad: Any, x: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None, dtype: DTypeLike = "int8",
    narrow_range: bool = False, lsq_scale: bool = False,
) -> tuple[Floats, Floats, Floats]:
    """Gradients of :func:`fake_quantize` by x, scale and zero point, straight through the rounding.

    With ``c = rint(x / scale) + zero_point``, inside if ``qmin <= c <= qmax``:
    dx = grad inside, else 0; dscale = Σ grad·(c - zero_point - x/scale) inside, Σ grad·(bound - zero_point) outside;
    dzero_point = Σ -grad·scale outside, nothing inside. Esser et al., Learned Step Size Quantization, 2020; Bhalgat et
    al., LSQ+, 2020.

    Parameters
    ----------
    grad : array of float32, the shape of ``x``
        Gradient by the output.
    x, scale, zero_point, axis, dtype, narrow_range
        As for the forward pass.
    lsq_scale : bool
        Multiply dscale and dzero_point by ``1 / sqrt(n·qmax)``, n the number of elements that share a scale.

    Returns
    -------
    dx : array of float32, the shape of ``x``
    dscale, dzero_point : arrays of float32, shape () or (C,)

    Raises
    ------
    TypeError, ValueError
        As for the forward pass, and if ``grad`` does not have the shape of x.

    Notes
    -----
    Sums are made in float64, by lanes of parts of 16384 elements as ``docs/numerics.md`` says, the parts padded with
    zeros to a power of two and folded by halves (j and j + n/2), and rounded once. Error of a sum, relative to the
    float32 quotient ``x/scale``: ``2⁻⁴²·Σ|terms|`` and half a unit of the result. Scales along the last of several axes
    cost copies of x and grad, and of dx.

    Examples
    --------
    >>> import numpy as np
    >>> fake_quantize_backward(np.ones(3, np.float32), np.array([0.25, 0.75, 100], np.float32), 0.5)[0]
    array([1., 1., 0.], dtype=float32)
    """
    x, parts, scale, zero, (low, high) = _operands(x, scale, zero_point, axis, dtype, narrow_range)
    grad = as_array(grad, "grad", FLOAT32, ANY_NDIM)
    if grad.shape != x.shape:
        raise ValueError(f"grad has shape {grad.shape}, expected {x.shape}")
    rows, columns = parts.matrix[:: -1 if parts.by_column else 1]

    def by_rows(a: Floats) -> Floats:
        matrix = a.reshape(parts.matrix)
        return contiguous(matrix.T if parts.by_column else matrix)

    dx = fresh((rows, columns), FLOAT32)
    sums = np.empty((2, rows, -(-columns // PART)))
    zeros = np.tile(zero.reshape(-1), parts.outer) if zero.any() else None
    try:
        dispatch.fake_quantize_backward_f32(by_rows(grad), by_rows(x), np.tile(scale.reshape(-1), parts.outer), zeros,
                                            low, high, dx, *sums)
    except NanError:
        raise nan_in(x) from None
    each = max(x.size // max(scale.size, 1), 1)
    factor = 1 / np.sqrt(np.float64(each * high)) if flag(lsq_scale, "lsq_scale") else np.float64(1)
    per_scale = sums.reshape(2, parts.outer, scale.size, sums.shape[2]).swapaxes(1, 2).reshape(
        2, scale.size, parts.outer * sums.shape[2])
    with np.errstate(over="ignore", under="ignore"):
        by_scale = (total(per_scale) * factor).astype(np.float32).reshape(2, *parts.shape)
    return contiguous(dx.T if parts.by_column else dx).reshape(x.shape), by_scale[0, ...], by_scale[1, ...]
