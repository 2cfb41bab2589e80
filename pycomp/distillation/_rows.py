"""What the row losses share: operands of any float type and shape, masks, weights, temperatures, reductions.

A loss is a kernel's, or a function of a chunk of rows in float64; what is around it is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from .._floats import narrowed, widened
from .._sums import total
from .._validate import FLOAT32, called, choice, contiguous, flag, fresh, from_lists, integer, plain, positive, rows
from ._double import Doubles

CHUNK = 1 << 18
"""Logits in float64 at a time, at most: 2 MB an array."""
FEW = 8
"""Rows at a time whose own cost, half a millisecond in NumPy, does not count."""
REDUCTIONS = ("batchmean", "mean", "sum", "none")
SQUARED = 1e-100, 1e100
"""The smallest and the largest temperature that is squared, which leaves room for weights."""
MOST_LABEL = 2**63 - 1
"""Labels of uint64 above it, which no class has, are taken for it."""
WITHIN = 1e-3
"""What a sum of given probabilities may be off 1, where the rounding of their type does not explain more."""

Labels = NDArray[np.int64]
RowLoss = Callable[[Doubles, Any, Doubles, Any], tuple[Doubles, Doubles]]
"""(student [b, V], teacher's part, temperature [b, 1], labels [b] or None) -> loss [b], gradient by the student.

It may write to its operands, and what it returns is written to."""
Loss = float | NDArray[np.float64]
Graded = tuple[Loss, NDArray[Any]]
Result = Loss | Graded


class Weighing(TypedDict, total=False):
    """Options that all row losses share, for their overloads."""

    mask: Any
    weights: Any
    reduction: str
    check_finite: bool


class Options(Weighing, total=False):
    temperature: Any
    scale_by_t2: bool


class Alone(Options, total=False):
    return_grad: Literal[False]


class WithGrad(Options):
    return_grad: Literal[True]


class Distance(IntEnum):
    """What the kernel ``divergence`` knows: pc_divergence of pycomp.h."""

    FORWARD_KL = 0
    REVERSE_KL = 1
    JSD = 2
    SKEW_KL = 3
    REVERSE_SKEW_KL = 4
    TOTAL_VARIATION = 5
    CROSS_ENTROPY = 6
    GIVEN_KL = 7
    BINARY_KL = 8
    SQUARED_LOGITS = 9


def as_floats(a: Any, name: str) -> NDArray[Any]:
    """``a`` as an array of float16, bfloat16, float32 or float64 in native byte order; never a copy."""
    if type(a) is np.ndarray and a.dtype is FLOAT32:
        return a
    array = a if type(a) is np.ndarray else plain(a, name, "floats")  # itself: out may be x
    known = (array.dtype.kind == "f" and array.dtype.itemsize <= 8) or array.dtype.name == "bfloat16"
    if not known or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {called(array.dtype)}, expected float32, float64, float16 or bfloat16")
    return array


def softmax(x: Doubles, temperature: Doubles) -> Doubles:
    p = np.empty(x.shape)
    dispatch.softmax_f64(x, temperature.reshape(-1), p)
    return p


def apart(distance: Distance, student: Doubles, teacher: Doubles, temperature: Doubles) -> tuple[Doubles, Doubles]:
    """A distance of the kernel, of rows, and its gradient by the student."""
    loss, grad = np.empty(len(student)), np.empty(student.shape)
    ones = np.ones(len(student))
    dispatch.divergence_grad_f64(student, teacher, distance, 0.0, temperature.reshape(-1), ones, loss, grad)
    return loss, grad


def product(p: Doubles, x: Doubles) -> Doubles:
    """``p·x``, and 0 where p is 0 whatever x."""
    return np.where(p == 0, 0.0, p * np.where(p == 0, 0.0, x))


def vector(a: Any, name: str, shape: tuple[int, ...], expected: str = "numbers") -> NDArray[Any]:
    """One for each row."""
    array = from_lists(a, name, expected)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array.reshape(-1)


def temperatures(temperature: Any, shape: tuple[int, ...]) -> Doubles:
    """One temperature a row, from a number or an array of the rows' shape."""
    given = from_lists(temperature, "temperature", "numbers")
    if not given.ndim and not (shape == () and isinstance(temperature, np.ndarray)):
        return np.full(math.prod(shape), positive(temperature, "temperature"))
    t = vector(as_floats(temperature, "temperature"), "temperature", shape).astype(np.float64)
    if not (np.isfinite(t) & (t > 0)).all():
        raise ValueError(f"temperature holds {t[~(np.isfinite(t) & (t > 0))][0]}, expected finite numbers above 0")
    return t


def squared(temperature: Any) -> Any:
    """T², by which losses are multiplied, of one or of each."""
    low, high = SQUARED
    far = np.ravel((temperature < low) | (temperature > high))
    if far.any():
        raise ValueError(f"temperature is {np.ravel(temperature)[far][0]}, expected {low} to {high} where its square "
                         "is a factor of the loss")
    return temperature * temperature


def counted(mask: Any, labels: Labels | None, ignore_index: int | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which rows count: those that the mask keeps and whose label is not ``ignore_index``."""
    count = math.prod(shape)
    kept = np.ones(count, np.bool_)
    if mask is not None:
        mask = vector(mask, "mask", shape, "bool")
        if mask.dtype != np.bool_:
            raise TypeError(f"mask has dtype {mask.dtype.name}, expected bool: True where a row counts")
        kept &= mask
    if ignore_index is not None:
        if labels is None:
            raise ValueError("ignore_index is given without labels")
        kept &= labels != integer(ignore_index, "ignore_index", -MOST_LABEL, MOST_LABEL)
    return kept


def row_weights(weights: Any, kept: NDArray[np.bool_], shape: tuple[int, ...], reduction: str) -> Doubles:
    """Weights of rows, 0 where none counts; where only their ratios matter, times a power of two, so that their sum is
    finite."""
    if weights is None:
        return np.ones(math.prod(shape))
    w = vector(as_floats(weights, "weights"), "weights", shape).astype(np.float64)
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError(f"weights holds {w[~(np.isfinite(w) & (w >= 0))][0]}, expected finite numbers of at least 0")
    w = np.where(kept, w, 0.0)
    with np.errstate(under="ignore"):
        return np.ldexp(w, -np.frexp(w.max(initial=0.0))[1]) if reduction == "mean" else w


def as_labels(labels: Any, shape: tuple[int, ...]) -> Labels:
    array = from_lists(labels, "labels", "integers")
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels has dtype {array.dtype.name}, expected integers")
    return as_int64(vector(array, "labels", shape))


def as_int64(a: NDArray[Any]) -> Labels:
    """Integers of any type, in C order; what is too large stays too large, where a cast would wrap."""
    return np.array(np.minimum(a, MOST_LABEL) if a.dtype == np.uint64 else a, np.int64, order="C")


def outside(bad: Any, classes: int) -> str:
    return f"{'2**63 - 1 or more' if bad == MOST_LABEL else bad}, expected 0 to {classes - 1}"


def check_labels(labels: Labels, kept: NDArray[np.bool_], classes: int) -> None:
    bad = labels[kept & ((labels < 0) | (labels >= classes))]
    if bad.size:
        raise ValueError(f"labels holds {outside(bad[0], classes)}")


def divisor(reduction: str, weights: Doubles, kept: NDArray[np.bool_]) -> float:
    """By what the sum of the rows' losses is divided; all rows masked: by 1, the sum being 0."""
    if reduction == "mean":
        return float(total(np.where(kept, weights, 0.0))) or 1.0
    return float(len(kept) or 1) if reduction == "batchmean" else 1.0


@dataclass(frozen=True)
class Rows:
    """The student's rows, and which of them count for how much."""

    logits: NDArray[Any]
    shape: tuple[int, ...]
    labels: Labels | None
    kept: NDArray[np.bool_]
    weights: Doubles
    divisor: float

    def scale(self, temperature: Doubles, scale_by_t2: bool) -> Doubles:
        """By what each row's distance is multiplied; 0 where it does not count."""
        square = squared(np.where(self.kept, temperature, 1.0)) if flag(scale_by_t2, "scale_by_t2") else 1.0
        scale: Doubles = self.weights * square / self.divisor
        return np.where(self.kept, scale, 0.0)


def prepared(
    student: NDArray[Any], *, labels: Any, mask: Any, weights: Any, ignore_index: int | None, reduction: str
) -> Rows:
    choice(reduction, "reduction", REDUCTIONS)
    if student.ndim == 0:
        raise ValueError("student has no dimensions, expected at least one")
    shape, classes = student.shape[:-1], student.shape[-1]
    known = None if labels is None else as_labels(labels, shape)
    kept = counted(mask, known, ignore_index, shape)
    w = row_weights(weights, kept, shape, reduction)
    by = divisor(reduction, w, kept)
    if weights is not None:
        kept &= w > 0
    if known is not None:
        check_labels(known, kept, classes)
    return Rows(student.reshape(math.prod(shape), classes), shape, known, kept, w, by)


def alike(student: NDArray[Any], other: Any, name: str) -> NDArray[Any]:
    """The other side's logits or probabilities as rows, of the student's shape."""
    array = as_floats(other, name)
    if array.shape != student.shape:
        raise ValueError(f"student has shape {student.shape}, {name} has {array.shape}")
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1]) if array.ndim else array


