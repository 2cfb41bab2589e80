"""The loss against a teacher of whom only the most probable classes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .._sums import total
from .._validate import from_lists
from ._documents import documented
from ._double import Doubles
from ._rows import (
    WITHIN,
    Alone,
    Graded,
    Labels,
    Loss,
    Result,
    WithGrad,
    as_floats,
    as_int64,
    outside,
    owned,
    prepared,
    rounding,
    weighed,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
