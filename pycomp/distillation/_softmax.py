"""softmax, log_softmax and logsumexp over any axis, for any float type, with masks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._floats import narrowed, widened
from .._validate import choice, contiguous, delivered, flag, from_lists, integer, positive, result
from ._rows import CHUNK, as_floats

Lines = NDArray[Any]
"""Rows [m, n], or columns [m, c, n] of which each is what a row is."""
BESIDE = 8
"""Columns side by side from which on they are taken as they lie: they fill half a vector."""


def softmax(
    x: Any,
    *,
    temperature: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    lengths: Any = None,
    on_empty: str = "zeros",
    check_finite: bool = False,
    out: Any = None,
) -> NDArray[Any]:
    """Softmax of ``x / temperature`` along an axis: ``exp(x/T) / sum(exp(x/T))``.

    Parameters
    ----------
    x : array of float32, float64, float16 or bfloat16
        At least one dimension. ``-inf`` is a masked entry and gets the probability 0.
    temperature : float
        T, above 0 and finite.
    axis : int
        The axis that sums to 1. Any but the last one costs a copy where fewer than 8 entries follow it, and in float64.
    mask : array of bool, optional
        True where an entry counts; of a shape that broadcasts to that of x. Costs a copy of x.
    lengths : array of integers, the shape of x without ``axis``, optional
        How many entries along the axis count, from the first on. Costs a copy of x.
    on_empty : {"zeros", "raise"}
        A row that is masked altogether gives zeros, or is a ValueError.
    check_finite : bool
        Raise where an entry that counts is NaN or ``+inf``, instead of returning NaN for the whole row.
    out : array, shape and dtype of x, optional
        Takes the result; any strides. It may be x itself, and else may not overlap it.

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If the temperature is not above 0 and finite, the axis does not exist, mask or lengths do not fit, ``out``
        cannot take the result, or a row is refused as above.

    Notes
    -----
    Bound for float32: 4 ulp of each result that is at least 2**-126, for T from 1e-3 to 1e4 and rows of up to 2**24
    entries; below that, 4 times the smallest subnormal. float16 and bfloat16 are widened exactly, computed as float32
    and rounded once. float64: 2**-50·(4 + |x - max|/T) relative, and 0 below e**-690.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([[0, 0, -np.inf]], np.float32))
    array([[0.5, 0.5, 0. ]], dtype=float32)
    >>> softmax(np.zeros((2, 3), np.float32), lengths=[1, 2])
    array([[1. , 0. , 0. ],
           [0.5, 0.5, 0. ]], dtype=float32)
    """
    choice(on_empty, "on_empty", ("zeros", "raise"))
    refused = 0.0 if on_empty == "raise" else None
    return _along("softmax", x, temperature, axis, mask, lengths, out, check_finite, refused)


def log_softmax(
    x: Any,
    *,
    temperature: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    lengths: Any = None,
    on_empty: str = "-inf",
    check_finite: bool = False,
    out: Any = None,
) -> NDArray[Any]:
    """Logarithm of :func:`softmax`: ``x/T - log(sum(exp(x/T)))``.

    Parameters
    ----------
    x, temperature, axis, mask, lengths, check_finite, out
        As for :func:`softmax`.
    on_empty : {"-inf", "raise"}
        A row that is masked altogether gives ``-inf``, or is a ValueError.

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError, ValueError
        As for :func:`softmax`.

    Notes
    -----
    Bound for float32: ``4u·max(1, |result|)``, ``u = 2**-24``, for T from 1e-3 to 1e4 and rows of up to 2**24 entries;
    half types as for :func:`softmax`; float64: ``2**-48·max(1, |result|)``.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([3, 3], np.float32))
    array([-0.6931472, -0.6931472], dtype=float32)
    """
    choice(on_empty, "on_empty", ("-inf", "raise"))
    refused = -math.inf if on_empty == "raise" else None
    return _along("log_softmax", x, temperature, axis, mask, lengths, out, check_finite, refused)


def logsumexp(
    x: Any,
    *,
    temperature: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    lengths: Any = None,
    check_finite: bool = False,
) -> NDArray[Any]:
    """``log(sum(exp(x/T)))`` along an axis, without overflow.

    Parameters
    ----------
    x, temperature, axis, mask, lengths, check_finite
        As for :func:`softmax`.

    Returns
    -------
    array, the shape of x without ``axis``, dtype of x
        ``-inf`` for a row that is empty or masked altogether.

    Raises
    ------
    TypeError, ValueError
        As for :func:`softmax`.

    Notes
    -----
    Bound for float32: ``4u·max(1, |result|)``, ``u = 2**-24``; half types as for :func:`softmax`; float64:
    ``2**-48·max(1, |result|)``.

    Examples
    --------
    >>> import numpy as np
    >>> logsumexp(np.array([[1000, 1000], [0, -np.inf]], np.float32))
    array([1000.6932,    0.    ], dtype=float32)
    """
    x, lines, temperature, axis = _lines(x, temperature, axis, mask, lengths)
    y = np.empty((len(lines), *lines.shape[2:]), x.dtype)
    _run("logsumexp", lines, temperature, y)
    if flag(check_finite, "check_finite") and np.isnan(y).any():
        raise ValueError("x holds NaN or +inf")
    found: NDArray[Any] = y.reshape(x.shape[:axis] + x.shape[axis + 1 :])
    return found


def _lines(x: Any, temperature: Any, axis: Any, mask: Any, lengths: Any) -> tuple[NDArray[Any], Lines, float, int]:
    """x; what lies along the axis, masked, as rows or as columns; temperature; axis, not negative."""
    x = as_floats(x, "x")
    if x.ndim == 0:
        raise ValueError("x has no dimensions, expected at least one")
    temperature = positive(temperature, "temperature")
    axis = integer(axis, "axis", -x.ndim, x.ndim - 1) % x.ndim
    values = x if mask is None and lengths is None else _masked(x, axis, mask, lengths)
    if axis < x.ndim - 1:
        turned, beside = np.moveaxis(values, axis, -1), math.prod(x.shape[axis + 1 :])
        if x.itemsize < 8 and beside >= BESIDE and not turned.flags.c_contiguous:
            return x, contiguous(values).reshape(math.prod(x.shape[:axis]), x.shape[axis], beside), temperature, axis
        values = turned
    rows = contiguous(values)
    if rows.ndim != 2:
        rows = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    return x, rows, temperature, axis


def _masked(x: NDArray[Any], axis: int, mask: Any, lengths: Any) -> NDArray[Any]:
    """x with -inf where an entry does not count."""
    kept: Any = None
    if mask is not None:
        kept = from_lists(mask, "mask", "bool")
        if kept.dtype != np.bool_:
            raise TypeError(f"mask has dtype {kept.dtype.name}, expected bool: True where an entry counts")
        try:
            kept = np.broadcast_to(kept, x.shape)
        except ValueError:
            raise ValueError(f"mask has shape {kept.shape}, expected one that broadcasts to {x.shape}") from None
    if lengths is not None:
        given, expected = from_lists(lengths, "lengths", "integers"), x.shape[:axis] + x.shape[axis + 1 :]
        if given.dtype.kind not in "iu":
            raise TypeError(f"lengths has dtype {given.dtype.name}, expected integers")
        if given.shape != expected:
            raise ValueError(f"lengths has shape {given.shape}, expected {expected}")
        if given.size and not 0 <= given.min() <= given.max() <= x.shape[axis]:
            raise ValueError(f"lengths has values from {given.min()} to {given.max()}, expected 0 to {x.shape[axis]}")
        index = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        short = index < np.expand_dims(given, axis)
        kept = short if kept is None else kept & short
    return x if kept is None else np.where(kept, x, np.array(-np.inf, x.dtype))


def _along(
    kernel: str, x: Any, temperature: Any, axis: Any, mask: Any, lengths: Any, out: Any, check_finite: bool,
    refused: float | None,
) -> NDArray[Any]:
    """The kernel over ``x`` along ``axis``. ``refused``: what a row holds alone that is an error. Nothing is written to
    ``out`` before the checks."""
    x, lines, temperature, axis = _lines(x, temperature, axis, mask, lengths)
    check_finite = flag(check_finite, "check_finite")
    y = result(out, x.shape, x.dtype, () if out is x else (x,), whole=True)
    as_it_lies = lines.ndim == 3 or axis == x.ndim - 1
    direct = as_it_lies and (out is None or (not check_finite and refused is None))
    target = np.empty_like(lines) if not direct else y if y.shape == lines.shape else y.reshape(lines.shape)
    _run(kernel, lines, temperature, target)
    if check_finite and target.size and np.isnan(target[:, 0]).any():
        raise ValueError("x holds NaN or +inf")
    if refused is not None and (target == refused).all(axis=1).any():
        raise ValueError("x has a row of -inf alone")
    if not direct:
        shape = (*x.shape[:axis], *x.shape[axis + 1 :], x.shape[axis])
        y[...] = target.reshape(x.shape) if as_it_lies else np.moveaxis(target.reshape(shape), -1, axis)
    return delivered(y, out)


def _run(kernel: str, lines: Lines, temperature: float, y: NDArray[Any]) -> None:
    """A kernel in the type of the lines, but float32 for half types; that of float64 has a temperature for each."""
    name = f"{kernel}_columns" if lines.ndim == 3 else kernel
    if lines.dtype.itemsize == 8:
        getattr(dispatch, f"{name}_f64")(lines, np.full(len(lines), temperature), y)
    elif lines.dtype.itemsize == 4:
        getattr(dispatch, f"{name}_f32")(lines, temperature, y)
    else:  # by parts that stay in the caches
        step = max(CHUNK // max(math.prod(lines.shape[1:]), 1), 1)
        for first in range(0, len(lines), step):
            part = slice(first, first + step)
            wide = np.empty(y[part].shape, np.float32)
            getattr(dispatch, f"{name}_f32")(widened(lines[part], np.float32), temperature, wide)
            y[part] = narrowed(wide, y.dtype)
