"""What the row losses share: operands of any float type and shape, masks, weights, temperatures, reductions.

A loss is a function of a chunk of rows in float64; everything around it is here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._sums import total
from .._validate import FLOAT32, positive
from ._double import Doubles, exp, log

CHUNK = 1 << 18
"""Logits in float64 at a time: 2 MB an array."""
REDUCTIONS = ("batchmean", "mean", "sum", "none")

Labels = NDArray[np.int64]
RowLoss = Callable[[Doubles, Any, Doubles, Any], tuple[Doubles, Doubles]]
"""(student [b, V], teacher's part, temperature [b, 1], labels [b] or None) -> loss [b], gradient by the student."""
Result = float | NDArray[np.float64] | tuple[float | NDArray[np.float64], NDArray[Any]]


def as_floats(a: Any, name: str) -> NDArray[Any]:
    """``a`` as an array of float16, bfloat16, float32 or float64 in native byte order; never a copy."""
    if type(a) is np.ndarray and a.dtype is FLOAT32:
        return a
    if isinstance(a, (np.ma.MaskedArray, np.matrix)) or not (hasattr(a, "__array__") or hasattr(a, "__dlpack__")):
        raise TypeError(f"{name} is a {type(a).__name__}, expected an array of floats")
    array = np.asarray(a)
    known = (array.dtype.kind == "f" and array.dtype.itemsize <= 8) or array.dtype.name == "bfloat16"
    if not known or not array.dtype.isnative:
        order = "" if array.dtype.isnative else " (byte-swapped)"
        raise TypeError(f"{name} has dtype {array.dtype.name}{order}, "
                        "expected float32, float64, float16 or bfloat16")
    return array


def choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")
    return str(value)


def log_softmax(x: Doubles, temperature: Doubles) -> tuple[Doubles, Doubles]:
    """Logarithms of the probabilities of rows, -inf where a logit is; and the probabilities. No row is -inf alone."""
    z = (x - x.max(axis=1, keepdims=True)) / temperature
    e = exp(z)
    s = total(e)[:, None]
    return z - log(s), e / s


def through_softmax(q: Doubles, slope: Doubles, temperature: Doubles) -> Doubles:
    """The gradient by the logits of what has the gradient ``slope`` by q = softmax(logits / temperature)."""
    # Where q is 0 the slope may be infinite; such a logit has no share.
    by = np.where(q == 0, 0.0, slope)
    return q * (by - total(q * by)[:, None]) / temperature


def product(p: Doubles, x: Doubles) -> Doubles:
    """``p·x``, and 0 where p is 0 whatever x."""
    return np.where(p == 0, 0.0, p * np.where(p == 0, 0.0, x))


def vector(a: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(a)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array.reshape(-1)


def temperatures(temperature: Any, shape: tuple[int, ...]) -> Doubles:
    """One temperature a row, from a number or an array of the rows' shape."""
    if not np.ndim(temperature):
        return np.full(math.prod(shape), positive(temperature, "temperature"))
    t = vector(as_floats(temperature, "temperature"), "temperature", shape).astype(np.float64)
    if not (np.isfinite(t) & (t > 0)).all():
        raise ValueError(f"temperature holds {t[~(np.isfinite(t) & (t > 0))][0]}, expected finite numbers above 0")
    return t


def counted(mask: Any, labels: Labels | None, ignore_index: int | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which rows count: those that the mask keeps and whose label is not ``ignore_index``."""
    count = math.prod(shape)
    kept = np.ones(count, np.bool_)
    if mask is not None:
        mask = vector(mask, "mask", shape)
        if mask.dtype != np.bool_:
            raise TypeError(f"mask has dtype {mask.dtype.name}, expected bool: True where a row counts")
        kept &= mask
    if ignore_index is not None:
        if labels is None:
            raise ValueError("ignore_index is given without labels")
        kept &= labels != ignore_index
    return kept


def row_weights(weights: Any, shape: tuple[int, ...]) -> Doubles:
    if weights is None:
        return np.ones(math.prod(shape))
    w = vector(as_floats(weights, "weights"), "weights", shape).astype(np.float64)
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError(f"weights holds {w[~(np.isfinite(w) & (w >= 0))][0]}, expected finite numbers of at least 0")
    return w


def as_labels(labels: Any, shape: tuple[int, ...]) -> Labels:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels has dtype {array.dtype.name}, expected integers")
    return vector(array, "labels", shape).astype(np.int64)


def check_labels(labels: Labels, kept: NDArray[np.bool_], classes: int) -> None:
    bad = labels[kept & ((labels < 0) | (labels >= classes))]
    if bad.size:
        raise ValueError(f"labels holds {bad[0]}, expected 0 to {classes - 1}")


def divisor(reduction: str, weights: Doubles, kept: NDArray[np.bool_]) -> float:
    """By what the sum of the rows' losses is divided; all rows masked: by 1, the sum being 0."""
    if reduction == "mean":
        return float(total(np.where(kept, weights, 0.0))) or 1.0
    return float(len(kept) or 1) if reduction == "batchmean" else 1.0


def reduced(
    loss: RowLoss, student: Any, teacher: Any, *, temperature: Any, mask: Any, weights: Any, reduction: str,
    scale_by_t2: bool, check_finite: bool, return_grad: bool, labels: Any = None, ignore_index: int | None = None,
    teacher_rows: Callable[[NDArray[np.int64]], Any] | None = None,
) -> Result:
    """The loss over all rows, and its gradient if asked for.

    ``teacher`` has the student's shape; with ``teacher_rows`` it is not looked at: that gives the teacher's part of
    rows by their indices.
    """
    student = as_floats(student, "student")
    if student.ndim == 0:
        raise ValueError("student has no dimensions, expected at least one")
    shape, classes = student.shape[:-1], student.shape[-1]
    logits = student.reshape(-1, classes) if student.size else student.reshape(math.prod(shape), classes)
    if teacher_rows is None:
        teacher = as_floats(teacher, "teacher")
        if teacher.shape != student.shape:
            raise ValueError(f"student has shape {student.shape}, teacher has {teacher.shape}")
        others = teacher.reshape(logits.shape)

        def teacher_rows(rows: NDArray[np.int64]) -> Doubles:
            chosen: Doubles = others[rows].astype(np.float64)
            return chosen

    choice(reduction, "reduction", REDUCTIONS)
    t = temperatures(temperature, shape)
    known = None if labels is None else as_labels(labels, shape)
    kept = counted(mask, known, ignore_index, shape)
    if known is not None:
        check_labels(known, kept, classes)
    w = row_weights(weights, shape)
    scale = w * (t * t if scale_by_t2 else 1.0) / divisor(reduction, w, kept)
    losses = np.zeros(len(kept))
    grad = np.zeros(logits.shape, student.dtype) if return_grad else None
    step = max(1, CHUNK // max(classes, 1))
    counting = np.flatnonzero(kept)
    for first in range(0, len(counting) if classes else 0, step):
        rows = counting[first : first + step]
        s, other = logits[rows].astype(np.float64), teacher_rows(rows)
        unknown, empty = _not_finite(s), _all_masked(s)
        if isinstance(other, np.ndarray) and other.shape == s.shape:
            unknown, empty = unknown | _not_finite(other), empty | _all_masked(other)
        if check_finite and unknown.any():
            raise ValueError("student or teacher holds NaN or +inf")
        fine = ~(unknown | empty)
        losses[rows[unknown]] = np.nan
        if grad is not None:
            grad[rows[unknown]] = np.nan
        if not fine.any():
            continue
        rows = rows[fine]
        part = other[fine] if isinstance(other, np.ndarray) else tuple(a[fine] for a in other)
        with np.errstate(all="ignore"):
            value, slope = loss(s[fine], part, t[rows, None], None if known is None else known[rows])
            losses[rows] = value * scale[rows]
            if grad is not None:
                grad[rows] = slope * scale[rows, None]
    result: Any = losses.reshape(shape) if reduction == "none" else float(total(losses))
    return result if grad is None else (result, grad.reshape(student.shape))


def _not_finite(x: Doubles) -> NDArray[np.bool_]:
    return np.asarray(~(x < np.inf).all(axis=1))


def _all_masked(x: Doubles) -> NDArray[np.bool_]:
    return np.asarray((x == -np.inf).all(axis=1))
