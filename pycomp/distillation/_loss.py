"""The distillation loss of Hinton, Vinyals and Dean (2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .._floats import widened
from .._validate import FLOAT32, choice, flag, fraction, rows
from ._double import Doubles
from ._rows import (
    Alone,
    Distance,
    Graded,
    Labels,
    Loss,
    Result,
    Rows,
    WithGrad,
    alike,
    apart,
    as_floats,
    by_kernel,
    check_not_empty,
    finished,
    prepared,
    product,
    reduced,
    squared,
    temperatures,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

LARGEST = float(np.finfo(np.float32).max)


@overload
def kd_loss(
    student: Any, teacher: Any, *, labels: Any = ..., alpha: float = ..., label_smoothing: float = ...,
    ignore_index: int | None = ..., on_empty: str = ..., **options: Unpack[Alone]
) -> Loss: ...
@overload
def kd_loss(
    student: Any, teacher: Any, *, labels: Any = ..., alpha: float = ..., label_smoothing: float = ...,
    ignore_index: int | None = ..., on_empty: str = ..., **options: Unpack[WithGrad]
) -> Graded: ...
def kd_loss(
    student: Any,
    teacher: Any,
    *,
    labels: Any = None,
    temperature: Any = 1.0,
    alpha: float = 0.5,
    label_smoothing: float = 0.0,
    mask: Any = None,
    weights: Any = None,
    ignore_index: int | None = None,
    reduction: str = "batchmean",
    scale_by_t2: bool = True,
    on_empty: str = "zeros",
    check_finite: bool = False,
    return_grad: bool = False,
) -> Result:
    """Distance of a student from its teacher, and from hard labels, with the gradient by the student's logits.

    The loss of row i of B, with p = softmax(teacher[i]/T), q = softmax(student[i]/T), T the temperature::

        KD[i] = T² · Σ_j p_j (log p_j - log q_j)               (without T² if scale_by_t2 is False)
        CE[i] = log Σ_j exp(student[i, j]) - Σ_j y_j student[i, j]
        loss[i] = alpha · KD[i] + (1 - alpha) · CE[i]          (KD[i] alone where no labels are given)

    where y is 1 for the label, or with ``label_smoothing`` ε, 1 - ε + ε/V for it and ε/V for the rest (Szegedy et al.,
    2016). T² keeps the gradient of KD of one size whatever the temperature (Hinton, Vinyals and Dean, *Distilling the
    Knowledge in a Neural Network*, 2015, §2.1). The hard labels see the student at temperature 1.

    With weights w, 1 by default, over the rows that count: ``reduction="batchmean"`` returns Σ w[i] loss[i] / B, B all
    rows; ``"mean"`` Σ w[i] loss[i] / Σ w[i]; ``"sum"`` Σ w[i] loss[i]; ``"none"`` the values w[i] loss[i], 0 where a
    row does not count. For rows of loss 1, 2, 6 of which the last is masked: 1, 1.5, 3 and [1, 2, 0].

    Parameters
    ----------
    student, teacher : array of float32, float16, bfloat16 or float64, shape (..., V)
        Logits; every leading index is a row, such as a token of a sequence. ``-inf`` is a masked entry: masked on both
        sides it counts for nothing; where the student masks what the teacher does not, the loss is infinite; but
        probabilities of 2**-149 or less (in float64 2**-996) may count as 0.
    labels : array of integers, shape (...), optional
        The right class of each row that counts, 0 to V - 1.
    temperature : float, or array of floats, shape (...)
        T, above 0 and finite; an array has one for each row.
    alpha : float
        Weight of the teacher, 0 to 1; not used without labels.
    label_smoothing : float
        ε, 0 to 1.
    mask : array of bool, shape (...), optional
        True where a row counts: its loss is else 0, and its gradient exactly 0.
    weights : array of floats, shape (...), optional
        Of the rows; at least 0.
    ignore_index : int, optional
        A label whose rows do not count.
    reduction : {"batchmean", "mean", "sum", "none"}
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
    loss : float, or array of float64 of shape (...) for ``reduction="none"``
    grad : array, shape and dtype of ``student``
        The derivative of the loss by ``student``; for ``"none"`` of each row's own loss. For float32 it is all the
        memory that the call takes beyond its inputs, but for parts that stay in the caches.

    Raises
    ------
    TypeError
        If logits are not floats in native byte order, or labels not integers.
    ValueError
        If shapes do not fit, a label or an option is out of range, or a row is refused as above.

    Notes
    -----
    Bounds, for T from 1e-3 to 1e4 and ``|teacher - student|/T`` within float32: KD is never negative, and its
    relative error is at most 2**-14 wherever its true value (T² included) is at least 1e-9: it is summed from terms
    of second order, not from differences of rounded logarithms. CE is within ``4u·max(1, CE)``, ``u = 2**-24``. Half
    types are widened exactly and their gradient is rounded once more. float64 is computed in float64, slower.

    Each element of the gradient is within ``8u·w·(alpha·T + 1 - alpha)`` absolutely, w the row's weight over B
    (``"batchmean"``), over Σ w (``"mean"``) or alone; alpha·T is T without labels, alpha/T if scale_by_t2 is False, and
    1 - alpha is 0 without labels. So near the optimum and at temperatures above about 100 few of its digits are right:
    where teacher and student differ by 1e-2 the largest error over the largest ``|grad|`` is of the order of 1e-5 at
    T = 1, 5e-4 at 100 and 5e-2 at 1e4. :func:`forward_kl_loss`, in float64 arithmetic, keeps them.

    The kernel reads each row of student and teacher twice: for the terms of both softmaxes, block by block over the
    largest element so far (they are kept in the gradient and a row of scratch), and for the divergence. With labels it
    reads the student's once more for CE, once for its gradient and once for label smoothing. Where a row rises by more
    than 64 octaves (powers of two of exp) from one block of 1024 to a later one, or lies so far off zero that
    ``|max|·log2(e)/T`` exceeds 2**17, both are read again, for their maxima and the terms.

    Examples
    --------
    >>> import numpy as np
    >>> student, teacher = np.array([[1, 2, 3]], np.float32), np.array([[1, 2, 4]], np.float32)
    >>> loss, grad = kd_loss(student, teacher, temperature=2.0, return_grad=True)
    >>> round(loss, 6), grad.round(4)
    (0.120667, array([[ 0.0922,  0.1519, -0.2441]], dtype=float32))
    """
    student, teacher = as_floats(student, "student"), as_floats(teacher, "teacher")
    if student.ndim == 0 or student.shape != teacher.shape:
        raise ValueError(f"student has shape {student.shape}, teacher has {teacher.shape}, expected both (..., V)")
    alpha = fraction(alpha, "alpha")
    smoothing = fraction(label_smoothing, "label_smoothing")
    scale_by_t2, return_grad = flag(scale_by_t2, "scale_by_t2"), flag(return_grad, "return_grad")
    choice(on_empty, "on_empty", ("zeros", "raise"))
    others = alike(student, teacher, "teacher")
    of = prepared(student, labels=labels, mask=mask, weights=weights, ignore_index=ignore_index, reduction=reduction)
    if on_empty == "raise":
        check_not_empty(of, others, "teacher")
    weight = 1.0 if labels is None else alpha
    if np.float64 in (student.dtype, teacher.dtype):
        return _in_double(student, others, of, temperature, weight, smoothing, reduction, scale_by_t2, check_finite,
                          return_grad)
    known, t = of.labels, temperatures(temperature, of.shape)
    soft, hard = weight * of.scale(t, scale_by_t2), (1.0 - weight) * of.scale(t, False)
    if return_grad and (step := np.maximum(soft / t, hard).max(initial=0.0)) > LARGEST:
        raise ValueError(f"the gradient may reach {step}, expected at most {LARGEST}, as it is float32: weights or "
                         "temperature are too far from 1")

    def operands(part: slice) -> tuple[Any, ...]:
        return None if known is None else known[part], t[part], soft[part], hard[part], smoothing

    losses, grad = by_kernel("kd_loss", of, [others], operands, check_finite=check_finite, return_grad=return_grad,
                             wide=FLOAT32)
    return finished(losses, grad, of, student, reduction)


def _in_double(
    student: NDArray[Any], logits: NDArray[Any], of: Rows, temperature: Any, alpha: float, smoothing: float,
    reduction: str, scale_by_t2: bool, check_finite: bool, return_grad: bool,
) -> Result:
    def rows_of(chosen: NDArray[np.int64]) -> tuple[Doubles]:
        return (rows(widened(logits[chosen], np.float64)),)

    def loss(s: Doubles, other: tuple[Doubles], temperature: Doubles, known: Labels | None) -> tuple[Doubles, Doubles]:
        (t,) = other
        # ``reduced`` would multiply the labels' part by T² as well.
        square = alpha * (squared(temperature) if scale_by_t2 else np.ones_like(temperature))
        value, grad = apart(Distance.FORWARD_KL, s, t, temperature)
        unknown = np.isnan(value)
        value, grad = product(square[:, 0], value), square * grad
        value[unknown] = np.nan
        if known is not None and alpha < 1.0:
            target = np.full(s.shape, smoothing / s.shape[1])
            target[np.arange(len(s)), known] += 1.0 - smoothing
            hard, slope = apart(Distance.CROSS_ENTROPY, s, target, np.ones_like(temperature))
            value, grad = value + (1.0 - alpha) * hard, grad + (1.0 - alpha) * slope
        return value, grad

    return reduced(loss, student, None, temperature=temperature, mask=None, weights=None, reduction=reduction,
                   scale_by_t2=False, check_finite=check_finite, return_grad=return_grad, teacher_rows=rows_of, of=of)