def check_not_empty(of: Rows, others: NDArray[Any], name: str) -> None:
    """Refuses rows that count and are -inf alone on either side."""
    for a, side in ((of.logits, "student"), (others, name)):
        if (empty := of.kept & (a == -np.inf).all(axis=1)).any():
            raise ValueError(f"{side} has a row of -inf alone: row {int(np.argmax(empty))}")


def finished(losses: Doubles, grad: NDArray[Any] | None, of: Rows, student: NDArray[Any], reduction: str) -> Result:
    result: Any = losses.reshape(of.shape) if reduction == "none" else float(total(losses))
    return result if grad is None else (result, grad.reshape(student.shape))


def by_kernel(
    name: str, of: Rows, others: Sequence[NDArray[Any]], operands: Callable[[slice], tuple[Any, ...]], *,
    check_finite: bool, return_grad: bool, stacked: bool = False, wide: Any = np.float64,
) -> tuple[Doubles, NDArray[Any] | None]:
    """A loss of the kernels ``name``, of all rows, and its gradient if asked for.

    ``others`` are what the kernel takes of the student's shape: a teacher's rows, or nothing, or several teachers'
    (``stacked``); ``operands`` gives what stands between these and its outputs, of some rows. Sides of half types, or
    of several, are computed with in ``wide``.
    """
    check_finite, return_grad = flag(check_finite, "check_finite"), flag(return_grad, "return_grad")
    sides = (of.logits, *others)
    count, classes = of.logits.shape
    losses, dtype = np.zeros(count), of.logits.dtype
    grad = fresh(of.logits.shape, dtype) if return_grad else None
    same = dtype in (np.float32, np.float64) and all(side.dtype == dtype for side in sides)
    wide = dtype if same else np.dtype(wide)
    width = "f32" if wide == FLOAT32 else "f64"
    kernel = getattr(dispatch, f"{name}_{width}" if grad is None else f"{name}_grad_{width}")
    step = max(count if same and not stacked else CHUNK // max(classes, 1), 1)
    for first in range(0, count, step):
        part = slice(first, first + step)
        given = [rows(widened(a[part], wide)) for a in sides]
        if stacked:
            given[1:] = [np.stack(given[1:], axis=1)]
        outputs = [losses[part]]
        if grad is not None:
            outputs.append(grad[part] if dtype == wide else np.empty(given[0].shape, wide))
        kernel(*given, *operands(part), *outputs)
        if grad is not None and dtype != wide:
            grad[part] = narrowed(outputs[1], dtype)
    if check_finite and np.isnan(losses).any():
        raise ValueError("student or teacher holds NaN or +inf")
    return losses, grad


def weighed(
    name: str, of: Rows, others: Sequence[NDArray[Any]], between: Callable[[slice], tuple[Any, ...]],
    student: NDArray[Any], *, temperature: Any, scale_by_t2: bool, reduction: str, check_finite: bool,
    return_grad: bool, stacked: bool = False,
) -> Result:
    """A loss of the kernels ``name``, whose last operands are a temperature and a scale of each row."""
    t = temperatures(temperature, of.shape)
    scale = of.scale(t, scale_by_t2)
    losses, grad = by_kernel(name, of, others, lambda part: (*between(part), t[part], scale[part]),
                             check_finite=check_finite, return_grad=return_grad, stacked=stacked)
    return finished(losses, grad, of, student, reduction)


def measured(
    distance: Distance, student: Any, teacher: Any, *, share: float = 0.0, factor: float = 1.0, temperature: Any,
    mask: Any, weights: Any, reduction: str, scale_by_t2: bool, check_finite: bool, return_grad: bool,
) -> Result:
    """``factor`` times a distance of the kernel over all rows, and its gradient if asked for."""
    name = "targets" if distance is Distance.CROSS_ENTROPY else "teacher"
    student = as_floats(student, "student")
    others = alike(student, teacher, name)
    of = prepared(student, labels=None, mask=mask, weights=weights, ignore_index=None, reduction=reduction)
    t = temperatures(temperature, of.shape)
    scale = of.scale(t, scale_by_t2) * factor
    losses, grad = by_kernel("divergence", of, [others], lambda part: (distance, share, t[part], scale[part]),
                             check_finite=check_finite, return_grad=return_grad)
    if distance is Distance.CROSS_ENTROPY and (losses == -np.inf).any():
        _off_one(of, others, t, scale, losses, grad)
    return finished(losses, grad, of, student, reduction)


def rounding(dtype: np.dtype[Any], count: int) -> float:
    """What the sum of ``count`` probabilities of this type may be off by their rounding alone.

    They come from arithmetic in float32 or float64, half types rounded once more: relative, but to multiples of
    2**-24 for small ones of float16.
    """
    arithmetic = (count + 8) * (2.0**-53 if dtype == np.float64 else 2.0**-24)
    if dtype.itemsize > 2:
        return arithmetic
    return arithmetic + (2.0**-11 + count * 2.0**-25 if dtype == np.float16 else 2.0**-8)


def _off_one(
    of: Rows, targets: NDArray[Any], temperature: Doubles, scale: Doubles, losses: Doubles, grad: NDArray[Any] | None
) -> None:
    """Rows whose targets the kernel refused: anew, as their sum times what it is for targets of sum 1, or an error."""
    refused, classes = np.flatnonzero(losses == -np.inf), targets.shape[1]
    step = max(CHUNK // max(classes, 1), 1)
    for part in (refused[first : first + step] for first in range(0, len(refused), step)):
        p = owned(targets[part])
        with np.errstate(invalid="ignore"):
            sums, wrong = total(p), ~(p >= 0).all(axis=1)
            off = ~(np.abs(sums - 1.0) <= max(WITHIN, rounding(targets.dtype, classes)))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError("targets has a negative or NaN entry, expected probabilities: row "
                             f"{part[i]} holds {p[i][~(p[i] >= 0)][0]}")
        if off.any():
            i = int(np.argmax(off))
            raise ValueError(f"targets has a row of sum {sums[i]}, expected probabilities of sum 1: row {part[i]}")
        some = replace(of, logits=of.logits[part])
        t, by = temperature[part], scale[part] * sums

        def operands(chosen: slice, t: Doubles = t, by: Doubles = by) -> tuple[Any, ...]:
            return Distance.CROSS_ENTROPY, 0.0, t[chosen], by[chosen]

        found, slopes = by_kernel("divergence", some, [p / sums[:, None]], operands, check_finite=False,
                                  return_grad=grad is not None)
        losses[part] = found
        if grad is not None:
            grad[part] = slopes


def owned(x: NDArray[Any]) -> Doubles:
    """Rows in float64, in C order, that may be written to."""
    return np.array(x, order="C") if x.dtype == np.float64 else contiguous(widened(x, np.float64))


def reduced(
    loss: RowLoss, student: Any, teacher: Any, *, temperature: Any, mask: Any, weights: Any, reduction: str,
    scale_by_t2: bool, check_finite: bool, return_grad: bool, labels: Any = None, ignore_index: int | None = None,
    teacher_rows: Callable[[Any], Any] | None = None, of: Rows | None = None,
) -> Result:
    """A loss in NumPy over all rows, and its gradient if asked for.

    ``teacher`` has the student's shape; with ``teacher_rows`` it is not looked at: that gives the teacher's part of
    rows by a slice or their indices. ``of`` is what :func:`prepared` gave, if it was asked before.
    """
    check_finite, return_grad = flag(check_finite, "check_finite"), flag(return_grad, "return_grad")
    student = as_floats(student, "student")
    if teacher_rows is None:
        others = alike(student, teacher, "teacher")

        def teacher_rows(chosen: Any) -> Doubles:
            return owned(others[chosen])

    of = of or prepared(student, labels=labels, mask=mask, weights=weights, ignore_index=ignore_index,
                        reduction=reduction)
    t = temperatures(temperature, of.shape)
    scale = of.scale(t, scale_by_t2)
    classes = of.logits.shape[1]
    losses = np.zeros(len(of.kept))
    grad = np.zeros(of.logits.shape, student.dtype) if return_grad else None
    step = max(1, min(CHUNK // max(classes, 1), max(CHUNK // 4 // max(classes, 1), FEW)))
    counting = np.flatnonzero(of.kept)
    for first in range(0, len(counting) if classes else 0, step):
        index = counting[first : first + step]
        chosen: Any = slice(first, first + step) if len(counting) == len(losses) else index
        s, other = owned(of.logits[chosen]), teacher_rows(chosen)
        sides = (s, *(a for a in (other if isinstance(other, tuple) else (other,)) if a.shape == s.shape))
        tops = [x.max(axis=1) for x in sides]
        unknown = np.any([~(top < np.inf) for top in tops], axis=0)
        fine = ~unknown & np.all([top > -np.inf for top in tops[: 1 if isinstance(other, tuple) else 2]], axis=0)
        if check_finite and unknown.any():
            raise ValueError("student or teacher holds NaN or +inf")
        if not fine.all():
            losses[index[unknown]] = np.nan
            if grad is not None:
                grad[index[unknown]] = np.nan
            if not fine.any():
                continue
            chosen, s = index[fine], s[fine]
            other = other[fine] if isinstance(other, np.ndarray) else tuple(a[fine] for a in other)
        with np.errstate(all="ignore"):
            value, slope = loss(s, other, t[chosen, None], None if of.labels is None else of.labels[chosen])
            losses[chosen] = value * scale[chosen]
            if grad is not None:
                slope *= scale[chosen, None]
                grad[chosen] = narrowed(slope, grad.dtype)
    return finished(losses, grad, of, student, reduction)
