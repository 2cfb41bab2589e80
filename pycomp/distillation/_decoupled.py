"""Losses that take the right class and the others apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from .._validate import not_negative
from ._documents import documented
from ._double import Doubles, log
from ._rows import (
    Alone,
    Distance,
    Graded,
    Labels,
    Loss,
    Result,
    Weighing,
    WithGrad,
    alike,
    apart,
    as_floats,
    as_labels,
    prepared,
    product,
    reduced,
    softmax,
    squared,
    weighed,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _log_softmax_at(classes: Labels, x: Doubles, q: Doubles, temperature: Doubles) -> Doubles:
    """Logarithms of q = softmax(x/T) at some classes of each row [b, k]: the largest of q is at least 1/V."""
    gaps: Doubles = np.take_along_axis(x, classes, axis=1) - x.max(axis=1, keepdims=True)
    return gaps / temperature + log(q.max(axis=1, keepdims=True))


@overload
def dkd_loss(
    student: Any, teacher: Any, labels: Any, *, alpha: float = ..., beta: float = ..., ignore_index: int | None = ...,
    **options: Unpack[Alone]
) -> Loss: ...
@overload
def dkd_loss(
    student: Any, teacher: Any, labels: Any, *, alpha: float = ..., beta: float = ..., ignore_index: int | None = ...,
    **options: Unpack[WithGrad]
) -> Graded: ...
@documented
def dkd_loss(
    student: Any, teacher: Any, labels: Any, *, alpha: float = 1.0, beta: float = 8.0, temperature: Any = 4.0,
    mask: Any = None, weights: Any = None, ignore_index: int | None = None, reduction: str = "batchmean",
    scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Decoupled distillation (Zhao et al., 2022): the right class against the rest, and the rest among themselves.

    With b = (p_label, 1 - p_label) and p̂ the distribution of the other classes alone, of the teacher and of the
    student: ``T²·(alpha·KL(b_t‖b_s) + beta·KL(p̂_t‖p̂_s))``. alpha = 1 with beta = 1 - p_label is plain KL.

    Parameters
    ----------
    labels : array of integers, shape (...)
        The right class of each row that counts.
    alpha, beta : float
        At least 0.
    ignore_index : int, optional
        A label whose rows do not count.
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Notes
    -----
    {bound}
    With c = alpha + beta, c·2⁻⁵⁷ takes the place of 2⁻⁵⁷, 2⁻⁴⁸·√(c·D) that of 2⁻⁴⁸·√D, and max(c, D) that of max(1, D).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1, 2, 3]], np.float32)
    >>> dkd_loss(x, x, [2])
    0.0
    """
    alpha, beta = not_negative(alpha, "alpha"), not_negative(beta, "beta")

    student = as_floats(student, "student")
    others = alike(student, teacher, "teacher")
    of = prepared(student, labels=labels, mask=mask, weights=weights, ignore_index=ignore_index, reduction=reduction)
    known = np.where(of.kept, as_labels(labels, of.shape), 0)
    return weighed("decoupled_kl", of, [others], lambda part: (known[part], alpha, beta), student,
                   temperature=temperature, scale_by_t2=scale_by_t2, reduction=reduction, check_finite=check_finite,
                   return_grad=return_grad)


@overload
def nkd_loss(
    student: Any, teacher: Any, labels: Any, *, gamma: float = ..., temperature: Any = ...,
    ignore_index: int | None = ..., return_grad: Literal[False] = ..., **options: Unpack[Weighing]
) -> Loss: ...
@overload
def nkd_loss(
    student: Any, teacher: Any, labels: Any, *, gamma: float = ..., temperature: Any = ...,
    ignore_index: int | None = ..., return_grad: Literal[True], **options: Unpack[Weighing]
) -> Graded: ...
@documented
def nkd_loss(
    student: Any, teacher: Any, labels: Any, *, gamma: float = 1.5, temperature: Any = 1.0, mask: Any = None,
    weights: Any = None, ignore_index: int | None = None, reduction: str = "batchmean", check_finite: bool = False,
    return_grad: bool = False,
) -> Result:
    """Normalised distillation (Yang et al., 2023): soft weight on the right class, cross entropy among the rest.

    With the softmax at temperature 1 for the right class and p̂, q̂ the distributions of the other classes alone at T:
    ``-p_label·log q_label - gamma·T²·Σ_j p̂_j log q̂_j``.

    Parameters
    ----------
    labels : array of integers, shape (...)
        The right class of each row that counts.
    gamma : float
        At least 0.
    ignore_index : int, optional
        A label whose rows do not count.
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Notes
    -----
    Bounds for T from 1e-3 to 1e4, of a row before weights and reduction, C its Σ_j p̂_j log q̂_j without sign: the loss
    is within 2⁻²⁸ relative or 2⁻⁴⁸·(1 + gamma·T²) absolute. Each element of the gradient is within 2⁻²⁸·(1 +
    gamma·T·max(1, C)) absolute, and rounded once to the student's type.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.zeros((1, 3), np.float32)
    >>> round(nkd_loss(x, x, [0], gamma=1.0), 6)  # log(3)/3 + log(2)
    1.059351
    """
    gamma = not_negative(gamma, "gamma")

    def loss(s: Doubles, t: Doubles, temperature: Doubles, known: Labels) -> tuple[Doubles, Doubles]:
        one, rows = np.ones_like(temperature), np.arange(len(s))
        hard, soft = softmax(s, one), softmax(t, one)[rows, known]
        log_q1 = _log_softmax_at(known[:, None], s, hard, one)[:, 0]
        s[rows, known] = t[rows, known] = -np.inf
        p = softmax(t, temperature)
        among, grad = apart(Distance.CROSS_ENTROPY, s, p, temperature)
        alone = p.max(axis=1) == 0
        among[alone], grad[alone] = 0.0, 0.0
        square = gamma * squared(temperature[:, 0])
        hard *= soft[:, None]
        hard[rows, known] -= soft
        grad *= square[:, None]
        grad[square == 0] = 0.0  # also where it was NaN
        grad += hard
        return product(square, among) - product(soft, log_q1), grad

    return reduced(loss, student, teacher, labels=labels, temperature=temperature, mask=mask, weights=weights,
                   ignore_index=ignore_index, reduction=reduction, scale_by_t2=False, check_finite=check_finite,
                   return_grad=return_grad)
