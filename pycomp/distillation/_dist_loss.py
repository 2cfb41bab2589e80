"""The loss on correlations: of the classes in a row, and of the rows in a class."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._floats import narrowed, widened
from .._sums import total
from .._validate import FLOAT32, flag, fresh, not_negative, positive, rows
from ._rows import as_floats, counted, squared


@overload
def dist_loss(
    student: Any, teacher: Any, *, beta: float = ..., gamma: float = ..., temperature: float = ..., mask: Any = ...,
    scale_by_t2: bool = ..., return_grad: Literal[False] = ...
) -> float: ...
@overload
def dist_loss(
    student: Any, teacher: Any, *, beta: float = ..., gamma: float = ..., temperature: float = ..., mask: Any = ...,
    scale_by_t2: bool = ..., return_grad: Literal[True]
) -> tuple[float, NDArray[Any]]: ...
def dist_loss(
    student: Any, teacher: Any, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0, mask: Any = None,
    scale_by_t2: bool = True, return_grad: bool = False,
) -> float | tuple[float, NDArray[Any]]:
    """Distillation of relations (Huang et al., DIST, 2022): correlation of classes in a row, and of rows in a class.

    With p, q the softmax at T and ρ Pearson's correlation:
    ``T²·(beta·mean_i(1 - ρ(q[i, :], p[i, :])) + gamma·mean_j(1 - ρ(q[:, j], p[:, j])))``.
    A constant row or column has correlation 1/2 with another that is not, 1 with a constant one, and no gradient.

    Parameters
    ----------
    student, teacher : array of float32, float64, float16 or bfloat16, shape (B, V)
        Logits; -inf is a probability of 0.
    beta, gamma : float
        At least 0.
    temperature : float
        T, above 0 and finite, one for all rows: a column compares them.
    mask : array of bool, shape (B,), optional
        True where a row counts. The others are as if they were not there; where none counts the loss is 0.
    scale_by_t2 : bool
    return_grad : bool
        Return ``(loss, grad)``.

    Returns
    -------
    loss : float
    grad : array, shape and dtype of ``student``
        Exactly 0 in rows that do not count.

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit, B or V is 0, logits that count are NaN or +inf or a row of -inf alone, or an option is out
        of range.

    Notes
    -----
    A row counts in the correlations of every class with all others: no row has a loss to weigh or to return.
    With a mask that leaves rows out, the others are copied.

    1 - ρ is half the squared distance of the standardised vectors, in float64, which stays exact where they agree. With
    d_p = p - mean(p) and e_p = 2|δ|/|d_p|, where δ_j = 2⁻⁵⁰·(4 + (max x - x_j)/T)·p_j is what p_j is off by, x the
    logits, and e = e_p + e_q, each 1 - ρ is within √(2(1 - ρ))·e + e²/2 + 2⁻⁵⁰·(1 - ρ), and its gradient by q within
    32·e/|d_q| in norm, for T from 0.05 to 20: past these correlations are of what rounding leaves. The gradient by the
    student is rounded once to its type. Where the squares of deviations add up to less than 2⁻⁹⁰⁰ a row or column
    counts as constant.

    Passes over the logits: three, the gradient one more;
    workspace: 72 bytes a row or class, up to 4 MB a thread.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1, 2, 4], [0, 3, 1]], np.float32)
    >>> dist_loss(x, x)
    0.0
    """
    student, teacher = as_floats(student, "student"), as_floats(teacher, "teacher")
    if student.ndim != 2 or student.shape != teacher.shape or not student.size:
        raise ValueError(f"student has shape {student.shape}, teacher {teacher.shape}, expected both (B, V), not empty")
    scale_by_t2, return_grad = flag(scale_by_t2, "scale_by_t2"), flag(return_grad, "return_grad")
    beta, gamma = not_negative(beta, "beta"), not_negative(gamma, "gamma")
    temperature = positive(temperature, "temperature")
    kept = np.flatnonzero(counted(mask, None, None, student.shape[:1]))
    whole = len(kept) == len(student)
    if not len(kept):
        return (0.0, np.zeros(student.shape, student.dtype)) if return_grad else 0.0
    same = student.dtype == teacher.dtype and student.dtype in (np.float32, np.float64)
    sides = (student, teacher) if whole else (student[kept], teacher[kept])
    s, t = (rows(x if same else widened(x, np.float64)) for x in sides)
    width = "f32" if s.dtype == FLOAT32 else "f64"
    count, classes = s.shape
    of_rows, of_classes = np.empty(count), np.empty(classes)
    factor = squared(temperature) if scale_by_t2 else 1.0
    by_row, by_class = factor * beta / count, factor * gamma / classes
    if return_grad:
        grad = fresh(s.shape, s.dtype)
        getattr(dispatch, f"dist_loss_grad_{width}")(s, t, temperature, by_row, by_class, of_rows, of_classes, grad)
    else:
        getattr(dispatch, f"dist_loss_{width}")(s, t, temperature, of_rows, of_classes)
    if np.isnan(of_rows).any():
        lost = kept[np.isnan(of_rows)][0]
        raise ValueError(f"row {lost} of student or teacher holds NaN or +inf, or is -inf alone")
    loss = float(by_row * total(of_rows) + by_class * total(of_classes))
    if not return_grad:
        return loss
    found = narrowed(grad, student.dtype)
    if whole:
        return loss, found
    of_all = np.zeros(student.shape, student.dtype)
    of_all[kept] = found
    return loss, of_all
