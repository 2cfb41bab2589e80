"""Distances between the distributions of a student and of its teacher, with exact gradients.

Of each row with p = softmax(teacher/T) and q = softmax(student/T). All of them work in float64 on operations that are
rounded exactly, so the bits are the same on every machine; :func:`kd_loss`, the one that training lives on, is a C
kernel. The logits of either side are read once, and the gradient is written once: what lies between works on chunks of
2 MB an array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._sums import total
from .._validate import fraction
from ._double import Doubles, exp, expm1, log, log1p
from ._rows import Labels, Result, as_floats, log_softmax, product, reduced, through_softmax

_SHARED = """
    student, teacher : array of float32, float64, float16 or bfloat16, shape (..., V)
        Logits; every leading index is a row. ``-inf`` is a masked entry: masked on both sides it counts for nothing.
    temperature : number or array of floats, shape (...)
        T, above 0 and finite; an array has one for each row.
    mask : array of bool, shape (...), optional
        True where a row counts.
    weights : array of floats, shape (...), optional
        Of the rows; at least 0.
    reduction : {"batchmean", "mean", "sum", "none"}
        ``"batchmean"``: the sum over the number of all rows. ``"mean"``: the sum over the sum of the weights of those
        that count. Neither divides by V. Where no row counts the loss is 0.
    scale_by_t2 : bool
        Multiply by T², which keeps gradients of one size (Hinton et al., 2015, §2.1).
    check_finite : bool
        Raise where a row that counts holds NaN or ``+inf``, instead of NaN for that row.
    return_grad : bool
        Return ``(loss, grad)``."""
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


def documented(function: Any) -> Any:
    """Fills the parts of a docstring that all row losses share."""
    text = function.__doc__
    for name, part in (("{shared}", _SHARED), ("{returns}", _RETURNS), ("{raises}", _RAISES)):
        text = text.replace(f"\n    {name}", part)
    function.__doc__ = text
    return function


def kl_terms(log_p: Doubles, p: Doubles, log_q: Doubles, q: Doubles) -> Doubles:
    """p·(d + expm1(-d)), d = log p - log q: of second order, never negative, and of sum KL where p and q have sum 1."""
    d = log_p - log_q
    return np.where(p == 0, q, p * (d + expm1(-d)))


def divergence(log_p: Doubles, p: Doubles, log_q: Doubles, q: Doubles) -> Doubles:
    """KL(p‖q) of rows."""
    return total(kl_terms(log_p, p, log_q, q))


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
    Relative error at most 2⁻¹⁴ wherever the loss is at least 1e-9, and never negative. Infinite where the student masks
    what the teacher does not. Workspace: chunks of 2 MB an array.

    Examples
    --------
    >>> import numpy as np
    >>> forward_kl_loss(np.zeros((1, 2), np.float32), np.array([[0, -np.inf]], np.float32)) == float(np.log(2))
    True
    """

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        (log_q, q), (log_p, p) = log_softmax(s, temperature), log_softmax(t, temperature)
        return divergence(log_p, p, log_q, q), (q - p) / temperature

    return reduced(loss, student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


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

    Examples
    --------
    >>> import numpy as np
    >>> reverse_kl_loss(np.array([[0, -np.inf]], np.float32), np.zeros((1, 2), np.float32)) == float(np.log(2))
    True
    """

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        (log_q, q), (log_p, p) = log_softmax(s, temperature), log_softmax(t, temperature)
        return divergence(log_q, q, log_p, p), through_softmax(q, log_q - log_p, temperature)

    return reduced(loss, student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


def _mixed(log_p: Doubles, p: Doubles, log_q: Doubles, q: Doubles, share: float) -> tuple[Doubles, Doubles]:
    """The mixture share·p + (1 - share)·q, and its logarithm; neither loses what is small beside the other."""
    high, low = np.maximum(log_p, log_q), np.minimum(log_p, log_q)
    near, far = np.where(log_p >= log_q, share, 1 - share), np.where(log_p >= log_q, 1 - share, share)
    log_m = high + log(near + far * exp(np.where(low == -np.inf, -np.inf, low - high)))
    return np.where(high == -np.inf, -np.inf, log_m), share * p + (1 - share) * q


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
        0 to 1.
    scaled : bool
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0, -np.inf]], np.float32), np.array([[-np.inf, 0]], np.float32)
    >>> jsd_loss(one, other) == float(np.log(2))
    True
    """
    beta = fraction(beta, "beta")
    if beta in (0.0, 1.0):
        end = forward_kl_loss if beta == 0 else reverse_kl_loss
        found: Result = end(student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                            scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)
        return found
    factor = 1 / (beta * (1 - beta)) if scaled else 1.0

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        (log_q, q), (log_p, p) = log_softmax(s, temperature), log_softmax(t, temperature)
        log_m, m = _mixed(log_p, p, log_q, q, beta)
        value = beta * divergence(log_p, p, log_m, m) + (1 - beta) * divergence(log_q, q, log_m, m)
        return factor * value, through_softmax(q, factor * (1 - beta) * (log_q - log_m), temperature)

    return reduced(loss, student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


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
        0 to 1; 0 is KL(p‖q), or KL(q‖p) in reverse.
    reverse : bool
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0, -np.inf]], np.float32), np.array([[-np.inf, 0]], np.float32)
    >>> skew_kl_loss(one, other, skew=0.5) == float(np.log(2))
    True
    """
    skew = fraction(skew, "skew")

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        (log_q, q), (log_p, p) = log_softmax(s, temperature), log_softmax(t, temperature)
        if reverse:
            log_m, m = _mixed(log_q, q, log_p, p, skew)
            slope = log_q - log_m - skew * exp(log_q - log_m)
            return divergence(log_q, q, log_m, m), through_softmax(q, slope, temperature)
        log_m, m = _mixed(log_p, p, log_q, q, skew)
        slope = -(1 - skew) * exp(np.where(p == 0, -np.inf, log_p - log_m))
        return divergence(log_p, p, log_m, m), through_softmax(q, slope, temperature)

    return reduced(loss, student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


@documented
def total_variation_loss(
    student: Any, teacher: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Total variation, ``T²·½·Σ_j |p_j - q_j|`` (Wen et al., f-DISTILL, 2023); where p_j = q_j the slope is 0.

    Parameters
    ----------
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> total_variation_loss(np.zeros((1, 2), np.float32), np.array([[0, -np.inf]], np.float32))
    0.5
    """

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        (_, q), (_, p) = log_softmax(s, temperature), log_softmax(t, temperature)
        return 0.5 * total(np.abs(p - q)), through_softmax(q, 0.5 * np.sign(q - p), temperature)

    return reduced(loss, student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)


