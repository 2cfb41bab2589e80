"""From int32 sums back to 8-bit codes: by a float scale, or by integers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._validate import ANY_NDIM, INT32, as_array, contiguous, delivered, integer, result
from pycomp.kernels import dispatch

from .schemes import check_axis
from .tensor import INT8, as_integers, as_numbers, as_scale, as_zero_point, code_dtype

WIDTH = 4096
"""Columns of the matrix that an array with one scale is laid out as."""


def requantize(
    acc: Any, scale: Any, zero_point: Any = 0, *, axis: int = -1, dtype: DTypeLike = "int8", out: Any = None
) -> NDArray[Any]:
    """Sums of products as codes of the next layer: ``saturate(rint(float(acc)·scale) + zero_point)``.

    Parameters
    ----------
    acc : array of int32
        Any shape; other than C order, or an ``axis`` that is not the last, costs a copy.
    scale : number or array of float32, shape (C,)
        The scales of both factors over the scale of the result; an array has one for each index along ``axis``.
    zero_point : integer or array of integers, shape (C,)
        Of the result, in the range of ``dtype``.
    axis : int
    dtype : "int8" or "uint8"
    out : array of ``dtype``, the shape of ``acc``, optional

    Returns
    -------
    array of int8 or uint8, the shape of ``acc``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If a scale is not finite or below 2⁻¹²⁶, a zero point is out of range, shapes do not fit, or ``out`` cannot take
        the result.

    Notes
    -----
    In this order: the sum is rounded to float32, the product is rounded to float32, that is rounded to an integer, each
    half to even; the zero point is added; the result saturates. Exact to this definition. This is the order of ONNX
    Runtime's QLinearMatMul.

    Examples
    --------
    >>> import numpy as np
    >>> requantize(np.array([-5, 5, 7, 1000], np.int32), 0.5, 10)
    array([  8,  12,  14, 127], dtype=int8)
    """
    acc = as_array(acc, "acc", INT32, ANY_NDIM)
    kind = code_dtype(dtype)
    length, axis = _channels(acc, axis)
    scales = as_scale(scale, "scale", length)
    zeros = as_zero_point(zero_point, "zero_point", length, kind)
    one = not np.ndim(scale) and not np.ndim(zero_point)
    codes = result(out, acc.shape, kind, (acc, scale, zero_point), whole=True)
    kernel = dispatch.requantize_s8 if kind == INT8 else dispatch.requantize_u8
    _run(kernel, acc, (scales,), zeros, codes, axis, one)
    return delivered(codes, out)


def requantize_fixed_point(
    acc: Any,
    multiplier: Any,
    shift: Any,
    zero_point: Any = 0,
    *,
    axis: int = -1,
    dtype: DTypeLike = "int8",
    out: Any = None,
) -> NDArray[Any]:
    """:func:`requantize` by integers alone, as TFLite and gemmlowp define it: by ``multiplier·2^(shift - 31)``.

    Parameters
    ----------
    acc : array of int32
    multiplier : integer or array of integers, shape (C,)
        From 2³⁰ to 2³¹ - 1, or 0; :func:`quantize_multiplier` makes it.
    shift : integer or array of integers, shape (C,)
        From -31 to 30; above 0 to the left.
    zero_point, axis, dtype, out
        As in :func:`requantize`.

    Returns
    -------
    array of int8 or uint8, the shape of ``acc``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If a multiplier, shift or zero point is out of range, shapes do not fit, or ``out`` cannot take the result.

    Notes
    -----
    Exact, in this order (Jacob et al. 2018, section 2.2; names are gemmlowp's):

    1. ``x = acc·2^max(shift, 0)``, saturated to int32;
    2. SaturatingRoundingDoublingHighMul: ``x = floor((x·multiplier + 2³⁰) / 2³¹)``, half up;
    3. RoundingDivideByPOT: ``x = x / 2^max(-shift, 0)``, half away from 0;
    4. the zero point is added and the result saturates.

    Rounding twice and half away from 0, it may differ by one from :func:`requantize`.

    Examples
    --------
    >>> import numpy as np
    >>> requantize_fixed_point(np.array([-5, 5, 7, 1000], np.int32), *quantize_multiplier(0.5), 10)
    array([  8,  13,  14, 127], dtype=int8)
    """
    acc = as_array(acc, "acc", INT32, ANY_NDIM)
    kind = code_dtype(dtype)
    length, axis = _channels(acc, axis)
    multipliers = as_integers(multiplier, "multiplier", length, 0, 2**31 - 1, " (2³⁰ to 2³¹ - 1, or 0)")
    if bad := multipliers[(multipliers < 2**30) & (multipliers != 0)].tolist():
        raise ValueError(f"multiplier holds {bad[0]}, expected 2³⁰ to 2³¹ - 1, or 0")
    shifts = as_integers(shift, "shift", length, -31, 30)
    zeros = as_zero_point(zero_point, "zero_point", length, kind)
    one = not np.ndim(multiplier) and not np.ndim(shift) and not np.ndim(zero_point)
    codes = result(out, acc.shape, kind, (acc, multiplier, shift, zero_point), whole=True)
    kernel = dispatch.requantize_fixed_s8 if kind == INT8 else dispatch.requantize_fixed_u8
    _run(kernel, acc, (multipliers, shifts), zeros, codes, axis, one)
    return delivered(codes, out)


@overload
def quantize_multiplier(real: float | np.number[Any]) -> tuple[int, int]: ...
@overload
def quantize_multiplier(real: NDArray[Any] | Sequence[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]: ...
def quantize_multiplier(real: Any) -> tuple[int, int] | tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The multiplier and shift of :func:`requantize_fixed_point` nearest to real numbers, as TFLite chooses them.

    Parameters
    ----------
    real : number or array of numbers
        At least 0 and below 2³⁰; float64 inside.

    Returns
    -------
    multiplier, shift : int, or arrays of int32 in the shape of ``real``
        ``real ≈ multiplier·2^(shift - 31)``, within 2⁻³¹ of it; both 0 below 2⁻³², and for 0.

    Raises
    ------
    TypeError
        If ``real`` does not hold numbers.
    ValueError
        If a number is below 0, not below 2³⁰, or NaN.

    Notes
    -----
    ``real = fraction·2^shift`` with the fraction in [1/2, 1); ``multiplier = fraction·2³¹`` rounded half away from 0,
    and a multiplier of 2³¹ becomes 2³⁰ with the next shift (QuantizeMultiplier in TFLite).

    Examples
    --------
    >>> quantize_multiplier(0.75)
    (1610612736, 0)
    """
    numbers = as_numbers(real, "real", "iuf", "numbers of at least 0 and below 2³⁰").astype(np.float64)
    if (bad := numbers[~((numbers >= 0) & (numbers < 2.0**30))]).size:
        raise ValueError(f"real holds {bad.flat[0]}, expected numbers of at least 0 and below 2³⁰")
    fraction, shift = np.frexp(numbers)
    multiplier = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    carried = multiplier == 2**31
    multiplier, shift = np.where(carried, 2**30, multiplier), shift + carried
    tiny = (shift < -31) | (multiplier == 0)
    multipliers, shifts = np.where(tiny, 0, multiplier).astype(np.int32), np.where(tiny, 0, shift).astype(np.int32)
    if np.any(shifts > 30):
        raise ValueError(f"real holds {numbers[shifts > 30].flat[0]}, which rounds to 2³⁰, expected less")
    return (multipliers, shifts) if np.ndim(real) else (int(multipliers), int(shifts))


def _channels(acc: NDArray[np.int32], axis: Any) -> tuple[int, int]:
    """Length of the axis and the axis, not negative; a scalar has one of length 1."""
    if acc.ndim == 0:
        integer(axis, "axis", -1, 0)
        return 1, 0
    checked, _ = check_axis(axis, None, acc.shape, "acc")
    if checked is None:
        raise TypeError("axis is None, expected an integer")
    return acc.shape[checked], checked


def _run(
    kernel: Callable[..., None],
    acc: NDArray[np.int32],
    factors: tuple[NDArray[Any], ...],
    zeros: NDArray[np.int32],
    codes: NDArray[Any],
    axis: int,
    one: bool,
) -> None:
    """Lay acc out as a matrix whose columns have the factors, and fill the codes."""
    if acc.size == 0:
        return
    if one or acc.ndim == 0:
        whole_rows = acc.size // WIDTH * WIDTH
        flat, into = contiguous(acc).reshape(-1), codes.reshape(-1)
        for part, width in ((slice(0, whole_rows), WIDTH), (slice(whole_rows, None), acc.size - whole_rows)):
            if len(flat[part]):
                wide = [np.full(width, a[0], a.dtype) for a in (*factors, zeros)]
                kernel(flat[part].reshape(-1, width), *wide, into[part].reshape(-1, width))
        return
    zero = zeros if zeros.any() else None
    if axis == acc.ndim - 1:
        kernel(contiguous(acc).reshape(-1, acc.shape[-1]), *factors, zero, codes.reshape(-1, acc.shape[-1]))
        return
    moved = contiguous(np.moveaxis(acc, axis, -1))
    target = np.empty(moved.shape, codes.dtype)
    kernel(moved.reshape(-1, moved.shape[-1]), *factors, zero, target.reshape(-1, moved.shape[-1]))
    codes[...] = np.moveaxis(target, -1, axis)
