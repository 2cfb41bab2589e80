"""Distances between the distributions of a student and of its teacher, with exact gradients.

Of each row with p = softmax(teacher/T) and q = softmax(student/T). All are one kernel in float64, ``divergence``; the
bits are the same on every machine. :func:`kd_loss` gives KL(p‖q) in float32 arithmetic, faster and with a wider
bound.

Bounds, before weights and reduction and for T from 1e-3 to 1e4: a divergence is never negative, and within 2⁻²⁸
relative where T² times it is at least 1e-9, since it is summed from terms of second order in log p - log q, which
rounding moves by 2⁻⁴⁸·√distance besides: at T of 1e4 more than the former. Total variation and cross entropy are within
2⁻²⁸ relative or 2⁻⁴⁸ absolute. Each element of the gradient is within 2⁻²⁸ relative, or 2⁻³⁰·max(1, distance)/T
absolute, and rounded once to the student's type. Probabilities below e⁻⁶⁹⁰ of a row's largest count as 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from .._sums import total
from .._validate import flag, fraction
from ._documents import documented
from ._double import Doubles, log
from ._rows import (
    Alone,
    Distance,
    Graded,
    Loss,
    Result,
    Weighing,
    WithGrad,
    as_floats,
    measured,
    reduced,
    softmax,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

LEAST_SHARE = 1e-30
"""Of either side in a mixture: the kernel takes no less."""
LEAST_SCALED_SHARE = 2.0**-20
"""From it on the gradient is the kernel's, which loses 2⁻⁵⁰/beta."""


def _share(value: Any, name: str) -> float:
    share = fraction(value, name)
    if 0 < share < LEAST_SHARE or share == 1:
        raise ValueError(f"{name} is {value!r}, expected 0, or a number from {LEAST_SHARE} to below 1")
    return share