@documented
def soft_cross_entropy(
    student: Any, targets: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = False, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Cross entropy against given probabilities: ``-Σ_j targets_j · log softmax(student/T)_j``.

    The targets may come from anywhere: a teacher's softmax, label smoothing, mixup.

    Parameters
    ----------
    targets : array of floats, shape (..., V)
        Probabilities in each row that counts: at least 0, of sum 1 within 1e-3.
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> soft_cross_entropy(np.zeros((1, 2), np.float32), np.array([[0.25, 0.75]], np.float32)) == float(np.log(2))
    True
    """
    student, targets = as_floats(student, "student"), as_floats(targets, "targets")
    if targets.shape != student.shape:
        raise ValueError(f"student has shape {student.shape}, targets has {targets.shape}")
    given = targets.reshape(-1, targets.shape[-1]) if targets.size else targets

    def probabilities(rows: Any) -> tuple[Doubles]:
        p = given[rows].astype(np.float64)
        sums = total(p)
        if not ((p >= 0).all() and (np.abs(sums - 1) <= 1e-3).all()):
            off = sums[np.abs(sums - 1) > 1e-3]
            wrong = "a negative or NaN entry" if not (p >= 0).all() else f"a row of sum {off[0]}"
            raise ValueError(f"targets has {wrong}, expected probabilities")
        return (p,)

    def loss(
        s: Doubles, other: tuple[Doubles], temperature: Doubles, no_labels: Labels | None
    ) -> tuple[Doubles, Doubles]:
        (p,), (log_q, q) = other, log_softmax(s, temperature)
        return -total(product(p, log_q)), (q * total(p)[:, None] - p) / temperature

    return reduced(loss, student, None, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad,
                   teacher_rows=probabilities)


@documented
def logit_mse_loss(
    student: Any, teacher: Any, *, mask: Any = None, weights: Any = None, reduction: str = "batchmean",
    check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Mean squared difference of the logits themselves: ``Σ_j (student_j - teacher_j)² / V`` (Ba and Caruana, 2014).

    Parameters
    ----------
    {shared}
        ``temperature`` and ``scale_by_t2`` do not apply; ``-inf`` on both sides counts for nothing.

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> logit_mse_loss(np.array([[1, 2]], np.float32), np.array([[1, 4]], np.float32), return_grad=True)
    (2.0, array([[ 0., -2.]], dtype=float32))
    """

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        difference = np.where(s == t, 0.0, s - t)
        return total(difference * difference) / s.shape[1], 2.0 * difference / s.shape[1]

    return reduced(loss, student, teacher, temperature=1.0, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=False, check_finite=check_finite, return_grad=return_grad)


def _log_sigmoid(z: Doubles) -> Doubles:
    """log σ(z) = min(z, 0) - log(1 + e^-|z|)."""
    return np.minimum(z, 0.0) - log1p(exp(-np.abs(z)))


@documented
def binary_kd_loss(
    student: Any, teacher: Any, *, temperature: Any = 1.0, mask: Any = None, weights: Any = None,
    reduction: str = "batchmean", scale_by_t2: bool = True, check_finite: bool = False, return_grad: bool = False,
) -> Result:
    """Distillation of V independent yes-or-no answers, as multi-label models give them (Yang et al., 2023, MLD).

    ``T²·Σ_j KL(σ(teacher_j/T) ‖ σ(student_j/T))``, σ the logistic function; the gradient is ``T·(σ(student/T) -
    σ(teacher/T))``.

    Parameters
    ----------
    {shared}

    Returns
    -------
    {returns}

    Raises
    ------
    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> binary_kd_loss(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), return_grad=True)
    (0.0, array([[0., 0., 0.]], dtype=float32))
    """

    def loss(s: Doubles, t: Doubles, temperature: Doubles, no_labels: Labels | None) -> tuple[Doubles, Doubles]:
        both = []
        for sign in (1.0, -1.0):
            log_q, log_p = _log_sigmoid(sign * s / temperature), _log_sigmoid(sign * t / temperature)
            both.append((log_p, exp(log_p), log_q, exp(log_q)))
        value = total(np.concatenate([kl_terms(*answer) for answer in both], axis=1))
        return value, (both[0][3] - both[0][1]) / temperature

    return reduced(loss, student, teacher, temperature=temperature, mask=mask, weights=weights, reduction=reduction,
                   scale_by_t2=scale_by_t2, check_finite=check_finite, return_grad=return_grad)
