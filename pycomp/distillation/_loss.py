"""The distillation loss of Hinton, Vinyals and Dean (2015)."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._validate import FLOAT32, as_array, fraction, optional_vector, positive, rows

LANES = 16
INT64 = np.dtype(np.int64)
REDUCTIONS = ("batchmean", "sum", "none")

Loss = float | NDArray[np.float64]


@overload
def kd_loss(
    student: Any,
    teacher: Any,
    *,
    labels: Any = ...,
    temperature: float = ...,
    alpha: float = ...,
    reduction: str = ...,
    scale_by_t2: bool = ...,
    on_empty: str = ...,
    check_finite: bool = ...,
    return_grad: Literal[False] = ...,
) -> Loss: ...


@overload
def kd_loss(
    student: Any,
    teacher: Any,
    *,
    labels: Any = ...,
    temperature: float = ...,
    alpha: float = ...,
    reduction: str = ...,
    scale_by_t2: bool = ...,
    on_empty: str = ...,
    check_finite: bool = ...,
    return_grad: Literal[True],
) -> tuple[Loss, NDArray[np.float32]]: ...


def kd_loss(
    student: Any,
    teacher: Any,
    *,
    labels: Any = None,
    temperature: float = 1.0,
    alpha: float = 0.5,
    reduction: str = "batchmean",
    scale_by_t2: bool = True,
    on_empty: str = "zeros",
    check_finite: bool = False,
    return_grad: bool = False,
) -> Loss | tuple[Loss, NDArray[np.float32]]:
    """Distance of a student from its teacher, and from hard labels, with the gradient by the student's logits.

    The loss of row i of B, with p = softmax(teacher[i]/T), q = softmax(student[i]/T), T the temperature::

        KD[i] = T² · Σ_j p_j (log p_j - log q_j)               (without T² if scale_by_t2 is False)
        CE[i] = log Σ_j exp(student[i, j]) - student[i, labels[i]]
        loss[i] = alpha · KD[i] + (1 - alpha) · CE[i]          (KD[i] alone where no labels are given)

    ``reduction="batchmean"`` returns Σ loss[i] / B, ``"sum"`` Σ loss[i], ``"none"`` the B values. T² keeps the gradient
    of KD of one size whatever the temperature (Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural
    Network*, 2015, §2.1). The hard labels see the student at temperature 1.

    Parameters
    ----------
    student, teacher : array of float32, shape (B, V)
        Logits. ``-inf`` is a masked entry: masked on both sides it counts for nothing; where the student masks what the
        teacher does not, the loss is infinite.
    labels : array of int64, shape (B,), optional
        The right class of each row, 0 to V - 1.
    temperature : float
        T, above 0 and finite.
    alpha : float
        Weight of the teacher, 0 to 1; not used without labels.
    reduction : {"batchmean", "sum", "none"}
    scale_by_t2 : bool
    on_empty : {"zeros", "raise"}
        A row that is masked altogether on one side counts for nothing in KD (the student's, in CE either), or is a
        ValueError.
    check_finite : bool
        Raise where a side holds NaN or ``+inf``, instead of NaN for that row.
    return_grad : bool
        Return ``(loss, grad)``.

    Returns
    -------
    loss : float, or array of float64 of shape (B,) for ``reduction="none"``
    grad : array of float32, shape (B, V)
        The derivative of the loss by ``student``; for ``"none"`` of each row's own loss. It is all the memory that the
        call takes beyond its inputs.

    Raises
    ------
    TypeError
        If logits are not float32 or labels not int64, in native byte order.
    ValueError
        If shapes do not fit, a label or an option is out of range, or a row is refused as above.

    Notes
    -----
    Bounds: KD is never negative, and its relative error is at most 2**-14 wherever its true value (T² included) is at
    least 1e-9: it is summed from terms of second order, not from differences of rounded logarithms. CE is
    within ``4u·max(1, CE)``, the gradient within ``8u`` times ``alpha·T + (1 - alpha)`` (T without labels; divided by B
    for ``"batchmean"``, by T² if scale_by_t2 is False), ``u = 2**-24``.

    Examples
    --------
    >>> import numpy as np
    >>> student, teacher = np.array([[1, 2, 3]], np.float32), np.array([[1, 2, 4]], np.float32)
    >>> loss, grad = kd_loss(student, teacher, temperature=2.0, return_grad=True)
    >>> round(loss, 6), grad.round(4)
    (0.120667, array([[ 0.0922,  0.1519, -0.2441]], dtype=float32))
    """
    student, teacher = (as_array(a, name, FLOAT32, 2) for a, name in ((student, "student"), (teacher, "teacher")))
    if student.shape != teacher.shape:
        raise ValueError(f"student has shape {student.shape}, teacher has {teacher.shape}")
    labels = _labels(labels, *student.shape)
    temperature = positive(temperature, "temperature")
    alpha = fraction(alpha, "alpha")
    for value, name, choices in ((reduction, "reduction", REDUCTIONS), (on_empty, "on_empty", ("zeros", "raise"))):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")
    student, teacher = rows(student), rows(teacher)
    if on_empty == "raise":
        for a, name in ((student, "student"), (teacher, "teacher")):
            if bool((a.max(axis=1, initial=-np.inf) == -np.inf).any()):
                raise ValueError(f"{name} has a row of -inf alone")

    count = student.shape[0]
    soft = (temperature**2 if scale_by_t2 else 1.0) * (1.0 if labels is None else alpha)
    scale = 1.0 / count if reduction == "batchmean" and count else 1.0
    losses = np.empty(count)
    grad = np.empty(student.shape, FLOAT32) if return_grad else None
    if grad is None:
        dispatch.kd_loss_f32(student, teacher, labels, temperature, soft, 1.0 - alpha, losses)
    else:
        dispatch.kd_loss_grad_f32(student, teacher, labels, temperature, soft, 1.0 - alpha, scale, losses, grad)
    if check_finite and np.isnan(losses).any():
        raise ValueError("student or teacher holds NaN or +inf")
    loss = losses if reduction == "none" else lane_sum(losses) * scale
    return loss if grad is None else (loss, grad)


def _labels(labels: Any, count: int, classes: int) -> NDArray[np.int64] | None:
    vector = optional_vector(labels, "labels", count, INT64)
    if vector is not None and count and not 0 <= vector.min() <= vector.max() < classes:
        raise ValueError(f"labels has values from {vector.min()} to {vector.max()}, expected 0 to {classes - 1}")
    return vector


def lane_sum(values: NDArray[np.float64]) -> float:
    """Sum by the lane rule: element i to lane i mod 16, each lane in ascending i, then lanes j + (j+8), 4, 2, 1.

    ``accumulate`` and not ``sum``: its order is defined.
    """
    lanes = np.zeros((-(-values.size // LANES) + 1, LANES))
    lanes[1:].reshape(-1)[: values.size] = values
    total = np.add.accumulate(lanes, axis=0)[-1]
    while total.size > 1:
        total = total[: total.size // 2] + total[total.size // 2 :]
    return float(total[0])