@overload
def forward_kl_loss(student: Any, teacher: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def forward_kl_loss(student: Any, teacher: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def forward_kl_loss(
    student: Any, teacher: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """KL(p‖q): what :func:`kd_loss` takes without labels, for any float type, shape and mask.

    ``T²·Σ_j p_j (log p_j - log q_j)``; its gradient by the student is ``T·(q - p)``.

    Parameters
    ----------
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
    :func:`kd_loss` is within 2⁻¹⁴, in half the time. Infinite where the student masks what the teacher does not.

    Examples
    --------
    >>> import numpy as np
    >>> forward_kl_loss(np.zeros((1, 2), np.float32), np.array([[0, -np.inf]], np.float32)) == float(np.log(2))
    True
    """
    return measured(Distance.FORWARD_KL, student, teacher, temperature=temperature, mask=mask, weights=weights,
                    reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


@overload
def reverse_kl_loss(student: Any, teacher: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def reverse_kl_loss(student: Any, teacher: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def reverse_kl_loss(
    student: Any, teacher: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """KL(q‖p), which a student minimises by keeping to the teacher's modes (Gu et al., MiniLLM, 2024).

    ``T²·Σ_j q_j (log q_j - log p_j)``. Infinite where the teacher masks what the student does not.

    Parameters
    ----------
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
    Where the loss is infinite the gradient of its row has no meaning: it may be infinite or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> reverse_kl_loss(np.array([[0, -np.inf]], np.float32), np.zeros((1, 2), np.float32)) == float(np.log(2))
    True
    """
    return measured(Distance.REVERSE_KL, student, teacher, temperature=temperature, mask=mask, weights=weights,
                    reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


@overload
def jsd_loss(
    student: Any, teacher: Any, *, beta: float = ..., scaled: bool = ..., **options: Unpack[Alone]
) -> Loss: ...
@overload
def jsd_loss(
    student: Any, teacher: Any, *, beta: float = ..., scaled: bool = ..., **options: Unpack[WithGrad]
) -> Graded: ...
@documented
def jsd_loss(
    student: Any, teacher: Any, *, beta: float = 0.5, scaled: bool = False, temperature: Any = 1.0, mask: Any = None,
    weights: Any = None, reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False,
    return_grad: bool = False,
) -> Result:
    """The generalised Jensen-Shannon divergence (Agarwal et al., GKD, 2024).

    With m = beta·p + (1 - beta)·q: ``T²·(beta·KL(p‖m) + (1 - beta)·KL(q‖m))``. Two conventions differ at the ends,
    where that formula is 0: by default beta = 0 gives KL(p‖q) and beta = 1 gives KL(q‖p), as implementations of GKD
    do; with ``scaled`` all is divided by beta·(1 - beta), and tends to the same two as beta goes there.

    Parameters
    ----------
    beta : float
        0, 1, or from 1e-30 to 1.
    scaled : bool
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

    ``scaled``, the loss is within 2⁻²⁸ relative or 2⁻⁴⁸·T·√loss + 2⁻¹⁰⁴·T²/(beta·(1 - beta)) absolute, and the
    gradient, below beta = 2⁻²⁰ from a formula of its own, in NumPy, within 2⁻²⁸ relative or 2⁻³⁰·max(1, loss)/T
    absolute. Both tend to those of KL(p‖q) as beta does to 0, being off by about beta·max_j p_j/q_j relative; where the
    student masks what the teacher does not, KL is infinite and the loss is not.

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0, -np.inf]], np.float32), np.array([[-np.inf, 0]], np.float32)
    >>> round(jsd_loss(one, other), 6)  # log 2
    0.693147
    """
    beta = 1.0 if fraction(beta, "beta") == 1 else _share(beta, "beta")
    scaled, return_grad = flag(scaled, "scaled"), flag(return_grad, "return_grad")
    factor = 1 / (beta * (1 - beta)) if scaled and 0 < beta < 1 else 1.0
    distance = {0.0: Distance.FORWARD_KL, 1.0: Distance.REVERSE_KL}.get(beta, Distance.JSD)
    options: dict[str, Any] = {"temperature": temperature, "mask": mask, "weights": weights, "reduction": reduction,
                               "scale_by_t2": scale_by_t2, "check_finite": check_finite}
    apart = return_grad and scaled and 0 < beta < LEAST_SCALED_SHARE
    found = measured(distance, student, teacher, share=beta, factor=factor, return_grad=return_grad and not apart,
                     **options)
    if not apart:
        return found

    def slope(s: Doubles, t: Doubles, temperature: Doubles, _: Any) -> tuple[Doubles, Doubles]:
        q, p = softmax(s, temperature), softmax(t, temperature)
        return np.zeros(len(s)), _slope_of_small_share(q, p, beta, temperature)

    _, grad = reduced(slope, student, teacher, return_grad=True, **options)  # type: ignore[misc]
    return found, grad  # type: ignore[return-value]


def _slope_of_small_share(q: Doubles, p: Doubles, beta: float, temperature: Doubles) -> Doubles:
    """Of JSD/(beta·(1 - beta)): q·(Σ q h - h)/T with h = log(m/q)/beta, where the logarithm of m/q near 1 loses h.

    log(1 + v) is v·(log w/(w - 1)), w the rounded 1 + v (Kahan): what w loses is in both.
    """
    v = beta * (p / np.where(q > 0, q, 1.0) - 1.0)
    w = 1.0 + v
    near = (p - q) * np.where(w == 1, 1.0, log(w) / np.where(w == 1, 1.0, w - 1.0))
    pull = np.where(q > 0, np.where(v < 1, near, q * log(w) / beta), 0.0)
    slope: Doubles = (q * total(pull)[:, None] - pull) / temperature
    return slope


@overload
def skew_kl_loss(
    student: Any, teacher: Any, *, skew: float = ..., reverse: bool = ..., **options: Unpack[Alone]
) -> Loss: ...
@overload
def skew_kl_loss(
    student: Any, teacher: Any, *, skew: float = ..., reverse: bool = ..., **options: Unpack[WithGrad]
) -> Graded: ...
@documented
def skew_kl_loss(
    student: Any, teacher: Any, *, skew: float = 0.1, reverse: bool = False, temperature: Any = 1.0, mask: Any = None,
    weights: Any = None, reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False,
    return_grad: bool = False,
) -> Result:
    """KL to a mixture with what it starts from, which is never infinite (Ko et al., DistiLLM, 2024).

    ``T²·KL(p ‖ skew·p + (1 - skew)·q)``, or in ``reverse`` ``T²·KL(q ‖ skew·q + (1 - skew)·p)``.

    Parameters
    ----------
    skew : float
        0, which is KL(p‖q), or KL(q‖p) in reverse; or from 1e-30 to below 1, where it would be 0.
    reverse : bool
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
    >>> round(skew_kl_loss(one, other, skew=0.5), 6)  # log 2
    0.693147
    """
    skew = _share(skew, "skew")
    reverse = flag(reverse, "reverse")
    kinds = (Distance.REVERSE_KL, Distance.REVERSE_SKEW_KL) if reverse else (Distance.FORWARD_KL, Distance.SKEW_KL)
    return measured(kinds[skew > 0], student, teacher, share=skew, temperature=temperature, mask=mask,
                    weights=weights, reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite,
                    return_grad=return_grad)


@overload
def total_variation_loss(student: Any, teacher: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def total_variation_loss(student: Any, teacher: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def total_variation_loss(
    student: Any, teacher: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Total variation, ``T²·½·Σ_j |p_j - q_j|`` (Wen et al., f-DISTILL, 2023).

    Where p_j = q_j the slope is 0; where they differ by less than 2⁻⁴⁰ relative it may be that of either sign.

    Parameters
    ----------
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Notes
    -----
    {bound of first order}
    A class whose p_j and q_j differ by no more than 2⁻⁴⁰ relative adds q_j·(1 + q_j)/T to the bound of its element of
    the gradient, and q_j·q_l/T to that of each other.

    Examples
    --------
    >>> import numpy as np
    >>> total_variation_loss(np.zeros((1, 2), np.float32), np.array([[0, -np.inf]], np.float32))
    0.5
    """
    return measured(Distance.TOTAL_VARIATION, student, teacher, temperature=temperature, mask=mask, weights=weights,
                    reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


@overload
def soft_cross_entropy(student: Any, targets: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def soft_cross_entropy(student: Any, targets: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def soft_cross_entropy(
    student: Any, targets: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = False, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Cross entropy against given probabilities: ``-Σ_j targets_j · log softmax(student/T)_j``.

    The targets may come from anywhere: a teacher's softmax, label smoothing, mixup. They need not have been made at the
    student's temperature, so unlike the other losses it is not multiplied by T² by default: set ``scale_by_t2=True``
    for targets that are a teacher's softmax at T.

    Parameters
    ----------
    targets : array of floats, shape (..., V)
        Probabilities in each row that counts: at least 0, of sum 1 within 1e-3 or, if more, what the rounding of their
        type explains: (V + 8)·2⁻²⁴ (float64: 2⁻⁵³), and 2⁻⁸ more for bfloat16, 2⁻¹¹ + V·2⁻²⁵ for float16.
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Notes
    -----
    {bound of first order}

    Examples
    --------
    >>> import numpy as np
    >>> soft_cross_entropy(np.zeros((1, 2), np.float32), np.array([[0.25, 0.75]], np.float32)) == float(np.log(2))
    True
    """
    return measured(Distance.CROSS_ENTROPY, student, targets, temperature=temperature, mask=mask, weights=weights,
                    reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


@overload
def logit_mse_loss(
    student: Any, teacher: Any, *, return_grad: Literal[False] = ..., **options: Unpack[Weighing]
) -> Loss: ...
@overload
def logit_mse_loss(
    student: Any, teacher: Any, *, return_grad: Literal[True], **options: Unpack[Weighing]
) -> Graded: ...
@documented
def logit_mse_loss(
    student: Any, teacher: Any, *, mask: Any = None, weights: Any = None, reduction: str = "batchmean",
    check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Mean squared difference of the logits themselves: ``Σ_j (student_j - teacher_j)² / V`` (Ba and Caruana, 2014).

    This alone is divided by V. ``-inf`` on one side alone is infinite.

    Parameters
    ----------
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Notes
    -----
    The loss of a row is within 2⁻²⁸ relative where no square leaves the range of float64. Each element of the gradient
    is within 2⁻²⁸ relative, and rounded once to the student's type.

    Examples
    --------
    >>> import numpy as np
    >>> logit_mse_loss(np.array([[1, 2]], np.float32), np.array([[1, 4]], np.float32), return_grad=True)
    (2.0, array([[ 0., -2.]], dtype=float32))
    """
    student = as_floats(student, "student")
    classes = student.shape[-1] if student.ndim else 1
    return measured(Distance.SQUARED_LOGITS, student, teacher, factor=1.0 / max(classes, 1), temperature=1.0, mask=mask,
                    weights=weights, reduction=reduction, scale_by_t2=False, check_finite=check_finite,
                    return_grad=return_grad)


@overload
def binary_kd_loss(student: Any, teacher: Any, **options: Unpack[Alone]) -> Loss: ...
@overload
def binary_kd_loss(student: Any, teacher: Any, **options: Unpack[WithGrad]) -> Graded: ...
@documented
def binary_kd_loss(
    student: Any, teacher: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Distillation of V independent yes-or-no answers, as multi-label models give them (Yang et al., 2023, MLD).

    ``T²·Σ_j KL(σ(teacher_j/T) ‖ σ(student_j/T))``, σ the logistic function; the gradient is ``T·(σ(student/T) -
    σ(teacher/T))``. ``-inf`` is a no.

    Parameters
    ----------
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
    >>> binary_kd_loss(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), return_grad=True)
    (0.0, array([[0., 0., 0.]], dtype=float32))
    """
    return measured(Distance.BINARY_KL, student, teacher, temperature=temperature, mask=mask, weights=weights,
                    reduction=reduction, scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)
