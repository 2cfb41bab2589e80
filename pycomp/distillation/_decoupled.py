"""Losses that treat the right class, the spread of the logits, or the teacher in a way of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._floats import narrowed, widened
from .._sums import total
from .._validate import FLOAT32, fresh, from_lists, not_negative, positive, rows
from ._divergences import documented
from ._double import Doubles, log
from ._rows import (
    WITHIN,
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
    as_int64,
    as_labels,
    counted,
    outside,
    owned,
    prepared,
    product,
    reduced,
    rounding,
    softmax,
    squared,
    weighed,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

MOST_TEACHERS = 64
"""Of the kernel."""


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


@overload
def standardized_kd_loss(student: Any, teacher: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def standardized_kd_loss(student: Any, teacher: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def standardized_kd_loss(
    student: Any, teacher: Any, *, temperature: Any = 2.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """KL between logits that were brought to mean 0 and deviation 1 in each row (Sun et al., 2024).

    With Z(x) = (x - mean(x))/std(x), std over V: ``T²·KL(softmax(Z(teacher)/T) ‖ softmax(Z(student)/T))``. The student
    need not match the teacher's shift and spread. A constant row has Z = 0 and no gradient.

    Parameters
    ----------
    {shared}
        A row with ``-inf`` has no deviation: NaN. In float64 one beyond 1e150 has none; one below 1e-150 is 0.

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Notes
    -----
    {bound}
    With 2⁻⁴⁴ for 2⁻⁴⁸, as deviations are rounded too, and T·std(student) for T in the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1, 2, 4]], np.float32)
    >>> standardized_kd_loss(x, 3 * x + 5) < 1e-15
    True
    """

    student = as_floats(student, "student")
    others = alike(student, teacher, "teacher")
    of = prepared(student, labels=None, mask=mask, weights=weights, ignore_index=None, reduction=reduction)
    return weighed("standardized_kl", of, [others], lambda part: (), student, temperature=temperature,
                   scale_by_t2=scale_by_t2, reduction=reduction, check_finite=check_finite, return_grad=return_grad)


@overload
def ensemble_kd_loss(student: Any, teachers: Any, *, teacher_weights: Any = ..., **options: Unpack[Alone]) -> Loss: ...
@overload
def ensemble_kd_loss(
    student: Any, teachers: Any, *, teacher_weights: Any = ..., **options: Unpack[WithGrad]
) -> Graded: ...
@documented
def ensemble_kd_loss(
    student: Any, teachers: Any, *, teacher_weights: Any = None, temperature: Any = 1.0, mask: Any = None,
    weights: Any = None, reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False,
    return_grad: bool = False,
) -> Result:
    """KL to the mean distribution of several teachers (You et al., 2017).

    ``T²·KL(Σ_e w_e·softmax(teacher_e/T) ‖ softmax(student/T))``.

    Parameters
    ----------
    teachers : sequence of arrays, each of the shape of ``student``
        At most 64.
    teacher_weights : sequence of numbers, optional
        w, at least 0, brought to the sum 1; equal by default.
        One of weight 0 is not looked at. A row that another masks whole counts nothing.
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

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0, -np.inf]], np.float32), np.array([[-np.inf, 0]], np.float32)
    >>> ensemble_kd_loss(np.zeros((1, 2), np.float32), [one, other]) < 1e-30
    True
    """
    student = as_floats(student, "student")
    given = [alike(student, t, f"teachers[{i}]") for i, t in enumerate(teachers)]
    if not given:
        raise ValueError("teachers is empty, expected at least one")
    if teacher_weights is None:
        teacher_weights = [1.0] * len(given)
    if np.ndim(teacher_weights) != 1:
        raise TypeError(f"teacher_weights is {teacher_weights!r}, expected a sequence of {len(given)} numbers")
    shares = [not_negative(w, f"teacher_weights[{i}]") for i, w in enumerate(teacher_weights)]
    if len(shares) != len(given) or not sum(shares) > 0:
        raise ValueError(f"teacher_weights is {teacher_weights}, expected {len(given)} numbers, not all 0")
    if len(given) > MOST_TEACHERS:
        raise ValueError(f"teachers holds {len(given)}, expected at most {MOST_TEACHERS}")
    of = prepared(student, labels=None, mask=mask, weights=weights, ignore_index=None, reduction=reduction)
    share = np.array(shares) / (1.0 if sum(shares) < np.inf else max(shares))  # of which the sum is finite
    share /= sum(share.tolist())
    given, share = [t for t, weight in zip(given, share, strict=True) if weight > 0], share[share > 0]
    return weighed("ensemble_kl", of, given, lambda part: (share,), student, temperature=temperature,
                   scale_by_t2=scale_by_t2, reduction=reduction, check_finite=check_finite, return_grad=return_grad,
                   stacked=True)


def _check_classes(at: Labels, classes: int) -> None:
    bad = at[(at < 0) | (at >= classes)]
    if bad.size:
        raise ValueError(f"indices holds {outside(bad[0], classes)}")
    ordered = np.sort(at, axis=1)
    twice = ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]]
    if twice.size:
        raise ValueError(f"indices holds a class twice in a row of k: {twice[0]}")


def _of_sum_one(known: NDArray[Any], kept: NDArray[np.bool_], first: int) -> Doubles:
    """Probabilities in float64, of rows from ``first`` on; where their sum is 1 but for rounding, such that the kernel
    finds no mass beside them."""
    p, k = owned(known), known.shape[1]
    within = rounding(known.dtype, k)
    with np.errstate(invalid="ignore"):
        sums = total(p)
        wrong = kept & ~((p >= 0).all(axis=1) & (sums <= 1.0 + max(WITHIN, within)))
        whole = kept & (sums >= 1.0 - within)
    if wrong.any():
        i = int(np.argmax(wrong))
        bad = p[i][~(p[i] >= 0)]
        raise ValueError("probabilities has a negative or NaN entry, or a row of sum above 1: row "
                         f"{first + i} {f'holds {bad[0]}' if bad.size else f'has sum {sums[i]}'}")
    # The kernel takes 1 - 2⁻⁴⁸ for 1, but its sums by lanes may lose k/16 roundings.
    p[whole] /= (sums[whole] * (1.0 - max(k / 16 - 8, 0.0) * 2.0**-53))[:, None]
    return p


@overload
def top_k_kd_loss(student: Any, probabilities: Any, indices: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def top_k_kd_loss(student: Any, probabilities: Any, indices: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def top_k_kd_loss(
    student: Any, probabilities: Any, indices: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """KL to a teacher of whom only the k largest probabilities are known, the rest of the mass as one more answer.

    With r = 1 - Σ p_j the teacher's mass outside and R = 1 - Σ q_j the student's:
    ``T²·(Σ_j p_j log(p_j/q_j) + r log(r/R))``, j over the k indices. At most the full KL, and equal to it for k = V.

    Parameters
    ----------
    probabilities : array of floats, shape (..., k)
        The teacher's, at the same temperature, in each row that counts; k at least 1. At least 0, of sum at most 1
        within 1e-3 or, if more, what rounding explains (see Notes).
    indices : array of integers, shape (..., k)
        Their classes, no two equal in a row that counts.
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
    (k + 8)·2⁻⁵³·|log(r/R)| is added to that of D, for the rounding of Σ p_j. r below 2⁻⁴⁸ counts as 0.

    r is what rounding leaves where Σ p_j should be 1, and then log(r/R) means nothing, up to infinity for k = V. So a
    sum of more than 1, or below it by no more than rounding explains, counts as 1: the row is divided by it and r is 0.
    That is (k + 8)·2⁻²⁴ (float64: 2⁻⁵³), and 2⁻⁸ more for bfloat16, 2⁻¹¹ + k·2⁻²⁵ for float16. r·log(r/R) for a true r
    below that is lost.

    Examples
    --------
    >>> import numpy as np
    >>> top_k_kd_loss(np.zeros((1, 4), np.float32), np.array([[0.25]], np.float32), np.array([[2]]))
    0.0
    """
    return top_k_loss(student, probabilities, indices, temperature=temperature, mask=mask, weights=weights,
                      reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


def top_k_loss(
    student: Any, probabilities: Any, indices: Any, *, temperature: Any, mask: Any, weights: Any, reduction: str,
    scale_by_t2: bool, return_grad: bool, check_finite: bool = False, first: int = 0,
) -> Result:
    """:func:`top_k_kd_loss` of rows that errors count from ``first`` on."""
    student, probabilities = as_floats(student, "student"), as_floats(probabilities, "probabilities")
    where = from_lists(indices, "indices", "integers")
    if where.dtype.kind not in "iu":
        raise TypeError(f"indices has dtype {where.dtype.name}, expected integers")
    if student.ndim == 0 or probabilities.shape[:-1] != student.shape[:-1] or where.shape != probabilities.shape:
        raise ValueError(f"student has shape {student.shape}, probabilities {probabilities.shape}, indices "
                         f"{where.shape}; expected (..., V), (..., k), (..., k)")
    k = where.shape[-1]
    if k == 0:
        raise ValueError(f"probabilities has shape {probabilities.shape}, expected (..., k) with k of at least 1")
    of = prepared(student, labels=None, mask=mask, weights=weights, ignore_index=None, reduction=reduction)
    at = np.where(of.kept[:, None], as_int64(where.reshape(-1, k)), 0)
    _check_classes(at[of.kept], student.shape[-1])
    p = _of_sum_one(probabilities.reshape(-1, k), of.kept, first)
    return weighed("top_k_kl", of, [], lambda part: (p[part], at[part]), student, temperature=temperature,
                   scale_by_t2=scale_by_t2, reduction=reduction, check_finite=check_finite, return_grad=return_grad)


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
