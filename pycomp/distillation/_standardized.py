"""The loss that does not see the shift and the spread of a row's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from ._documents import documented
from ._rows import Alone, Graded, Loss, Result, WithGrad, alike, as_floats, prepared, weighed

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
