"""The distillation loss of Hinton, Vinyals and Dean (2015)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._floats import narrowed, widened
from .._runtime import get_num_threads
from .._validate import FLOAT32, choice, fraction, fresh, positive, rows
from ._double import Doubles
from ._rows import CHUNK, Distance, Labels, Result, alike, apart, as_floats, prepared, product, reduced, temperatures

LANES = 16
SHORT = 1 << 14
"""Elements for each thread that pay for a call of the kernel, whose threads share rows."""

Loss = float | NDArray[np.float64]


@overload
def kd_loss(
    student: Any,
    teacher: Any,
    *,
    labels: Any = ...,
    temperature: Any = ...,
    alpha: float = ...,
    label_smoothing: float = ...,
    mask: Any = ...,
    weights: Any = ...,
    ignore_index: int | None = ...,
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
    temperature: Any = ...,
    alpha: float = ...,
    label_smoothing: float = ...,
    mask: Any = ...,
    weights: Any = ...,
    ignore_index: int | None = ...,
    reduction: str = ...,
    scale_by_t2: bool = ...,
    on_empty: str = ...,
    check_finite: bool = ...,
    return_grad: Literal[True],
) -> tuple[Loss, NDArray[Any]]: ...


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
) -> Loss | tuple[Loss, NDArray[Any]]:
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
        If logits are not floats or labels not integers, in native byte order.
    ValueError
        If shapes do not fit, a label or an option is out of range, or a row is refused as above.

    Notes
    -----
    Bounds, for T from 1e-3 to 1e4 and ``|teacher - student|/T`` within float32: KD is never negative, and its
    relative error is at most 2**-14 wherever its true value (T² included) is at least 1e-9: it is summed from terms
    of second order, not from differences of rounded logarithms. CE is within ``4u·max(1, CE)``, the gradient within
    ``8u`` times ``alpha·T + (1 - alpha)`` (T without labels; divided by B for ``"batchmean"``, by T² if scale_by_t2
    is False; times the row's weight), ``u = 2**-24``. Half types are widened exactly and their gradient is rounded
    once more. float64 is computed in float64, slower.

    Passes of the kernel over a row: for its maximum, its terms and the divergence, with labels two more over the
    student's; all but the first find it in cache.

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
    if choice(on_empty, "on_empty", ("zeros", "raise")) == "raise":
        for a, name in ((student, "student"), (teacher, "teacher")):
            if bool((a == -np.inf).all(axis=-1).any()):
                raise ValueError(f"{name} has a row of -inf alone")
    if np.float64 in (student.dtype, teacher.dtype):
        return _in_double(student, teacher, labels, temperature, 1.0 if labels is None else alpha, smoothing, mask,
                          weights, ignore_index, reduction, scale_by_t2, check_finite, return_grad)
    return _by_kernel(student, teacher, labels, temperature, alpha, smoothing, mask, weights, ignore_index, reduction,
                      scale_by_t2, check_finite, return_grad)


def _by_kernel(
    student: NDArray[Any], teacher: NDArray[Any], labels: Any, temperature: Any, alpha: float, smoothing: float,
    mask: Any, weights: Any, ignore_index: int | None, reduction: str, scale_by_t2: bool, check_finite: bool,
    return_grad: bool,
) -> Result:
    of = prepared(student, labels=labels, mask=mask, weights=weights, ignore_index=ignore_index, reduction=reduction)
    count, classes = of.logits.shape
    sides, dtype = (of.logits, teacher.reshape(count, classes)), student.dtype
    known = of.labels
    scale = of.weights / of.divisor
    losses = np.zeros(count)
    grad = fresh((count, classes), dtype) if return_grad else None
    narrow = all(a.dtype == FLOAT32 for a in sides)
    if grad is not None and not of.kept.all():
        grad[~of.kept] = 0
    for value, part in _alike(temperature, of.kept, of.shape, classes, narrow):
        soft = (_square(value) if scale_by_t2 else 1.0) * (1.0 if known is None else alpha)
        s, t = (rows(widened(a[part], FLOAT32)) for a in sides)
        operands = (s, t, None if known is None else np.ascontiguousarray(known[part]), value)
        found = np.empty(len(s))
        if grad is None:
            dispatch.kd_loss_f32(*operands, soft, 1.0 - alpha, smoothing, found)
        else:
            direct = isinstance(part, slice) and dtype == FLOAT32
            slopes = grad[part] if direct else np.empty(s.shape, FLOAT32)
            dispatch.kd_loss_grad_f32(*operands, soft, 1.0 - alpha, smoothing, scale[part], found, slopes)
            if not direct:
                grad[part] = narrowed(slopes, dtype)
        losses[part] = found
    if check_finite and np.isnan(losses).any():
        raise ValueError("student or teacher holds NaN or +inf")
    losses *= of.weights
    loss: Any = losses.reshape(of.shape) if reduction == "none" else lane_sum(losses) / of.divisor
    if grad is None:
        return loss  # type: ignore[no-any-return]
    return loss, grad.reshape(student.shape)


def _square(temperature: float) -> float:
    if temperature > 1e150:
        raise ValueError(f"temperature is {temperature}, whose square is not finite: scale_by_t2=False leaves it out")
    return temperature * temperature


def _alike(
    temperature: Any, kept: NDArray[np.bool_], shape: tuple[int, ...], classes: int, narrow: bool
) -> Iterator[tuple[float, slice | NDArray[np.int64]]]:
    """The rows that count, by their temperature: slices, which cost no copy, or where these would be short, indices.

    What is copied, or widened because it is not ``narrow``, is so by parts that stay in the caches.
    """
    if narrow and not np.ndim(temperature) and kept.all():
        yield positive(temperature, "temperature"), slice(0, len(kept))
        return
    counting = np.flatnonzero(kept)
    if not np.ndim(temperature):
        groups = [(positive(temperature, "temperature"), counting)]
    else:
        each = temperatures(temperature, shape)
        counting = counting[np.argsort(each[counting], kind="stable")]
        cuts = np.flatnonzero(np.diff(each[counting])) + 1
        groups = [(float(each[part[0]]), part) for part in np.split(counting, cuts) if len(part)]
    for value, part in groups:
        runs = np.flatnonzero(np.diff(part) != 1) + 1
        if narrow and len(part) * classes >= len(runs) * SHORT * get_num_threads():
            ends = (0, *runs.tolist(), len(part))
            found = [part[first:last] for first, last in pairwise(ends) if first < last]
        else:
            step = max(CHUNK // max(classes, 1), 1)
            found = [part[first : first + step] for first in range(0, len(part), step)]
        for rows_of in found:
            first, last = int(rows_of[0]), int(rows_of[-1]) + 1
            yield value, slice(first, last) if last - first == len(rows_of) else rows_of


def _in_double(
    student: NDArray[Any], teacher: NDArray[Any], labels: Any, temperature: Any, alpha: float, smoothing: float,
    mask: Any, weights: Any, ignore_index: int | None, reduction: str, scale_by_t2: bool, check_finite: bool,
    return_grad: bool,
) -> Result:
    logits = alike(student, teacher, "teacher")

    def rows_of(chosen: NDArray[np.int64]) -> tuple[Doubles]:
        t: Doubles = rows(widened(logits[chosen], np.float64))
        if check_finite and not (t < np.inf).all():
            raise ValueError("student or teacher holds NaN or +inf")
        return (t,)

    def loss(s: Doubles, other: tuple[Doubles], temperature: Doubles, known: Labels | None) -> tuple[Doubles, Doubles]:
        (t,) = other
        # ``reduced`` would multiply the labels' part by T² as well.
        square = alpha * (temperature**2 if scale_by_t2 else np.ones_like(temperature))
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

    return reduced(loss, student, None, labels=labels, temperature=temperature, mask=mask, weights=weights,
                   ignore_index=ignore_index, reduction=reduction, scale_by_t2=False, check_finite=check_finite,
                   return_grad=return_grad, teacher_rows=rows_of)


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
