"""softmax and log_softmax over any axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._validate import FLOAT32, as_array, contiguous, delivered, integer, positive, result

DIMENSIONS = tuple(range(65))


def softmax(
    x: Any,
    *,
    temperature: float = 1.0,
    axis: int = -1,
    on_empty: str = "zeros",
    check_finite: bool = False,
    out: Any = None,
) -> NDArray[np.float32]:
    """Softmax of ``x / temperature`` along an axis: ``exp(x/T) / sum(exp(x/T))``.

    Parameters
    ----------
    x : array of float32
        At least one dimension. ``-inf`` is a masked entry and gets the probability 0.
    temperature : float
        T, above 0 and finite.
    axis : int
        The axis that sums to 1. Any but the last one costs a copy.
    on_empty : {"zeros", "raise"}
        A row that is masked altogether gives zeros, or is a ValueError.
    check_finite : bool
        Raise where ``x`` holds NaN or ``+inf``, instead of returning NaN for the whole row.
    out : array of float32, shape of x, optional
        Takes the result: C order; may not overlap ``x``.

    Returns
    -------
    array of float32, shape of x

    Raises
    ------
    TypeError
        If ``x`` is not a float32 array in native byte order.
    ValueError
        If the temperature is not above 0 and finite, the axis does not exist, ``out`` cannot take the result, or a row
        is refused as above.

    Notes
    -----
    Bound: 4 ulp of each result that is at least 2**-126, for T from 1e-3 to 1e4 and rows of up to 2**24 entries. Below
    that, 4 times the smallest subnormal.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([[0, 0, -np.inf]], np.float32))
    array([[0.5, 0.5, 0. ]], dtype=float32)
    """
    y = _along(dispatch.softmax_f32, x, temperature, axis, out, check_finite)
    if _refuse_empty(on_empty, "zeros") and not y.any(axis=axis).all():
        raise ValueError("x has a row of -inf alone")
    return y


def log_softmax(
    x: Any,
    *,
    temperature: float = 1.0,
    axis: int = -1,
    on_empty: str = "-inf",
    check_finite: bool = False,
    out: Any = None,
) -> NDArray[np.float32]:
    """Logarithm of :func:`softmax`: ``x/T - log(sum(exp(x/T)))``.

    Parameters
    ----------
    x, temperature, axis, check_finite, out
        As for :func:`softmax`.
    on_empty : {"-inf", "raise"}
        A row that is masked altogether gives ``-inf``, or is a ValueError.

    Returns
    -------
    array of float32, shape of x

    Raises
    ------
    TypeError, ValueError
        As for :func:`softmax`.

    Notes
    -----
    Bound: ``4u·max(1, |result|)``, ``u = 2**-24``, for T from 1e-3 to 1e4 and rows of up to 2**24 entries.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([3, 3], np.float32))
    array([-0.6931472, -0.6931472], dtype=float32)
    """
    y = _along(dispatch.log_softmax_f32, x, temperature, axis, out, check_finite)
    if _refuse_empty(on_empty, "-inf") and bool((y.max(axis=axis, initial=-np.inf) == -np.inf).any()):
        raise ValueError("x has a row of -inf alone")
    return y


def _refuse_empty(on_empty: Any, otherwise: str) -> bool:
    if on_empty not in (otherwise, "raise"):
        raise ValueError(f"on_empty is {on_empty!r}, expected {otherwise!r} or 'raise'")
    return bool(on_empty == "raise")


def _along(
    kernel: Callable[..., None], x: Any, temperature: Any, axis: Any, out: Any, check_finite: bool
) -> NDArray[np.float32]:
    """The kernel over rows of ``x`` along ``axis``."""
    x = as_array(x, "x", FLOAT32, DIMENSIONS)
    if x.ndim == 0:
        raise ValueError("x has no dimensions, expected at least one")
    temperature = positive(temperature, "temperature")
    axis = integer(axis, "axis", -x.ndim, x.ndim - 1)
    y = result(out, x.shape, FLOAT32, (x,))
    if axis in (-1, x.ndim - 1) and y.flags.c_contiguous:
        rows = contiguous(x).reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 0)
        target = y.reshape(rows.shape)
        kernel(rows, temperature, target)
    else:
        moved = contiguous(np.moveaxis(x, axis, -1))
        rows = moved.reshape(-1, moved.shape[-1]) if moved.size else moved.reshape(0, 0)
        target = np.empty_like(rows)
        kernel(rows, temperature, target)
        y[...] = np.moveaxis(target.reshape(moved.shape), -1, axis)
    if check_finite and target.size and np.isnan(target[:, 0]).any():
        raise ValueError("x holds NaN or +inf")
    return delivered(y, out)
