"""Fake quantization for training: what quantize and dequantize do to a value, in floats, and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, as_array, result

from .schemes import check_axis
from .tensor import ANY_NDIM, as_scale, as_zero_point, code_dtype, quantize

Floats = NDArray[np.float32]


def _operands(
    x: Any, scale: Any, zero_point: Any, axis: int | None, dtype: str, narrow_range: bool
) -> tuple[Floats, int | None, Floats, Floats, int, int]:
    """x, axis, scale and zero point spread along it, smallest and largest code."""
    x = as_array(x, "x", FLOAT32, ANY_NDIM)
    kind = code_dtype(dtype)
    axis, _ = check_axis(axis, None, x.shape, "x")
    length = None if axis is None else x.shape[axis]
    shape = () if axis is None else tuple(-1 if i == axis else 1 for i in range(x.ndim))
    scale = as_scale(scale, "scale", length)
    zero = as_zero_point(zero_point, "zero_point", length, kind)
    limits = np.iinfo(kind)
    low, high = limits.min + bool(narrow_range), limits.max
    if zero.size and zero.min() < low:
        raise ValueError(f"zero_point holds {zero.min()}, expected {low} to {high} ({kind.name}, narrow range)")
    return x, axis, scale.reshape(shape), zero.astype(np.float32).reshape(shape), low, high


def fake_quantize(
    x: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None, dtype: str = "int8",
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
    out : array of float32, optional

    Returns
    -------
    array of float32, the shape of ``x``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If x holds NaN, a scale is not finite and above 0, a zero point is outside the codes, or shapes do not fit.

    Notes
    -----
    The bits of ``dequantize(quantize(x, scale=scale, zero_point=zero_point))``; infinity saturates.

    Examples
    --------
    >>> import numpy as np
    >>> fake_quantize(np.array([0.3, 0.8, 100], np.float32), 0.5)
    array([ 0.5,  1. , 63.5], dtype=float32)
    """
    x, _, scales, *_ = _operands(x, scale, zero_point, axis, dtype, narrow_range)
    if out is not None:
        result(out, x.shape, FLOAT32, (x, scales))
    y = quantize(x, scale=scale, zero_point=zero_point, axis=axis, dtype=dtype, narrow_range=narrow_range).dequantize()
    if out is None:
        return y
    out[...] = y
    return out  # type: ignore[no-any-return]


def fake_quantize_backward(
    grad: Any, x: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None, dtype: str = "int8",
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
    Terms and sums are float64, padded with zeros to a power of two and folded by halves (j and j + n/2), rounded once:
    element-wise operations that IEEE 754 rounds exactly, so the bits depend on the values and the shape alone.
    Error of a sum, relative to the float32 quotient ``x/scale``: ``2⁻⁴⁵·Σ|terms|`` and half a unit of the result.

    Examples
    --------
    >>> import numpy as np
    >>> fake_quantize_backward(np.ones(3, np.float32), np.array([0.25, 0.75, 100], np.float32), 0.5)[0]
    array([1., 1., 0.], dtype=float32)
    """
    x, axis, scale, zero, low, high = _operands(x, scale, zero_point, axis, dtype, narrow_range)
    grad = as_array(grad, "grad", FLOAT32, ANY_NDIM)
    if grad.shape != x.shape:
        raise ValueError(f"grad has shape {grad.shape}, expected {x.shape}")
    if np.isnan(x).any():
        raise ValueError("x holds NaN")
    with np.errstate(over="ignore", under="ignore"):
        q = x / scale
    # Beyond 512 a code saturates whatever the zero point; up to it, code + zero is exact in float32.
    code = np.rint(np.clip(q, np.float32(-512), np.float32(512))) + zero
    inside = (code >= low) & (code <= high)
    dx = np.where(inside, grad, np.float32(0))
    wide = grad.astype(np.float64)
    clipped = np.clip(code, np.float32(low), np.float32(high)) - zero
    # Outside, q may be infinite: it is replaced before it is subtracted.
    by_scale = wide * (clipped.astype(np.float64) - np.where(inside, q, np.float32(0)))
    by_zero = np.where(inside, 0.0, -wide * scale)
    count = x.size if axis is None else x.size // max(x.shape[axis], 1)
    factor = 1 / np.sqrt(np.float64(max(count, 1) * high)) if lsq_scale else np.float64(1)
    with np.errstate(over="ignore", under="ignore"):
        return dx, *((_sum(terms, axis) * factor).astype(np.float32) for terms in (by_scale, by_zero))


def _sum(terms: NDArray[np.float64], axis: int | None) -> NDArray[np.float64]:
    """Sums over all axes but one, folded by halves."""
    rows = terms.reshape(1, -1) if axis is None else np.moveaxis(terms, axis, 0)
    channels, size = rows.shape[0], terms.size // max(rows.shape[0], 1)
    length = 1 << max(size - 1, 0).bit_length()
    folded = np.zeros((channels, length))
    folded[:, :size] = rows.reshape(channels, size)
    while length > 1:
        length //= 2
        folded = folded[:, :length] + folded[:, length:]
    return folded.reshape(() if axis is None else (channels,))
