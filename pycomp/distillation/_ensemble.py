"""The loss against several teachers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .._validate import not_negative, shown
from ._documents import documented
from ._rows import Alone, Graded, Loss, Result, WithGrad, alike, as_floats, prepared, weighed

if TYPE_CHECKING:
    from typing_extensions import Unpack

MOST_TEACHERS = 64
"""Of the kernel."""


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
        raise TypeError(f"teacher_weights is {shown(teacher_weights)}, expected a sequence of {len(given)} numbers")
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
