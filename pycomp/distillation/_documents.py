"""Parts of docstrings that all losses of rows share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Documented = TypeVar("Documented", bound=Callable[..., Any])

_SIDES = {
    "student": """
    student : array of float32, float64, float16 or bfloat16, shape (..., V)
        Logits; every leading index is a row. ``-inf`` is a masked entry.""",
    "teacher": """
    student, teacher : array of float32, float64, float16 or bfloat16, shape (..., V)
        Logits; every leading index is a row. ``-inf`` is a masked entry: on both sides it counts for nothing.""",
}
_SHARED = {
    "temperature": """
    temperature : number or array of floats, shape (...)
        T, above 0 and finite; an array has one for each row. The bounds in the notes hold from 1e-3 to 1e4.""",
    "mask": """
    mask : array of bool, shape (...), optional
        True where a row counts.
    weights : array of floats, shape (...), optional
        Of the rows; at least 0.
    reduction : {"batchmean", "mean", "sum", "none"}
        ``"batchmean"``: the sum over the number of all rows. ``"mean"``: the sum over the sum of the weights of those
        that count. ``"sum"``: the sum. ``"none"``: the weighted loss of each row, 0 where it does not count. None of
        them divides by V. Where no row counts the loss is 0. :func:`kd_loss` has a worked example.""",
    "scale_by_t2": """
    scale_by_t2 : bool
        Multiply by T², which keeps gradients of one size (Hinton et al., 2015, §2.1).""",
    "check_finite": """
    check_finite : bool
        Raise where a row that counts holds NaN or ``+inf``, instead of NaN for that row.
    return_grad : bool
        Return ``(loss, grad)``.""",
}
_RETURNS = """
    loss : float, or array of float64 of shape (...) for ``reduction="none"``
    grad : array, shape and dtype of ``student``
        The derivative of the loss by ``student``, exactly 0 in rows that do not count; of each row's own loss for
        ``"none"``."""
_RAISES = """
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit, or an option or a value is out of range."""

_HEAD = """
    Bounds for T from 1e-3 to 1e4, of a row whose loss is D before T², weights and reduction: D is never negative, and
    within 2⁻²⁸ relative or """
_OF_GRADIENT = """
    Each element of its gradient is within 2⁻²⁸ relative or 2⁻³⁰·max(1, D)/T absolute, and rounded once to the
    student's type."""
_BOUNDS = {
    "{bound}": f"{_HEAD}2⁻⁵⁷/max(1, T²) absolute, and 2⁻⁴⁸·√D besides.{_OF_GRADIENT}",
    "{bound of first order}": f"{_HEAD}2⁻⁴⁸ absolute.{_OF_GRADIENT}",
}


def documented(function: Documented) -> Documented:
    """Fills the parts of a docstring that all row losses share."""
    text = function.__doc__
    if text is None:  # python -OO
        return function
    taken = inspect.signature(function).parameters
    shared = _SIDES["teacher" if "teacher" in taken else "student"]
    shared += "".join(part for name, part in _SHARED.items() if name in taken)
    for name, part in {"{shared}": shared, "{returns}": _RETURNS, "{raises}": _RAISES, **_BOUNDS}.items():
        text = text.replace(f"\n    {name}", part)
    function.__doc__ = text
    return function
